"""Files that are there either whole or not at all, whatever ends the process or the machine."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


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
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) so that it is there either whole or not at all; see :func:`replacing`."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


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
