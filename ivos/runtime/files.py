"""Files that are there either whole or not at all, whatever ends the process or the machine."""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written takes its place when the block ends.

    It is on disk before it does, so that after a loss of power either the old file or the new one is there.
    If the block raises, nothing is left of the new one and the old one stays.

    Args:
        path: of the file to write; its folder has to be there.

    Yields:
        where to write, in the same folder and with the same suffix; its name begins with a dot.
    """
    path = Path(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield aside
        _sync(aside)
        os.replace(aside, path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is None or Path(error.filename) == aside:  # say which file it is about
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) so that it is there either whole or not at all; see :func:`replacing`."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """What a JSON file (UTF-8) holds.

    Raises:
        OSError: it cannot be read, or is no file (a pipe would be waited for).
        ValueError: it is not JSON in UTF-8, holds a number of more digits than Python reads, or has too many
            levels.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("too many levels") from None


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's entries, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync folders
            raise
    finally:
        os.close(handle)
