"""The weights that come with ivos, called by their names; NAME.md is the model card of NAME.safetensors."""

import os
from pathlib import Path

from ivos.networks.checkpoint import SAFETENSORS, CheckpointError

FOLDER = Path(__file__).parent / "weights"
UNTRAINED = "untrained"


def shipped_names() -> list[str]:
    """Return the names of the weights that come with ivos."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SAFETENSORS}"))


def weights_file(path_or_name: str | Path) -> Path:
    """Return the path of a checkpoint or of shipped weights; an existing file of that name is preferred.

    Raises:
        CheckpointError: Neither exists; the message lists the names of the shipped weights.
    """
    path = Path(path_or_name)
    shipped = FOLDER / f"{path_or_name}{SAFETENSORS}"
    if not _is_name(path_or_name) or os.path.isfile(path):  # unlike Path.is_file, it accepts too long names
        return path
    if not os.path.isfile(shipped):
        names = ", ".join([*shipped_names(), UNTRAINED])
        raise CheckpointError(
            f"{path_or_name}: no such file, and not the name of shipped weights, which are: {names}"
        )
    return shipped


def _is_name(path_or_name: str | Path) -> bool:
    return (
        isinstance(path_or_name, str) and Path(path_or_name).name == path_or_name and "." not in path_or_name
    )
