"""Files that are there either whole or not at all, whatever ends the process or the machine."""

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


_FULL = ("PytorchStreamWriter", "unexpected pos", "file write failed")  # PyTorch's words for a full disk


@contextlib.contextmanager
def named(path: str | Path, aside: Path | None = None) -> Iterator[None]:
    """Give errors of writing a file its name, which the system's have only where a file was opened.

    Args:
        path: of the file.
        aside: where it is written meanwhile.

    Raises:
        OSError: of what is written in the block, with the path.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) not in (Path(path), aside):
            raise
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _FULL):
            raise
        raise OSError(errno.EIO, " ".join(str(error).split())[:200], str(path)) from error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Replace a file as a whole: the block writes to a temporary file, which then takes its place.

    The content is on disk before the replacement, so that after a loss of power either the old file or the
    new one is there. If the block raises, the temporary file is removed and the old file stays.

    Args:
        path: the file to write; its folder has to exist.

    Yields:
        the temporary file, in the same folder and with the same suffix; its name begins with a dot.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    path = Path(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        with named(path, aside):
            yield aside
            _sync(aside)
            os.replace(aside, path)
            _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def clear(folder: str | Path, stem: str = "*", deep: bool = False) -> None:
    """Remove what killed writers left half written; for one who is alone with the files.

    Args:
        folder: of the files.
        stem: of their names, without the suffix; a pattern.
        deep: in the folders in there, too.
    """
    pattern = f".{stem}.*-????????.tmp*"
    for path in Path(folder).rglob(pattern) if deep else Path(folder).glob(pattern):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) so that it is there either whole or not at all; see :func:`replacing`."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_picture(path: str | Path, picture: "NDArray[np.uint8]") -> None:
    """Write a picture, BGR uint8 [h, w, 3], as OpenCV does, which only returns that it could not.

    Raises:
        OSError: it cannot be written, with its path.
    """
    import cv2

    _, content = cv2.imencode(Path(path).suffix, picture)
    with named(path):
        Path(path).write_bytes(content.tobytes())


def read_json(path: str | Path) -> Any:
    """Read a JSON file (UTF-8, with or without a byte-order mark).

    Raises:
        OSError: it cannot be read, or is no file (a pipe would be waited for).
        ValueError: it is not JSON in UTF-8, holds a number of more digits than Python reads, or has too many
            levels.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
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
