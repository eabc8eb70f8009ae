"""What goes over the wire: the client's messages, typed and checked, and the binary form of masks."""

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

MAX_MESSAGE = 1 << 20  # bytes
MAX_POINTS = 20_000  # of a stroke
MAX_NAME = 80  # letters of an object's name

MASK, PREVIEW = 0, 1  # kinds of binary messages
_HEADER = struct.Struct("<BBHIIIIHH")
_VERSION = 1
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")


Checks = Mapping[str, Callable[[Any], Any]]
"""By a field's name, what gives its value or raises :class:`MessageError`."""


class MessageError(UserError):
    """A message that is not what it should be; the text says what and why."""


def _number(low: float, high: float = math.inf) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise MessageError(f"a number is needed, got {_short(value)}")
        if not low <= value <= high:
            raise MessageError(f"from {low:g} to {high:g} is possible, got {value:g}")
        return float(value)

    return check


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise MessageError(f"a whole number is needed, got {_short(value)}")
        if not low <= value <= high:
            raise MessageError(f"from {low} to {high} is possible, got {value}")
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
        raise MessageError(f"a name has 1 to {MAX_NAME} printable letters")
    return name


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise MessageError(f"true or false is needed, got {_short(value)}")
    return value


def _path(value: Any) -> list[list[float]]:
    if not isinstance(value, list) or not value:
        raise MessageError("a list of points is needed")
    if len(value) > MAX_POINTS:
        raise MessageError(f"{len(value)} points are more than the {MAX_POINTS} a stroke can have")
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


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise MessageError(f"{_short(value)} is none of {', '.join(names)}")
        return str(value)

    return check


_FRAME = _whole(0, 10**7)
_OBJECT = _whole(1, 254)
_TIME = _number(0)


@dataclass(frozen=True)
class Message:
    """What a client sends; `seq` comes back in its acknowledgement."""

    seq: int
    CHECKS: ClassVar[Checks] = {}


@dataclass(frozen=True)
class Hello(Message):
    """First of a connection; `page` is what the server named this page before, if it did."""

    page: str = ""
    CHECKS: ClassVar[Checks] = {"page": _text(re.compile(r"[A-Za-z0-9_-]{0,64}"))}


@dataclass(frozen=True)
class DrawStroke(Message):
    """A stroke in the form of DAVIS, with the client's id and the milliseconds of its start and end."""

    id: str
    frame: int
    path: list[list[float]]
    object_id: int
    start_time: float = 0
    end_time: float = 0
    CHECKS: ClassVar[Checks] = {
        "id": _text(_ID),
        "frame": _FRAME,
        "path": _path,
        "object_id": _whole(0, 254),
        "start_time": _TIME,
        "end_time": _TIME,
    }


@dataclass(frozen=True)
class Undo(Message):
    """Take back the last stroke that waits; where there is none, the last round."""


@dataclass(frozen=True)
class Redo(Message):
    """Bring back what was taken back last."""


@dataclass(frozen=True)
class UndoRound(Message):
    """Take back the last round."""


@dataclass(frozen=True)
class Propagate(Message):
    """Begin a round with the strokes that wait on a frame."""

    frame: int
    CHECKS: ClassVar[Checks] = {"frame": _FRAME}


@dataclass(frozen=True)
class Continue(Message):
    """Go on with the round that was stopped."""


@dataclass(frozen=True)
class Stop(Message):
    """Stop the round; what it has reached stays."""


@dataclass(frozen=True)
class AddObject(Message):
    """One more object."""

    name: str = ""
    CHECKS: ClassVar[Checks] = {"name": lambda value: _name(value) if value else ""}


@dataclass(frozen=True)
class ChangeObject(Message):
    """Another name or colour of an object, or whether it is shown."""

    number: int
    name: str | None = None
    colour: str | None = None
    hidden: bool | None = None
    CHECKS: ClassVar[Checks] = {"number": _OBJECT, "name": _name, "colour": _text(_COLOUR), "hidden": _flag}


@dataclass(frozen=True)
class RemoveObject(Message):
    """An object is no longer one."""

    number: int
    CHECKS: ClassVar[Checks] = {"number": _OBJECT}


@dataclass(frozen=True)
class Study(Message):
    """A moment of a user study, in the participant's own milliseconds."""

    event: str
    at: float
    CHECKS: ClassVar[Checks] = {"event": _one_of("press", "space", "run", "masks", "satisfied"), "at": _TIME}


@dataclass(frozen=True)
class TakeOver(Message):
    """This page wants to be the one that writes."""


@dataclass(frozen=True)
class Retry(Message):
    """Try again what has failed."""


TYPES: dict[str, type[Message]] = {
    "hello": Hello,
    "stroke": DrawStroke,
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
    """A client's message.

    Raises:
        MessageError: one line that says what is wrong with it.
    """
    if isinstance(text, bytes):
        raise MessageError("a message of the client is text, not bytes")
    if len(text) > MAX_MESSAGE:
        raise MessageError(f"a message has {MAX_MESSAGE} bytes at most")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError("not JSON") from error
    if not isinstance(content, dict):
        raise MessageError("a message is an object")
    kind = content.pop("type", None)
    if not isinstance(kind, str) or kind not in TYPES:
        raise MessageError(f"type {_short(kind)} is none of {', '.join(TYPES)}")
    return _build(kind, TYPES[kind], content)


def sequence_number(text: str | bytes) -> int:
    """The `seq` of a message that may be wrong in anything else; -1 where it cannot be told."""
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
        raise MessageError(f"{kind}: {_short(unknown[0])} is not known")
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
    """Labels [h, w] as they are sent and kept: raw-deflated bytes."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    return deflate.compress(np.ascontiguousarray(labels).tobytes()) + deflate.flush()


def unpack_labels(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Labels [h, w] from :func:`pack_labels`; size is (width, height)."""
    return np.frombuffer(zlib.decompress(data, -15), np.uint8).reshape(size[::-1])


def pack_mask(
    kind: int, round: int, frame: int, size: tuple[int, int], data: bytes, done: int = 0, total: int = 0
) -> bytes:
    """A binary message: version, kind, 0, round, frame, done, total, width, height; then packed labels."""
    return _HEADER.pack(_VERSION, kind, 0, round, frame, done, total, *size) + data


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
