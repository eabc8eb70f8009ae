"""Compilation of `correlation.cu` on the user's machine by NVRTC, and launches on PyTorch's current stream.

Only the packages `cuda-core` and `cuda-bindings` are needed besides PyTorch: the NVRTC library and the two
CUDA headers are part of PyTorch's CUDA wheels. Compiled kernels are cached in memory, and on disk for later
processes.
"""

import ctypes
import functools
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor

from ivos.runtime.files import replacing

log = logging.getLogger(__name__)
_PACKAGED = Path(__file__).with_name("correlation.cu")  # path in a wheel; in a checkout it is in kernels/
SOURCE = _PACKAGED if _PACKAGED.exists() else Path(__file__).parents[2] / "kernels" / "correlation.cu"
KERNELS = (
    "correlation",
    "correlation_gradient",
    "local_transfer",
    "local_transfer_target_gradient",
    "local_transfer_reference_gradient",
)
SCALARS = {torch.float32: "float", torch.float16: "__half", torch.bfloat16: "__nv_bfloat16"}

# Constants of correlation.cu.
PIXELS, GROUPS, ROWS, WINDOW, CORRELATED = 8, 4, 4, 9, 8
THREADS = GROUPS * WINDOW * ROWS


class ToolchainMissing(ImportError):
    """The error if cuda-core, NVRTC or the CUDA headers are missing; the message tells what to install."""


@functools.cache
def toolchain() -> tuple[ModuleType, str, str]:
    """Return the module cuda.core, the version of NVRTC, and the folder of the CUDA headers.

    Raises:
        ToolchainMissing: One of them is missing.
    """
    major = (torch.version.cuda or "13").split(".")[0]
    advice = f'install them with: pip install "cuda-core[cu{major}]"'
    try:
        import cuda.core
        from cuda import pathfinder
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise ToolchainMissing(
            f"the packages cuda-core and cuda-bindings are missing ({error}); {advice}"
        ) from error
    try:
        pathfinder.load_nvidia_dynamic_lib("nvrtc")
        status, *version = nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise ToolchainMissing(f"the NVRTC library is missing ({error}); {advice}") from error
    if int(status) != 0:
        raise ToolchainMissing(f"the NVRTC library does not answer ({status}); {advice}")
    headers = pathfinder.find_nvidia_header_directory("cudart")
    if headers is None:
        raise ToolchainMissing(f"the CUDA runtime headers (cuda_fp16.h, cuda_bf16.h) are missing; {advice}")
    return cuda.core, ".".join(map(str, version)), headers


def compile_cubin(
    arch: str, dtype: torch.dtype, name: str, messages: Any = None, verbose: bool = False
) -> bytes:
    """Compile a kernel for one architecture and element type; this does not need a GPU.

    Args:
        arch: Architecture, such as "sm_90".
        dtype: Element type: float32, float16 or bfloat16.
        name: Name of the kernel, one of KERNELS.
        messages: File-like object that receives the compiler's messages.
        verbose: Whether the messages include the use of registers and shared memory.

    Raises:
        ToolchainMissing: See `toolchain`.
        RuntimeError: NVRTC refuses the source or the architecture; the error contains its message.
    """
    core, _, headers = toolchain()
    options = core.ProgramOptions(
        std="c++17",
        arch=arch,
        define_macro=[("SCALAR", SCALARS[dtype]), (f"WITH_{name.upper()}", "1")],
        include_path=headers,
        ptxas_options="-v" if verbose else None,
    )
    try:
        return bytes(core.Program(SOURCE.read_text(), "c++", options).compile("cubin", logs=messages).code)
    except Exception as error:  # the class of cuda-core's error depends on its version
        raise RuntimeError(f"NVRTC cannot compile {name} for {arch}, {dtype}: {error}") from error


def cache_folder() -> Path:
    """Return the folder of compiled kernels: $IVOS_KERNEL_CACHE, or ivos/kernels in the user's cache."""
    chosen = os.environ.get("IVOS_KERNEL_CACHE")
    if chosen:
        return Path(chosen)
    return user_cache_path("ivos", appauthor=False) / "kernels"


def cached_cubin(arch: str, dtype: torch.dtype, name: str) -> bytes:
    """Return the result of `compile_cubin` from the cache on disk; if it is missing, compile and save it.

    The name of the file contains a hash of the source, kernel, architecture, type and version of NVRTC. If
    the folder cannot be read or written, the kernel is compiled without an error.
    """
    _, version, _ = toolchain()
    scalar = SCALARS[dtype]
    key = hashlib.sha256("\0".join([SOURCE.read_text(), name, arch, scalar, version]).encode()).hexdigest()
    path = cache_folder() / f"{name}-{arch}-{scalar.strip('_')}-{key[:24]}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        cubin = compile_cubin(arch, dtype, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:  # atomic, because several processes may compile at the same time
            temporary.write_bytes(cubin)
    except OSError as error:
        log.debug("compiled kernels cannot be saved: %s", error)
    return cubin


@functools.cache
def kernel(device: int, dtype: torch.dtype, name: str) -> Any:
    """Return a kernel by name, loaded for CUDA device number `device`."""
    major, minor = torch.cuda.get_device_capability(device)
    cubin = cached_cubin(f"sm_{major}{minor}", dtype, name)
    return toolchain()[0].ObjectCode.from_cubin(cubin).get_kernel(name)


class _CurrentStream:
    """PyTorch's current stream, with the interface that cuda-core expects."""

    def __init__(self, device: torch.device) -> None:
        self.pointer = torch.cuda.current_stream(device).cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def launch_on_gpu(
    name: str, dtype: torch.dtype, device: torch.device, blocks: int, arguments: list[Any]
) -> None:
    """Launch a kernel with THREADS threads per block; arguments are ctypes scalars and addresses (c_void_p).

    Raises:
        RuntimeError: The kernel cannot be loaded or launched; the error contains CUDA's message.
    """
    core = toolchain()[0]
    with torch.cuda.device(device):
        index = torch.cuda.current_device()
        # A thread in which PyTorch has not called CUDA yet, such as a thread of autograd, has no CUDA
        # context.
        core.Device(index).set_current()
        # cuda-core expects addresses as plain integers.
        values = [a.value or 0 if isinstance(a, ctypes.c_void_p) else a for a in arguments]
        try:
            function = kernel(index, dtype, name)
            core.launch(
                _CurrentStream(device), core.LaunchConfig(grid=blocks, block=THREADS), function, *values
            )
        except Exception as error:
            raise RuntimeError(f"CUDA kernel {name} ({dtype}) failed on {device}: {error}") from error


# The function that launches kernels. Tests replace it by one that runs the same source on the CPU.
launch: Callable[[str, torch.dtype, torch.device, int, list[Any]], None] = launch_on_gpu


def _runs(extent: int, step: int, count: int) -> int:
    """Return how many runs of `count` points with distance `step` cover an axis, as in correlation.cu."""
    return extent // (step * count) * step + min(step, extent % (step * count))


def _dense(features: Tensor) -> tuple[Tensor, int]:
    """Return features as a dense tensor, and their memory layout.

    Returns:
        The features, and their layout: 0 for contiguous, 1 for channels-last, 2 for channels-last with an
        alignment that allows the kernel to read vectors of channels.
    """
    if features.is_contiguous():
        return features, 0
    if features.is_contiguous(memory_format=torch.channels_last):
        aligned = features.shape[1] % CORRELATED == 0 and features.data_ptr() % 16 == 0
        return features, 2 if aligned else 1
    return features.contiguous(), 0


def _features(features: Tensor) -> tuple[Tensor, ctypes.c_int]:
    dense, last = _dense(features)
    return dense, ctypes.c_int(last)


def _run(name: str, like: Tensor, arguments: list[Any], radius: int, dilation: int) -> None:
    """Launch a kernel over all pixels of `like` [B, C, h, w]; its shape is appended to the arguments."""
    batch, channels, height, width = like.shape
    blocks = batch * _runs(height, dilation, ROWS) * -(-_runs(width, dilation, PIXELS) // GROUPS)
    if blocks == 0:
        return
    if height * width >= 2**31 or blocks >= 2**31:
        raise ValueError(
            f"target: {height} x {width} pixels in a batch of {batch} exceed the index range of one launch"
        )
    values = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    values = [ctypes.c_void_p(None) if a is None else a for a in values]
    shape = [ctypes.c_int(n) for n in (channels, height, width, radius, dilation)]
    launch(name, like.dtype, like.device, blocks, values + shape)


def _widened(radius: int, dtype: torch.dtype) -> bool:
    """Return whether the output must be float32, because several blocks of a window are accumulated in it."""
    return 2 * radius + 1 > WINDOW and dtype != torch.float32


def correlation(target: Tensor, reference: Tensor, radius: int, dilation: int) -> Tensor:
    """Return the correlation [B, side^2, h, w], contiguous; see `ivos.kernels.correlation`."""
    batch, _, height, width = target.shape
    volume = target.new_empty((batch, (2 * radius + 1) ** 2, height, width))
    centre, displaced = _features(target), _features(reference)
    _run("correlation", target, [*centre, *displaced, volume], radius, dilation)
    return volume


def correlation_gradient(
    grad: Tensor, displaced: Tensor, transposed: bool, radius: int, dilation: int
) -> Tensor:
    """Gradient of the target (`displaced`: the reference) or, `transposed`, of the reference (the target)."""
    if _widened(radius, displaced.dtype):
        wide = correlation_gradient(grad.float(), displaced.float(), transposed, radius, dilation)
        return wide.to(displaced.dtype)
    out = torch.empty_like(displaced, memory_format=torch.contiguous_format)
    arguments = [grad.contiguous(), *_features(displaced), out, ctypes.c_int(transposed)]
    _run("correlation_gradient", displaced, arguments, radius, dilation)
    return out


def local_transfer(
    target: Tensor, reference: Tensor, mask: Tensor, radius: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """Return the moved masks [B, N, h, w] and the log-sum-exp [B, h, w], both float32."""
    batch, masks, height, width = mask.shape
    moved = mask.new_empty(mask.shape, dtype=torch.float32)
    log_sum = mask.new_empty((batch, height, width), dtype=torch.float32)
    arguments = [
        *_features(target),
        *_features(reference),
        mask.contiguous(),
        moved,
        log_sum,
        ctypes.c_int(masks),
    ]
    _run("local_transfer", target, arguments, radius, dilation)
    return moved, log_sum


def local_transfer_gradient(
    grad: Tensor,
    target: Tensor,
    reference: Tensor,
    mask: Tensor,
    moved: Tensor,
    log_sum: Tensor,
    needs: tuple[bool, bool],
    radius: int,
    dilation: int,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of target, reference and mask; `needs`: of the features, of the mask. None: not needed."""
    if _widened(radius, target.dtype):
        a, b, c, d = (x.float() for x in (grad, target, reference, mask))
        grads = local_transfer_gradient(a, b, c, d, moved, log_sum, needs, radius, dilation)
        return tuple(None if x is None else x.to(target.dtype) for x in grads)  # type: ignore[return-value]
    grad, mask = grad.contiguous(), mask.contiguous()
    delta = (grad.float() * moved).sum(1)
    shared = [*_features(target), *_features(reference), mask, grad, log_sum, delta]
    of_target, of_reference = (
        torch.empty_like(x, memory_format=torch.contiguous_format) if needs[0] else None
        for x in (target, reference)
    )
    of_mask = torch.empty_like(moved) if needs[1] else None
    masks = ctypes.c_int(mask.shape[1])
    if needs[0]:
        _run("local_transfer_target_gradient", target, [*shared, of_target, masks], radius, dilation)
    arguments = [*shared, of_reference, of_mask, masks]
    _run("local_transfer_reference_gradient", reference, arguments, radius, dilation)
    return of_target, of_reference, None if of_mask is None else of_mask.to(mask.dtype)
