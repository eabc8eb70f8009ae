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
"""Largest distance of a coordinate from [0, 1], caused by rounding or by drawing over the frame's edge."""


class Stroke(TypedDict):
    """A polyline drawn for one object.

    Attributes:
        path: Points [x, y], as fractions of the frame's width and height, in [0, 1].
        object_id: Number of the object, 1..N, or 0 for the background.
    """

    path: list[list[float]]
    object_id: int


class Scribbles(TypedDict):
    """The content of a DAVIS scribble file: the strokes of each frame, and the name of the sequence."""

    scribbles: list[list[Stroke]]
    sequence: str


class ScribbleError(UserError):
    """The error for strokes that cannot be used; the message gives the place and the reason."""


def check_strokes(strokes: Sequence[Any], num_objects: int | None = None) -> None:
    """Check that strokes are well-formed.

    Args:
        strokes: The values to check, which should be of type :class:`Stroke`. A coordinate may lie outside
            [0, 1] by at most :data:`OVERSHOOT`.
        num_objects: Highest ``object_id`` that is allowed; None for any.

    Raises:
        ScribbleError: A stroke is malformed.
    """
    for index, stroke in enumerate(strokes):
        if not isinstance(stroke, dict) or "path" not in stroke or "object_id" not in stroke:
            raise ScribbleError(f"stroke {index} is not an object with 'path' and 'object_id'")
        object_id, path = stroke["object_id"], stroke["path"]
        if isinstance(object_id, bool) or not isinstance(object_id, int | np.integer) or object_id < 0:
            raise ScribbleError(f"stroke {index} has object_id {_short(object_id)}; it must be 0, 1, 2, ...")
        if num_objects is not None and object_id > num_objects:
            raise ScribbleError(
                f"stroke {index} is for object {_short(object_id)}, but the highest object number is "
                f"{num_objects}"
            )
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
    """Format a value by ``repr``, shortened to a few words."""
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
        sequence: Expected name of the sequence; None for any.
        num_frames: Expected number of frames; None for any.
        num_objects: Highest object number that is allowed; None for any.
        object_ids: Numbers that the objects 1..N have in the file; None if they are 1..N. Strokes are
            renumbered to 1..N.

    Raises:
        ScribbleError: The file cannot be read, or its content is malformed or differs from the expectations.
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
        raise ScribbleError(f"{path}: lists {len(frames)} frames, but the sequence has {num_frames}")
    for index, strokes in enumerate(frames):
        if not isinstance(strokes, list):
            raise ScribbleError(f"{path}: frame {index} does not contain a list of strokes")
        try:
            check_strokes(strokes, num_objects)
            frames[index] = [_normalised(stroke, object_ids) for stroke in strokes]
        except ScribbleError as error:
            raise ScribbleError(f"{path}: frame {index}, {error}") from error
    return {"scribbles": frames, "sequence": name}


def _normalised(stroke: Any, object_ids: Sequence[int] | None) -> Any:
    """Return a stroke with its points clipped to the frame and its object renumbered to 1..N."""
    path, number = stroke["path"], stroke["object_id"]
    if not all(0 <= value <= 1 for point in path for value in point):
        path = [[min(max(value, 0.0), 1.0) for value in point] for point in path]
    if object_ids is not None and number:
        if number not in object_ids:
            contiguous = list(object_ids) == list(range(1, len(object_ids) + 1))
            known = f"1 to {len(object_ids)}" if contiguous else listing(object_ids)
            raise ScribbleError(f"a stroke is for object {_short(number)}, but the objects are {known}")
        number = list(object_ids).index(number) + 1
    return stroke | {"path": path, "object_id": number}


def _read_json(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():  # reading a pipe could block
            raise ScribbleError(f"{path}: not a file")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ScribbleError(f"{path}: not a readable JSON file (too many levels)") from None
    except OSError as error:
        raise ScribbleError(f"{path}: not readable ({error.strerror})") from error
    except ScribbleError:
        raise
    except ValueError as error:  # not UTF-8, not JSON, or a number with more digits than Python accepts
        raise ScribbleError(f"{path}: not a readable JSON file ({error})") from error


def write_scribbles(path: str | Path, scribbles: Scribbles) -> None:
    """Write a DAVIS scribble file atomically; additional fields of strokes are kept."""
    for index, strokes in enumerate(scribbles["scribbles"]):
        try:
            check_strokes(strokes)
        except ScribbleError as error:
            raise ScribbleError(f"{path}: not written: frame {index}, {error}") from error
    write_text(path, json.dumps(scribbles))
