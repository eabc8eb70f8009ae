"""The messages between page and server: checked messages of the page, and the binary encoding of masks."""

import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ivos.runtime.errors import UserError

MAX_MESSAGE = 1 << 20  # most bytes of a message
MAX_POINTS = 20_000  # most points of a stroke
MAX_RUNS = 120_000  # most numbers in the run lengths of an edit
MAX_NAME = 80  # most letters of an object's name

MASK, PREVIEW = 0, 1  # kinds of binary messages
_HEADER = struct.Struct("<BBHIIIIHH")
_VERSION = 1
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_BASE = re.compile(r"[A-Za-z0-9_-]{1,64}|preview:[0-9]{1,12}")


Checks = Mapping[str, Callable[[Any], Any]]
"""Functions by field names, each of which returns the checked value or raises :class:`MessageError`."""


class MessageError(UserError):
    """The error for an invalid message; its text describes what is wrong."""


def _number(low: float, high: float = math.inf) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
            raise MessageError(f"a number is needed, got {_short(value)}")
        if not low <= value <= high:
            raise MessageError(f"a number from {low:g} to {high:g} is needed, got {value:g}")
        return float(value)

    return check


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise MessageError(f"a whole number is needed, got {_short(value)}")
        if not low <= value <= high:
            raise MessageError(f"a whole number from {low} to {high} is needed, got {_short(value)}")
        return value

    return check


def _text(pattern: re.Pattern[str] | None = None) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise MessageError(f"a text is needed, got {_short(value)}")
        if pattern is not None and not pattern.fullmatch(value):
            raise MessageError(f"{_short(value)} is not of the form {pattern.pattern}")
        return value

    return check


def _name(value: Any) -> str:
    name = " ".join(_text()(value).split())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise MessageError(f"a name must have 1 to {MAX_NAME} printable letters")
    return name


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise MessageError(f"true or false is needed, got {_short(value)}")
    return value


def _path(value: Any) -> list[list[float]]:
    if not isinstance(value, list) or not value:
        raise MessageError("a list of points is needed")
    if len(value) > MAX_POINTS:
        raise MessageError(f"{len(value)} points are too many; a stroke can have at most {MAX_POINTS}")
    share = _number(0, 1)
    points = []
    for index, point in enumerate(value):
        if not isinstance(point, list) or len(point) != 2:
            raise MessageError(f"point {index} is {_short(point)}; [x, y] is needed")
        try:
            points.append([round(share(each), 6) for each in point])
        except MessageError as error:
            raise MessageError(f"point {index} is not inside the frame: {error}") from error
    return points


def _runs(value: Any) -> list[int]:
    if not isinstance(value, list) or not value or len(value) % 2:
        raise MessageError("a list with alternating numbers of skipped and drawn pixels is needed")
    if len(value) > MAX_RUNS:
        raise MessageError(f"{len(value)} numbers are too many; an edit can have at most {MAX_RUNS}")
    check = _whole(0, 2**31)
    return [check(each) for each in value]


def _base(value: Any) -> int | str:
    return _text(_BASE)(value) if isinstance(value, str) else _whole(0, 10**7)(value)


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise MessageError(f"{_short(value)} is not one of {', '.join(names)}")
        return str(value)

    return check


_FRAME = _whole(0, 10**7)
_OBJECT = _whole(1, 254)
_TIME = _number(0)


@dataclass(frozen=True)
class Message:
    """A message of a page; its acknowledgement repeats `seq`."""

    seq: int
    CHECKS: ClassVar[Checks] = {}


@dataclass(frozen=True)
class Hello(Message):
    """The first message of a connection.

    Attributes:
        page: Name that the server gave to this page at an earlier connection, or an empty string.
    """

    page: str = ""
    CHECKS: ClassVar[Checks] = {"page": _text(re.compile(r"[A-Za-z0-9_-]{0,64}"))}


@dataclass(frozen=True)
class DrawStroke(Message):
    """A stroke in the DAVIS format, or a box around an object.

    Attributes:
        id: Identifier, chosen by the page.
        frame: Frame on which the stroke was drawn.
        path: Points [x, y] in relative coordinates from 0 to 1; two opposite corners if it is a box.
        object_id: Number of the object, 1..N, or 0 for the background.
        start_time: Time of the first point in milliseconds.
        end_time: Time of the last point in milliseconds.
        box: Whether `path` is a box.
        of: Number of the object that was selected while a stroke of the background was drawn.
    """

    id: str
    frame: int
    path: list[list[float]]
    object_id: int
    start_time: float = 0
    end_time: float = 0
    box: bool = False
    of: int = 0
    CHECKS: ClassVar[Checks] = {
        "id": _text(_ID),
        "frame": _FRAME,
        "path": _path,
        "object_id": _whole(0, 254),
        "start_time": _TIME,
        "end_time": _TIME,
        "box": _flag,
        "of": _whole(0, 254),
    }


@dataclass(frozen=True)
class Undo(Message):
    """A request to undo the latest action."""


@dataclass(frozen=True)
class Redo(Message):
    """A request to redo the action that was undone last."""


@dataclass(frozen=True)
class UndoRound(Message):
    """A request to undo the latest round."""


@dataclass(frozen=True)
class Propagate(Message):
    """A request to begin a round with the pending annotations of a frame.

    Attributes:
        frame: The annotated frame.
        lo: First frame to which to propagate; None for no limit.
        hi: Last frame to which to propagate; None for no limit.
    """

    frame: int
    lo: int | None = None
    hi: int | None = None
    CHECKS: ClassVar[Checks] = {"frame": _FRAME, "lo": _FRAME, "hi": _FRAME}


@dataclass(frozen=True)
class DrawEdit(Message):
    """An edit: pixels of a frame that get a label.

    Attributes:
        id: Identifier, chosen by the page.
        frame: Frame of the edit.
        label: Number of an object, or 0 for the background.
        runs: Alternating numbers of skipped and drawn pixels, row by row.
        base: The mask over which the user has drawn: a round, an edit, or ``preview:NUMBER``.
    """

    id: str
    frame: int
    label: int
    runs: list[int]
    base: int | str
    CHECKS: ClassVar[Checks] = {
        "id": _text(_ID),
        "frame": _FRAME,
        "label": _whole(0, 254),
        "runs": _runs,
        "base": _base,
    }


@dataclass(frozen=True)
class Lock(Message):
    """A request to lock or unlock frames, or an object on them; object 0 stands for the whole frame."""

    lo: int
    hi: int
    locked: bool
    object: int = 0
    CHECKS: ClassVar[Checks] = {"lo": _FRAME, "hi": _FRAME, "locked": _flag, "object": _whole(0, 254)}


@dataclass(frozen=True)
class Operation(Message):
    """An operation that changes the masks of a range of frames.

    Attributes:
        kind: Kind of the operation. ``copy`` copies the mask of `frame` to the frames `lo` to `hi`;
            ``delete`` deletes an object on these frames; ``swap`` swaps two objects on these frames; ``fill``
            interpolates the masks between the frames `lo` and `hi`.
        frame: The frame that the page shows.
        lo: First frame of the range.
        hi: Last frame of the range.
        object: The object to delete or swap, or the only object to copy; ``copy`` with 0 copies all objects.
        other: The object with which `object` is swapped.
    """

    kind: str
    frame: int
    lo: int
    hi: int
    object: int = 0
    other: int = 0
    CHECKS: ClassVar[Checks] = {
        "kind": _one_of("copy", "delete", "swap", "fill"),
        "frame": _FRAME,
        "lo": _FRAME,
        "hi": _FRAME,
        "object": _whole(0, 254),
        "other": _whole(0, 254),
    }


@dataclass(frozen=True)
class Done(Message):
    """The user's statement that a video is done or not done."""

    done: bool
    CHECKS: ClassVar[Checks] = {"done": _flag}


@dataclass(frozen=True)
class Continue(Message):
    """A request to continue the round that was stopped."""


@dataclass(frozen=True)
class Stop(Message):
    """A request to stop the open round; the masks computed so far are kept."""


@dataclass(frozen=True)
class AddObject(Message):
    """A request to add an object."""

    name: str = ""
    CHECKS: ClassVar[Checks] = {"name": lambda value: _name(value) if value else ""}


@dataclass(frozen=True)
class ChangeObject(Message):
    """A change of the name, colour or visibility of an object."""

    number: int
    name: str | None = None
    colour: str | None = None
    hidden: bool | None = None
    CHECKS: ClassVar[Checks] = {"number": _OBJECT, "name": _name, "colour": _text(_COLOUR), "hidden": _flag}


@dataclass(frozen=True)
class RemoveObject(Message):
    """A request to remove an object, or to merge it into another one."""

    number: int
    into: int = 0
    CHECKS: ClassVar[Checks] = {"number": _OBJECT, "into": _whole(0, 254)}


@dataclass(frozen=True)
class Study(Message):
    """An event of a user study, with its time `at` in milliseconds of the participant's clock."""

    event: str
    at: float
    CHECKS: ClassVar[Checks] = {"event": _one_of("press", "space", "run", "masks", "satisfied"), "at": _TIME}


@dataclass(frozen=True)
class TakeOver(Message):
    """A request of a page to become the writer."""


@dataclass(frozen=True)
class Retry(Message):
    """A request to try again after a failure; `leave_out` requests to leave out unreadable pictures."""

    leave_out: bool = False
    CHECKS: ClassVar[Checks] = {"leave_out": _flag}


TYPES: dict[str, type[Message]] = {
    "hello": Hello,
    "stroke": DrawStroke,
    "edit": DrawEdit,
    "lock": Lock,
    "operation": Operation,
    "done": Done,
    "undo": Undo,
    "redo": Redo,
    "undo_round": UndoRound,
    "propagate": Propagate,
    "continue": Continue,
    "stop": Stop,
    "add_object": AddObject,
    "object": ChangeObject,
    "remove_object": RemoveObject,
    "study": Study,
    "take_over": TakeOver,
    "retry": Retry,
}


def parse(text: str | bytes) -> Message:
    """Parse and check a message of a page.

    Raises:
        MessageError: The message is invalid; the text of the error gives the reason.
    """
    if isinstance(text, bytes):
        raise MessageError("a message must be text, not bytes")
    if len(text) > MAX_MESSAGE:
        raise MessageError(f"a message can have at most {MAX_MESSAGE} bytes")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError("a message must be JSON") from error
    if not isinstance(content, dict):
        raise MessageError("a message must be a JSON object")
    kind = content.pop("type", None)
    if not isinstance(kind, str) or kind not in TYPES:
        raise MessageError(f"type {_short(kind)} is not one of {', '.join(TYPES)}")
    return _build(kind, TYPES[kind], content)


def sequence_number(text: str | bytes) -> int:
    """Return the `seq` of a message that may be invalid; -1 if it has none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return -1
    seq = content.get("seq") if isinstance(content, dict) else None
    return seq if isinstance(seq, int) and not isinstance(seq, bool) else -1


def _build(kind: str, form: type[Message], content: dict[str, Any]) -> Message:
    checks: Checks = {"seq": _whole(0, 2**53), **form.CHECKS}
    unknown = sorted(set(content) - set(checks))
    if unknown:
        raise MessageError(f"{kind}: the field {_short(unknown[0])} is unknown")
    values: dict[str, Any] = {}
    for one in fields(form):
        value = content.get(one.name)
        if value is None:
            if one.default is MISSING:
                raise MessageError(f"{kind}: {one.name} is missing")
            continue
        try:
            values[one.name] = checks[one.name](value)
        except MessageError as error:
            raise MessageError(f"{kind}.{one.name}: {error}") from error
    return form(**values)


def pack_labels(labels: NDArray[np.uint8]) -> bytes:
    """Compress labels uint8 [h, w] with raw deflate."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    return deflate.compress(np.ascontiguousarray(labels).tobytes()) + deflate.flush()


def unpack_labels(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decompress labels uint8 [h, w] from :func:`pack_labels`; size is (width, height)."""
    return np.frombuffer(zlib.decompress(data, -15), np.uint8).reshape(size[::-1])


def pack_mask(
    kind: int, round: int, frame: int, size: tuple[int, int], data: bytes, done: int = 0, total: int = 0
) -> bytes:
    """Return the binary message of a mask.

    Its fields are version, kind, 0, round, frame, done, total, width, height and the packed labels.

    Args:
        kind: ``MASK`` or ``PREVIEW``.
        round: Number of the round, or of the preview.
        frame: Frame of the mask.
        size: Width and height of the mask.
        data: Labels packed by :func:`pack_labels`.
        done: Number of frames of the round that are finished.
        total: Number of frames to which the round will be propagated.
    """
    return _HEADER.pack(_VERSION, kind, 0, round, frame, done, total, *size) + data


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
