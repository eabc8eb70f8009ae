"""Locations of data sets: by default the folder ``data`` in the working directory or in the checkout."""

from collections.abc import Iterable
from pathlib import Path

from ivos.video.files import DataError

CHECKOUT = Path(__file__).parents[2]  # for an installed package, a folder without `data`


def folder_of(name: str, named: str | Path | None, option: str) -> Path:
    """Return the folder of a data set: the named folder, or the default location.

    Args:
        name: Name of the data set and of its folder in ``data``.
        named: Folder that the user has named; None uses the default location.
        option: Option with which the user names the folder, for the error message.

    Raises:
        DataError: No folder is named, and the data set is not in its default location.
    """
    if named is not None and not str(named):
        raise DataError(f"{name}: the name of its folder is empty ({option}, data.root); set or omit it")
    if named is not None:
        return Path(named)
    places = [Path("data", name), CHECKOUT / "data" / name]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(
            f"{name}: not in its default location, {places[0]}; "
            f"name its folder by {option}=FOLDER (evaluate.py: data.root=FOLDER)"
        )
    return found


def require(root: Path, wanted: Iterable[Path], layout: str, hint: str = "") -> None:
    """Check that the parts of a data set exist.

    Args:
        root: Folder of the data set.
        wanted: Required folders, and files (names with a suffix).
        layout: Description of the expected layout, for the error message.
        hint: Additional text for the error message.

    Raises:
        DataError: Parts are missing; the message lists them relative to the root.
    """
    missing = [path for path in wanted if not (path.is_file() if path.suffix else path.is_dir())]
    if missing:
        parts = [str(path.relative_to(root)) for path in missing]
        raise DataError(f"{root} is not {layout}{hint}; missing:", parts)
