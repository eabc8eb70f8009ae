"""The journal: one line of JSON for each event, which is flushed to disk before the event is acknowledged."""

import json
import os
import time
from pathlib import Path
from typing import Any

from ivos.runtime.errors import UserError
from ivos.runtime.machine import write_at

Line = dict[str, Any]


class JournalError(UserError):
    """The error for a journal that cannot be read or written; the message names the file and the remedy."""


class Journal:
    """A journal file, which is read and then extended.

    An incomplete last line, left by a server that was killed, is removed, because its event was never
    acknowledged. Any other unreadable line is an error, because the lines after it depend on it.

    Args:
        path: Path of the file, which is created if it does not exist.

    Attributes:
        lines: The events in the file when it was opened, in order.
        dropped: Number of bytes of the incomplete last line.

    Raises:
        JournalError: A line other than the last is unreadable, or the file cannot be opened.
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
        """Write all given events, or none of them, and flush the file to disk.

        Raises:
            JournalError: The disk is full or the file cannot be written; none of the events is in the file.
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
                f"{self.path}: {error.strerror}; nothing was lost, free disk space and try again"
            ) from error
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_lines(path: Path) -> list[Line]:
    """Return the events of a journal that another process may be writing.

    Raises:
        JournalError: A line cannot be read, or the file does not exist.
    """
    try:
        return _parse(path, path.read_bytes())[0]
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from error


def _parse(path: Path, content: bytes) -> tuple[list[Line], int]:
    """Return the events in the content of a journal, and the number of bytes up to the last valid event."""
    lines: list[Line] = []
    good, end = 0, 0
    for number, raw in enumerate(content.split(b"\n")[:-1], start=1):
        end += len(raw) + 1
        try:
            line = json.loads(raw)
            if not isinstance(line, dict) or not isinstance(line.get("type"), str):
                raise ValueError("not an event")
        except (ValueError, RecursionError) as error:
            if end == len(content):  # the last line may be damaged after an interrupted write
                break
            raise JournalError(
                f"{path}: line {number} cannot be read ({error}); restore it or move the folder away"
            ) from error
        lines.append(line)
        good = end
    return lines, good
