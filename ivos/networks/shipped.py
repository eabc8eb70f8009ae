"""The weights that come with ivos, by name; each has a card beside it, NAME.md."""

import os
from pathlib import Path

from ivos.networks.checkpoint import CheckpointError

FOLDER = Path(__file__).parent / "weights"
UNTRAINED = "untrained"


def shipped_names() -> list[str]:
    """Return the names of the weights that come with ivos."""
    return sorted(path.stem for path in FOLDER.glob("*.pt"))


def weights_file(path_or_name: str | Path) -> Path:
    """Return the file of a checkpoint or of shipped weights; an existing file of that name comes first.

    Raises:
        CheckpointError: there is neither; the message lists the names of the shipped weights.
    """
    path = Path(path_or_name)
    shipped = FOLDER / f"{path_or_name}.pt"
    if not _is_name(path_or_name) or os.path.isfile(path):  # which takes names that are too long for a file
        return path
    if not os.path.isfile(shipped):
        names = ", ".join([*shipped_names(), UNTRAINED])
        raise CheckpointError(
            f"{path_or_name}: no such file, and no such weights come with ivos, but: {names}"
        )
    return shipped


def _is_name(path_or_name: str | Path) -> bool:
    return (
        isinstance(path_or_name, str) and Path(path_or_name).name == path_or_name and "." not in path_or_name
    )
