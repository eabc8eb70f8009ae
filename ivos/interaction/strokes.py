"""Strokes, and the DAVIS scribble file: JSON with a list of strokes for every frame of a sequence."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from ivos.errors import UserError


class Stroke(TypedDict):
    """A polyline drawn for one object.

    ``path``: [x, y] points, each coordinate a share of the frame's width or height in [0, 1].
    ``object_id``: 1..N, or 0 for the background.
    """

    path: list[list[float]]
    object_id: int


class Scribbles(TypedDict):
    """A DAVIS scribble file: the strokes of each frame, and the name of the sequence they were drawn on."""

    scribbles: list[list[Stroke]]
    sequence: str


class ScribbleError(UserError):
    """Strokes that cannot be used; the message says where and why."""


def check_strokes(strokes: Sequence[Any], num_objects: int | None = None) -> None:
    """Raise :class:`ScribbleError` at the first stroke that is malformed.

    Args:
        strokes: what should be a list of :class:`Stroke`.
        num_objects: the highest ``object_id`` allowed; None for any.
    """
    for index, stroke in enumerate(strokes):
        if not isinstance(stroke, dict) or "path" not in stroke or "object_id" not in stroke:
            raise ScribbleError(f"stroke {index} is not an object with 'path' and 'object_id'")
        object_id = stroke["object_id"]
        if isinstance(object_id, bool) or not isinstance(object_id, int) or object_id < 0:
            raise ScribbleError(f"stroke {index} has object_id {object_id!r}; it must be 0, 1, 2, ...")
        if num_objects is not None and object_id > num_objects:
            raise ScribbleError(f"stroke {index} is for object {object_id} of {num_objects}")
        if not stroke["path"]:
            raise ScribbleError(f"stroke {index} has an empty path")
        for point in stroke["path"]:
            try:
                x, y = (float(value) for value in point)
            except (TypeError, ValueError) as error:
                raise ScribbleError(f"stroke {index} has a point {point!r}; it must be [x, y]") from error
            if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
                raise ScribbleError(f"stroke {index} has a point {[x, y]} outside [0, 1]")


def read_scribbles(
    path: str | Path,
    sequence: str | None = None,
    num_frames: int | None = None,
    num_objects: int | None = None,
) -> Scribbles:
    """Read and check a DAVIS scribble file.

    Args:
        path: the JSON file.
        sequence: the sequence it must be for; None for any.
        num_frames: the number of frames it must list; None for any.
        num_objects: the highest object number allowed; None for any.

    Raises:
        ScribbleError: what is wrong, with the file's name.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ScribbleError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("scribbles"), list):
        raise ScribbleError(f"{path}: not a DAVIS scribble file (no list 'scribbles')")
    if sequence is not None and content.get("sequence") != sequence:
        raise ScribbleError(f"{path}: drawn on sequence {content.get('sequence')!r}, not on {sequence!r}")
    frames = content["scribbles"]
    if num_frames is not None and len(frames) != num_frames:
        raise ScribbleError(f"{path}: lists {len(frames)} frames, the sequence has {num_frames}")
    for index, strokes in enumerate(frames):
        if not isinstance(strokes, list):
            raise ScribbleError(f"{path}: frame {index} holds no list of strokes")
        try:
            check_strokes(strokes, num_objects)
        except ScribbleError as error:
            raise ScribbleError(f"{path}: frame {index}, {error}") from error
    return {"scribbles": frames, "sequence": str(content.get("sequence"))}


def write_scribbles(path: str | Path, scribbles: Scribbles) -> None:
    """Write a DAVIS scribble file (whatever else a stroke carries, such as times, is kept)."""
    for index, strokes in enumerate(scribbles["scribbles"]):
        try:
            check_strokes(strokes)
        except ScribbleError as error:
            raise ScribbleError(f"{path}: not written: frame {index}, {error}") from error
    Path(path).write_text(json.dumps(scribbles))
