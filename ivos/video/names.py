"""Names of videos, which become names of folders and files of a run, and the lists of names in data sets."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ivos.runtime.errors import listing
from ivos.video.files import DataError, reason

# Longest name in bytes. File systems accept 255, and ivos adds prefixes and suffixes to a name.
MAX_BYTES = 200
_RULE = f"a name is one part of a path, of printable characters, at most {MAX_BYTES} bytes"


def name_fault(name: str) -> str | None:
    """Return the fault of the name of a video, or None if the name can be used.

    A name is a single component of a path (no slash of either kind, no dot in front), of printable
    characters, and short enough to become the name of a file with something before and after it.
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # lone surrogates, which a JSON file can contain
        return "contains a code that is not a character"
    if length > MAX_BYTES:
        return f"{length} bytes long; {_RULE}"
    if not name or name != name.strip() or name[0] == "." or set(name) & set("/\\") or not name.isprintable():
        return f"{name!r} is not possible as the name of a video; {_RULE}"
    return None


def read_list(path: Path) -> list[str]:
    """Read the names in a list, one per line, in UTF-8 with or without a byte-order mark.

    Raises:
        DataError: The list is unreadable, or a line is not possible as a name.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    named = [(number, line) for number, line in lines if line]
    faults = [f"line {number}: {fault}" for number, name in named if (fault := name_fault(name))]
    if faults:
        more = f" (and {len(faults) - 1} more lines)" if len(faults) > 1 else ""
        raise DataError(f"{path}, {faults[0]}{more}")
    return [name for _, name in named]


def select(lists: Path, split: str, what: str = "video") -> list[str]:
    """Read the list ``SPLIT.txt`` in a folder; without ``trainval.txt``, "trainval" joins train and val.

    Raises:
        DataError: The list does not exist, is empty, or cannot be used.
    """
    splits = {path.stem: [path] for path in sorted(lists.glob("*.txt")) if path.is_file()}
    if "train" in splits and "val" in splits:
        splits.setdefault("trainval", splits["train"] + splits["val"])
    if split not in splits:
        raise DataError(f"{lists} has no split {split!r}; it has: {listing(splits) or 'no lists (*.txt)'}")
    names = {name for path in splits[split] for name in read_list(path)}
    if not names:
        raise DataError(f"{lists}: split {split!r} lists no {what}")
    return sorted(names)


def keep(names: Sequence[str], wanted: Iterable[object] | str | None, where: str) -> list[str]:
    """Return the selected names, sorted; None selects all names.

    Args:
        names: All names.
        wanted: A name or several names to select; None for all.
        where: The data set, for messages.

    Raises:
        DataError: A selected name does not exist, or no name is selected.
    """
    if wanted is None:
        return list(names)
    chosen = {wanted} if isinstance(wanted, str) else set(map(str, wanted))
    unknown = sorted(chosen - set(names))
    if unknown or not chosen:
        what = f"no video {listing(unknown)}" if unknown else "no video selected"
        raise DataError(f"{where}: {what}; it has: {listing(names)}")
    return sorted(chosen)
