"""The program ``ivos-export``, which exports the networks of a checkpoint for programs without ivos."""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ivos.runtime.errors import UserError

FORMAT = 1  # version of the format of network.json
TOLERANCE = 1e-4
"""Largest difference between an exported part and PyTorch, relative to the output's largest magnitude."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser("ivos-export", description=__doc__)
    made.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="name of shipped weights, or a checkpoint file"
    )
    made.add_argument(
        "--format", choices=("onnx", "torch"), default="onnx",
        help="ONNX graphs (PART.onnx) or torch.export programs (PART.pt2)",
    )  # fmt: skip
    made.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder of the exported files; by default NAME-FORMAT"
    )
    return made


def main(arguments: list[str] | None = None) -> None:
    """Run the program; an error that the user can correct is printed in one line, with exit status 2."""
    options = parser().parse_args(arguments)
    try:
        folder = options.output or Path(f"{Path(options.checkpoint).stem}-{options.format}")
        for line in export(options.checkpoint, folder, options.format):
            print(line, flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def export(checkpoint: str | Path, folder: Path, format: str = "onnx") -> Iterator[str]:
    """Write the parts of a checkpoint's network to a folder.

    The folder gets its final name only when it is complete. Each exported part is run with inputs of another
    size, and its outputs are compared with those of PyTorch.

    Args:
        checkpoint: Name of shipped weights or a checkpoint file; see :func:`ivos.networks.load`.
        folder: Folder for PART.onnx or PART.pt2, and network.json.
        format: ``onnx`` or ``torch``.

    Yields:
        A line of text about each part.

    Raises:
        UserError: The checkpoint cannot be read, the folder exists, a package is missing, or the outputs of a
            part differ from those of PyTorch.
    """
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if not importlib.util.find_spec(name)]
    if format == "onnx" and missing:
        raise UserError(f'--format onnx needs {", ".join(missing)}: pip install "ivos[export]"')
    if folder.exists():
        raise UserError(f"{folder}: exists already; name another folder with --output")
    from ivos.export.parts import description, parts_of
    from ivos.networks import load

    network = load(checkpoint)
    write = _write_onnx if format == "onnx" else _write_torch
    unfinished = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    about: dict[str, Any] = {"format": FORMAT, **description(network), "parts": {}}
    for name, part in parts_of(network).items():
        file = unfinished / f"{name}.{'onnx' if format == 'onnx' else 'pt2'}"
        run = write(part, file)
        difference = _difference(part, run)
        if not difference <= TOLERANCE:
            raise UserError(f"{name}: the exported part differs from PyTorch by {difference:.1e}")
        about["parts"][name] = {"inputs": list(part.inputs), "outputs": list(part.outputs)}
        yield f"{folder / file.name}  {file.stat().st_size / 1e6:.1f} MB, difference {difference:.0e}"
    (unfinished / "network.json").write_text(json.dumps(about, indent=2))
    os.replace(unfinished, folder)


Run = Callable[[dict[str, Any]], list[Any]]


def _program(part: Any) -> Any:
    import torch

    return torch.export.export(
        part.module, (), kwargs=part.example(), dynamic_shapes=part.dynamic_shapes(), strict=False
    )


def _write_torch(part: Any, file: Path) -> Run:
    import torch

    torch.export.save(_program(part), file)
    module = torch.export.load(file).module()

    def run(inputs: dict[str, Any]) -> list[Any]:
        found = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return [one.detach().numpy() for one in (found if isinstance(found, list | tuple) else [found])]

    return run


def _write_onnx(part: Any, file: Path) -> Run:
    import onnxruntime
    import torch

    with contextlib.redirect_stdout(sys.stderr):
        made = torch.onnx.export(
            _program(part), (), dynamo=True, input_names=list(part.inputs), output_names=list(part.outputs),
            verbose=False,
        )  # fmt: skip
    assert made is not None
    made.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    return lambda inputs: session.run(None, {name: inputs[name] for name in inputs if name in taken})


def _difference(part: Any, run: Run) -> float:
    """Return the relative difference between a part and PyTorch for inputs of another size."""
    import torch

    inputs = part.other_example()
    with torch.no_grad():
        expected = part.module(**inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = run({name: value.numpy() for name, value in inputs.items()})
    return max(
        float(np.abs(one - other.numpy()).max() / max(1.0, float(other.abs().max())))
        for one, other in zip(found, expected, strict=True)
    )


if __name__ == "__main__":
    main()
