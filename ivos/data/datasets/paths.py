"""Where data sets are: by default in the folder ``data`` of the working folder, or of the checkout."""

from collections.abc import Iterable
from pathlib import Path

from ivos.video.files import DataError

CHECKOUT = Path(__file__).parents[2]  # elsewhere for an installed package, with no such folder in it


def folder_of(name: str, named: str | Path | None, option: str) -> Path:
    """Return the folder of a data set: the one that is named, or the default place.

    Args:
        name: of the set and of its folder within ``data``.
        named: the user's choice; None for the default place.
        option: how the user names a folder, for the message.

    Raises:
        DataError: nothing is named, and the set is not in its default place.
    """
    if named is not None and not str(named):
        raise DataError(f"{name}: an empty name for its folder ({option}, data.root); name one, or none")
    if named is not None:
        return Path(named)
    places = [Path("data", name), CHECKOUT / "data" / name]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(
            f"{name}: not in its default place, {places[0]}; "
            f"name its folder by {option}=FOLDER (evaluate.py: data.root=FOLDER)"
        )
    return found


def require(root: Path, wanted: Iterable[Path], layout: str, hint: str = "") -> None:
    """Refuse a data set of which parts are not there.

    Args:
        root: of the set.
        wanted: its parts: folders, and files where the name has a suffix.
        layout: what the root should be, as the message says it.
        hint: what else to say.

    Raises:
        DataError: the parts that are missing, relative to the root.
    """
    missing = [path for path in wanted if not (path.is_file() if path.suffix else path.is_dir())]
    if missing:
        parts = [str(path.relative_to(root)) for path in missing]
        raise DataError(f"{root} is not {layout}{hint}; missing:", parts)
