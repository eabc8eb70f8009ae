"""Strokes, and the DAVIS scribble file: JSON with a list of strokes for every frame of a sequence."""

import json
import reprlib
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ivos.runtime.errors import UserError, listing
from ivos.runtime.files import write_text

OVERSHOOT = 0.005
"""How far beyond [0, 1] a coordinate may lie, by rounding or by drawing over the frame's edge."""


class Stroke(TypedDict):
    """A polyline drawn for one object.

    Attributes:
        path: Points [x, y], as fractions of the frame's width and height, in [0, 1].
        object_id: 1..N, or 0 for the background.
    """

    path: list[list[float]]
    object_id: int


class Scribbles(TypedDict):
    """The content of a DAVIS scribble file: the strokes of each frame, and the name of the sequence."""

    scribbles: list[list[Stroke]]
    sequence: str


class ScribbleError(UserError):
    """Strokes that cannot be used; the message says where and why."""


def check_strokes(strokes: Sequence[Any], num_objects: int | None = None) -> None:
    """Refuse malformed strokes.

    Args:
        strokes: What should be a list of :class:`Stroke`. A coordinate may lie outside [0, 1] by
            :data:`OVERSHOOT`.
        num_objects: The highest ``object_id`` that is allowed; None for any.

    Raises:
        ScribbleError: The first stroke that is malformed, and its fault.
    """
    for index, stroke in enumerate(strokes):
        if not isinstance(stroke, dict) or "path" not in stroke or "object_id" not in stroke:
            raise ScribbleError(f"stroke {index} is not an object with 'path' and 'object_id'")
        object_id, path = stroke["object_id"], stroke["path"]
        if isinstance(object_id, bool) or not isinstance(object_id, int | np.integer) or object_id < 0:
            raise ScribbleError(f"stroke {index} has object_id {_short(object_id)}; it must be 0, 1, 2, ...")
        if num_objects is not None and object_id > num_objects:
            raise ScribbleError(f"stroke {index} is for object {_short(object_id)} of {num_objects}")
        if not isinstance(path, list | tuple | np.ndarray):
            raise ScribbleError(f"stroke {index} has a path {_short(path)}; it must be a list of points")
        if not len(path):
            raise ScribbleError(f"stroke {index} has an empty path")
        for point in path:
            if not (
                isinstance(point, list | tuple | np.ndarray)
                and len(point) == 2
                and all(map(_is_number, point))
            ):
                raise ScribbleError(f"stroke {index} has a point {_short(point)}; it must be [x, y]")
            if not all(-OVERSHOOT <= value <= 1 + OVERSHOOT for value in point):
                raise ScribbleError(f"stroke {index} has a point {_short(point)} outside [0, 1]")


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) or (isinstance(value, Real) and not isinstance(value, bool))


def _short(value: Any) -> str:
    """Format a value as Python writes it, shortened to a few words."""
    return reprlib.repr(value.tolist() if isinstance(value, np.ndarray) else value)


def read_scribbles(
    path: str | Path,
    sequence: str | None = None,
    num_frames: int | None = None,
    num_objects: int | None = None,
    object_ids: Sequence[int] | None = None,
) -> Scribbles:
    """Read and check a DAVIS scribble file.

    Coordinates that lie outside [0, 1] by no more than :data:`OVERSHOOT` are clipped.

    Args:
        path: The JSON file (UTF-8; a byte-order mark is accepted).
        sequence: The sequence that it must be for; None for any.
        num_frames: The number of frames that it must list; None for any.
        num_objects: The highest object number that is allowed; None for any.
        object_ids: The numbers that the objects 1..N have in the file, where these are not 1..N; strokes are
            renumbered.

    Raises:
        ScribbleError: What is wrong, with the name of the file.
    """
    content = _read_json(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("scribbles"), list):
        raise ScribbleError(f"{path}: not a DAVIS scribble file (no list 'scribbles')")
    name = content.get("sequence", "")
    if not isinstance(name, str):
        raise ScribbleError(f"{path}: 'sequence' is {_short(name)}; it must be a name")
    if sequence is not None and name != sequence:
        raise ScribbleError(f"{path}: drawn on sequence {_short(name)}, not on {sequence!r}")
    frames = content["scribbles"]
    if num_frames is not None and len(frames) != num_frames:
        raise ScribbleError(f"{path}: lists {len(frames)} frames, the sequence has {num_frames}")
    for index, strokes in enumerate(frames):
        if not isinstance(strokes, list):
            raise ScribbleError(f"{path}: frame {index} holds no list of strokes")
        try:
            check_strokes(strokes, num_objects)
            frames[index] = [_normalised(stroke, object_ids) for stroke in strokes]
        except ScribbleError as error:
            raise ScribbleError(f"{path}: frame {index}, {error}") from error
    return {"scribbles": frames, "sequence": name}


def _normalised(stroke: Any, object_ids: Sequence[int] | None) -> Any:
    """Return a stroke with its points within the frame and its object's number out of 1..N."""
    path, number = stroke["path"], stroke["object_id"]
    if not all(0 <= value <= 1 for point in path for value in point):
        path = [[min(max(value, 0.0), 1.0) for value in point] for point in path]
    if object_ids is not None and number:
        if number not in object_ids:
            contiguous = list(object_ids) == list(range(1, len(object_ids) + 1))
            known = len(object_ids) if contiguous else listing(object_ids)
            raise ScribbleError(f"a stroke is for object {_short(number)} of {known}")
        number = list(object_ids).index(number) + 1
    return stroke | {"path": path, "object_id": number}


def _read_json(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ScribbleError(f"{path}: not a file")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ScribbleError(f"{path}: not a readable JSON file (too many levels)") from None
    except OSError as error:
        raise ScribbleError(f"{path}: not readable ({error.strerror})") from error
    except ScribbleError:
        raise
    except ValueError as error:  # no UTF-8, no JSON, a number of more digits than Python reads
        raise ScribbleError(f"{path}: not a readable JSON file ({error})") from error


def write_scribbles(path: str | Path, scribbles: Scribbles) -> None:
    """Write a DAVIS scribble file, whole or not at all; further fields of strokes are kept."""
    for index, strokes in enumerate(scribbles["scribbles"]):
        try:
            check_strokes(strokes)
        except ScribbleError as error:
            raise ScribbleError(f"{path}: not written: frame {index}, {error}") from error
    write_text(path, json.dumps(scribbles))
