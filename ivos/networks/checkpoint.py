"""Reading and checking checkpoint files, and the parameter names of the authors' released checkpoint."""

import argparse
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ivos.runtime.errors import UserError

# Pairs (name in ivos, released name) of parameter name prefixes. The first matching pair is used, in either
# direction.
_NAMES = [
    ("anet.encoder.stem_bn.", "encoder_6ch.bn1."),
    ("anet.encoder.stem.", "encoder_6ch.conv0_6ch."),
    ("anet.encoder.stages.", "encoder_6ch.res"),
    ("tnet.encoder.stem_bn.", "encoder_3ch.bn1."),
    ("tnet.encoder.stem.", "encoder_3ch.conv0_3ch."),
    ("tnet.encoder.stages.", "encoder_3ch.res"),
    ("anet.converter.fuse.", "indicator_encoder.conv1x1."),
    ("anet.converter.blocks.0.", "indicator_encoder.block1."),
    ("anet.converter.blocks.1.", "indicator_encoder.block2."),
    ("anet.decoder.", "decoder_iact."),
    ("tnet.decoder.", "decoder_prop."),
    ("tnet.local_projection.", "prev_conv1x1."),
    ("tnet.fuse.", "conv1x1."),
]
_PARTS = [
    (".squeeze.", ".conv_down."),
    (".excite.", ".conv_up."),
    (".shortcut.", ".downsample."),
    (".aspp.image_pool.0.", ".aspp_decoder.global_avg_pool.1."),
    (".aspp.image_pool.1.", ".aspp_decoder.global_avg_pool.2."),
    (".aspp.project.0.", ".aspp_decoder.conv1."),
    (".aspp.project.1.", ".aspp_decoder.bn1."),
    *(
        (f".aspp.branches.{i}.{j}.", f".aspp_decoder.aspp{i + 1}.{name}.")
        for i in range(4)
        for j, name in enumerate(("atrous_conv", "bn"))
    ),
    *((f".reduce.{i}.", f".convG{i}.") for i in range(3)),
    *((f".refine{i}.skip_in.", f".RF{i}.convFS1.") for i in (2, 3)),
    *((f".refine{i}.skip1.", f".RF{i}.convFS2.") for i in (2, 3)),
    *((f".refine{i}.skip2.", f".RF{i}.convFS3.") for i in (2, 3)),
    *((f".refine{i}.merge{j}.", f".RF{i}.convMM{j}.") for i in (2, 3) for j in (1, 2)),
    (".head.", ".lastconv."),
]


class CheckpointError(UserError):
    """An unusable checkpoint; the message names the file, the reason and the keys concerned."""


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file's dictionary onto the CPU; only tensors and plain values are accepted.

    Safetensors files are recognised by their content. Their metadata entry ``ivos`` becomes the entry
    ``ivos`` of the dictionary, as in the PyTorch checkpoints that ivos writes.

    Raises:
        CheckpointError: The file does not exist or is not a checkpoint; the message is one line with its
            name.
    """
    try:
        exists, is_file = Path(path).exists(), Path(path).is_file()
    except (OSError, ValueError) as error:  # the name is invalid, such as one that is too long
        raise CheckpointError(f"{path}: no such file ({getattr(error, 'strerror', error)})") from error
    if not is_file:  # reading a named pipe would block
        raise CheckpointError(f"{path}: not a file" if exists else f"{path}: no such file")
    if (other := _other_content(path)) is not None:
        raise CheckpointError(f"{path}: not a checkpoint but {other}")
    if _is_safetensors(path):
        return _read_safetensors(path)
    try:
        _check_sums(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_plain_types()):
            warnings.simplefilter("ignore")  # PyTorch warns about sparse tensors, which are refused later
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not a readable PyTorch checkpoint (damaged, or it holds more than tensors and values)"
        ) from error
    except Exception as error:  # a damaged file can cause any kind of error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: not a readable PyTorch checkpoint ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint's dictionary")
    return content


SAFETENSORS = ".safetensors"  # file name suffix of the safetensors format
COUNTER = ".num_batches_tracked"  # batch norm buffer that inference ignores and PyTorch < 0.4.1 did not save


def _is_safetensors(path: str | Path) -> bool:
    """Return whether a file is in safetensors format: it starts with the length of a JSON header."""
    if Path(path).suffix == SAFETENSORS:
        return True
    with open(path, "rb") as file:
        begin = file.read(9)
    return begin[8:] == b"{" and int.from_bytes(begin[:8], "little") < os.path.getsize(path)


def _read_safetensors(path: str | Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = (file.metadata() or {}).get("ivos")
        return state if about is None else {"ivos": json.loads(about), "state_dict": state}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def write_safetensors(path: str | Path, about: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write weights in safetensors format; ``about`` is stored in the metadata as JSON."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, path, metadata={"format": "pt", "ivos": json.dumps(about)})


def _other_content(path: str | Path) -> str | None:
    """Describe a file that users often save by mistake instead of a checkpoint; None for any other file."""
    with open(path, "rb") as file:
        begin = file.read(512).lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the file itself with: git lfs pull"
    if begin.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page; download the file itself"
    return None


def _plain_types() -> list[Any]:
    """Return the harmless types that checkpoints contain besides tensors: NumPy values and Namespace."""
    array: Any = import_module("numpy._core.multiarray")
    made = [(getattr(array, name), f"numpy.core.multiarray.{name}") for name in ("scalar", "_reconstruct")]
    kinds = [type(np.dtype(code)) for code in "?bhilqBHILQefdSU"]
    return [np.dtype, np.ndarray, array.scalar, array._reconstruct, *made, *kinds, argparse.Namespace]


def unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state dict in a checkpoint's dictionary, without wrappers and prefixes.

    The weights may be the dictionary itself or its entry ``state_dict``, ``model``, ``network`` or ``net``;
    prefixes of DataParallel (``module.``) and of ``torch.compile`` (``_orig_mod.``) are removed.
    """
    for name in ("state_dict", "model_state_dict", "model", "network", "net"):
        inner = content.get(name)
        if isinstance(inner, Mapping) and inner and all(isinstance(key, str) for key in inner):
            return unwrapped(inner)
    return strip_wrappers(content)


def _check_sums(path: str | Path) -> None:
    """Verify the checksums of a PyTorch file, which PyTorch itself does not verify.

    Raises:
        ValueError: A part of the file does not match its checksum.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if (damaged := parts.testzip()) is not None:
                raise ValueError(f"damaged: {damaged}")


def to_released_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an ivos state dict to the authors' names; the tensors are not copied."""
    return {_to_released(key): value for key, value in state.items()}


def from_released_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a released state dict to the names of ivos; unknown names are kept."""
    return {_from_released(key): value for key, value in state.items()}


def strip_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict without the prefixes of DataParallel and of ``torch.compile``."""
    return {_WRAPPERS.sub("", key): value for key, value in state.items()}


_WRAPPERS = re.compile(r"\b(module|_orig_mod)\.")


def check_state(state: Mapping[str, Any], expected: Mapping[str, Tensor], headline: str) -> None:
    """Compare a state dict with the keys and shapes that a network needs, and check its values.

    Raises:
        CheckpointError: The state dict does not fit. The message is the headline and lists each key that is
            missing, unknown or of the wrong shape, and each whose tensor is not dense, has the wrong data
            type, or holds a value that is not finite or a negative variance.
    """
    comparable = {key: value for key, value in state.items() if key in expected and _is_dense(value)}
    problems = {
        "missing": [key for key in expected if key not in state and not key.endswith(COUNTER)],
        "unknown": [key for key in state if key not in expected],
        "of the wrong shape": [
            f"{key} {_shape(state[key])} instead of {_shape(value)}"
            for key, value in expected.items()
            if key in state and _shape(state[key]) != _shape(value)
        ],
        "not dense": [key for key in state if isinstance(state[key], Tensor) and not _is_dense(state[key])],
        "of the wrong data type": [
            f"{key} ({value.dtype})"
            for key, value in comparable.items()
            if value.is_floating_point() != expected[key].is_floating_point()
        ],
        "not finite": [
            key
            for key, value in comparable.items()
            if value.is_floating_point() and not bool(torch.isfinite(value.float()).all())
        ],
        "negative variances": [
            key
            for key, value in comparable.items()
            if key.endswith("running_var") and value.is_floating_point() and bool((value.float() < 0).any())
        ],
    }
    lines = [f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
    if lines:
        raise CheckpointError("\n  ".join([f"{headline}:", *lines]))


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"({type(value).__name__})"


def _to_released(key: str) -> str:
    for ours, theirs in _NAMES:
        if key.startswith(ours):
            key = theirs + key.removeprefix(ours)
            break
    for ours, theirs in _PARTS:
        key = key.replace(ours, theirs)
    return re.sub(r"\.res(\d)\.", lambda found: f".res{int(found[1]) + 2}.", key)  # stage 0 is res2


def _from_released(key: str) -> str:
    key = re.sub(r"^(encoder_[36]ch)\.res(\d)\.", lambda found: f"{found[1]}.res{int(found[2]) - 2}.", key)
    for ours, theirs in _PARTS:
        key = key.replace(theirs, ours)
    for ours, theirs in _NAMES:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
