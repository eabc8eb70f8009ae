"""The journal: one line of JSON for each event, on disk before the event is acknowledged."""

import json
import os
import time
from pathlib import Path
from typing import Any

from ivos.runtime.errors import UserError
from ivos.runtime.machine import write_at

Line = dict[str, Any]


class JournalError(UserError):
    """The journal cannot be read or written; the message names the file and the remedy."""


class Journal:
    """A journal that is read and then continued.

    A last line that was not complete when the server was killed is dropped, because it was never
    acknowledged. Any other line that cannot be read is an error, because the lines after it depend on it.

    Args:
        path: the file; it is created where it does not exist.

    Attributes:
        lines: the events that the file held, in order.
        dropped: the number of bytes of the incomplete last line.

    Raises:
        JournalError: a line in the middle cannot be read, or the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = path.read_bytes() if path.exists() else b""
            self.lines, self._size = _parse(path, content)
            self.dropped = len(content) - self._size
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.ftruncate(self._handle, self._size)
            os.fsync(self._handle)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}; the journal has to be writable") from error

    def append(self, *events: Line) -> None:
        """Write events, all of them or none; they are on disk when this returns.

        Raises:
            JournalError: the disk is full or the file cannot be written; none of them is in the file.
        """
        stamped = ({"time": round(time.time(), 3), **event} for event in events)
        data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in stamped)
        try:
            written = 0
            while written < len(data):
                written += write_at(self._handle, data[written:], self._size + written)
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, self._size)
            raise JournalError(
                f"{self.path}: {error.strerror}; nothing was lost, make room and try again"
            ) from error
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_lines(path: Path) -> list[Line]:
    """Return the events of a journal that another process may be writing.

    Raises:
        JournalError: a line cannot be read, or the file does not exist.
    """
    try:
        return _parse(path, path.read_bytes())[0]
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from error


def _parse(path: Path, content: bytes) -> tuple[list[Line], int]:
    """Return the events, and the number of bytes of the content that they take."""
    lines: list[Line] = []
    good, end = 0, 0
    for number, raw in enumerate(content.split(b"\n")[:-1], start=1):
        end += len(raw) + 1
        try:
            line = json.loads(raw)
            if not isinstance(line, dict) or not isinstance(line.get("type"), str):
                raise ValueError("no event")
        except (ValueError, RecursionError) as error:
            if end == len(content):  # the last line: of an interrupted write only the end may be on disk
                break
            raise JournalError(
                f"{path}: line {number} cannot be read ({error}); restore it or move the folder away"
            ) from error
        lines.append(line)
        good = end
    return lines, good
