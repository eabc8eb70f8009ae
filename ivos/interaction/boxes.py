"""Boxes around objects, and their conversion for segmenters that do not accept boxes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, TypeGuard

import numpy as np

from ivos.interaction.strokes import Stroke
from ivos.runtime.errors import UserError

_CORNERS = 24  # corners of the polygon that approximates the ellipse inside a box


class Box(TypedDict):
    """A box that a user has drawn around an object.

    ``box``: [left, top, right, bottom] in relative coordinates, as fractions of the frame's width and height.
    ``object_id``: Number of the object, 1..N.
    """

    box: list[float]
    object_id: int


class BoxError(UserError):
    """The error for boxes that cannot be used; the message names the box and the reason."""


def is_box(prompt: Any) -> TypeGuard[Box]:
    """Return whether a prompt is a box."""
    return isinstance(prompt, dict) and "box" in prompt


def check_boxes(boxes: Sequence[Any], num_objects: int | None = None) -> None:
    """Check that boxes are well-formed.

    Args:
        boxes: The values to check, which should be of type :class:`Box`.
        num_objects: Highest ``object_id`` that is allowed; None for any.

    Raises:
        BoxError: A box is malformed.
    """
    for index, one in enumerate(boxes):
        if not isinstance(one, dict) or not {"box", "object_id"} <= set(one):
            raise BoxError(f"box {index} is not an object with 'box' and 'object_id'")
        number = one["object_id"]
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise BoxError(f"box {index} has object_id {number!r}; it must be 1, 2, ...")
        if num_objects is not None and number > num_objects:
            raise BoxError(
                f"box {index} is for object {number}, but the highest object number is {num_objects}"
            )
        try:
            left, top, right, bottom = (float(value) for value in one["box"])
        except (TypeError, ValueError) as error:
            raise BoxError(f"box {index} is {one['box']!r}; it must be [left, top, right, bottom]") from error
        inside = all(math.isfinite(value) and 0 <= value <= 1 for value in (left, top, right, bottom))
        if not inside or not (left < right and top < bottom):
            raise BoxError(
                f"box {index} is {one['box']!r}; it must have 0 <= left < right <= 1 and "
                "0 <= top < bottom <= 1"
            )


def strokes_from_boxes(boxes: Iterable[Box]) -> list[Stroke]:
    """Convert boxes to strokes.

    An ellipse of half the box's size becomes a stroke of the object, and the edges of the box become strokes
    of the background. An edge on the border of the frame is left out.
    """
    strokes: list[Stroke] = []
    for one in boxes:
        left, top, right, bottom = one["box"]
        angles = 2 * np.pi * np.arange(_CORNERS + 1) / _CORNERS
        x = (left + right) / 2 + (right - left) / 4 * np.cos(angles)
        y = (top + bottom) / 2 + (bottom - top) / 4 * np.sin(angles)
        strokes.append({"path": np.stack([x, y], axis=1).tolist(), "object_id": one["object_id"]})
        edges = (
            (left > 0, [[left, top], [left, bottom]]),
            (top > 0, [[left, top], [right, top]]),
            (right < 1, [[right, top], [right, bottom]]),
            (bottom < 1, [[left, bottom], [right, bottom]]),
        )
        strokes += [{"path": path, "object_id": 0} for inside, path in edges if inside]
    return strokes


def centres(boxes: Iterable[Box]) -> list[tuple[list[float], int]]:
    """Return the centre [x, y] and the object number of each box."""
    found = []
    for one in boxes:
        left, top, right, bottom = one["box"]
        found.append(([(left + right) / 2, (top + bottom) / 2], one["object_id"]))
    return found
