"""Atomic replacement of files, errors that name the file, and reading of JSON.

A file written with :func:`replacing` holds either its old or its new content, never a part of it, even if the
process is killed or the machine loses power.
"""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Parts of the RuntimeErrors that PyTorch raises when the disk is full.
_FULL = ("PytorchStreamWriter", "unexpected pos", "file write failed")


@contextlib.contextmanager
def named(path: str | Path, temporary: Path | None = None) -> Iterator[None]:
    """Add the path of a file to errors that are raised while the file is written in the ``with`` block.

    The operating system's errors carry a path only if opening the file failed, not if writing to it failed.

    Args:
        path: Path of the file that is written.
        temporary: Path of the temporary file that receives the content first, if there is one.

    Raises:
        OSError: Writing in the block failed; the error carries `path`.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) not in (Path(path), temporary):
            raise
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _FULL):
            raise
        raise OSError(errno.EIO, " ".join(str(error).split())[:200], str(path)) from error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Replace a file atomically: the ``with`` block writes a temporary file, which is then renamed to `path`.

    The content is flushed to disk before the rename, so that after a power failure either the old or the new
    file exists. If the block raises, the temporary file is removed and the old file stays.

    Args:
        path: Path of the file to replace; its folder has to exist.

    Yields:
        Path of the temporary file. It is in the same folder and has the same suffix; its name begins with a
        dot.

    Raises:
        OSError: The file cannot be written; the error carries `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        with named(path, temporary):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def clear(folder: str | Path, stem: str = "*", deep: bool = False) -> None:
    """Remove the temporary files that killed processes left behind in :func:`replacing`.

    Call this only while no other process writes to the folder: its temporary files would be removed, too.

    Args:
        folder: Folder of the replaced files.
        stem: Glob pattern for the names of the replaced files, without their suffix.
        deep: Whether to search subfolders, too.
    """
    pattern = f".{stem}.*-????????.tmp*"
    for path in Path(folder).rglob(pattern) if deep else Path(folder).glob(pattern):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) atomically; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_picture(path: str | Path, picture: "NDArray[np.uint8]") -> None:
    """Write a picture, BGR uint8 [h, w, 3], in the format that the suffix of the path names.

    Unlike ``cv2.imwrite``, which returns False if it fails, this function raises an error.

    Raises:
        OSError: The picture cannot be written; the error carries the path.
    """
    import cv2

    _, content = cv2.imencode(Path(path).suffix, picture)
    with named(path):
        Path(path).write_bytes(content.tobytes())


def read_json(path: str | Path) -> Any:
    """Read a JSON file (UTF-8, with or without a byte-order mark).

    Raises:
        OSError: The file cannot be read, or the path is not a regular file (reading a pipe could block).
        ValueError: The content is not JSON in UTF-8, holds a number with more digits than Python accepts, or
            is nested too deeply.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("too many levels") from None


def _sync(path: Path) -> None:
    """Flush the content of a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync folders
            raise
    finally:
        os.close(handle)
