"""Conversion of a user's drawings on a frame into the prompts that a segmenter accepts."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import Box, Click, PromptKind, Stroke
from ivos.interaction.boxes import strokes_from_boxes
from ivos.interaction.clicks import translate

Labels = NDArray[np.uint8]
Kinds = Collection[PromptKind]

# In the journal every drawing is a stroke: {"path": ..., "object_id": ...}. A box has "box": true, and its
# path consists of two opposite corners. A stroke of the background may name the object that was selected:
# {"of": 2}.


def is_drawn_box(stroke: Any) -> bool:
    """Return whether a stroke of the journal is a box."""
    return bool(stroke.get("box"))


def corners(stroke: Any) -> list[float]:
    """Return a box as [left, top, right, bottom], in relative coordinates from 0 to 1."""
    (x0, y0), (x1, y1) = stroke["path"]
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def prompts_of(strokes: Sequence[Any], kinds: Kinds) -> list[Any]:
    """Convert strokes and boxes into prompts of the kinds that a segmenter accepts.

    For a segmenter that accepts clicks but no strokes, a stroke becomes a click at the point of its path that
    is nearest to the mean of the path. A stroke of the background becomes a negative click for the object
    that the user had selected. If this object is not known, it becomes a negative click for each object in
    `strokes`.

    Args:
        strokes: Strokes and boxes on one frame in one round.
        kinds: Kinds of prompts that the segmenter accepts.
    """
    boxes: list[Any] = [_box(one) for one in strokes if is_drawn_box(one)]
    lines: list[Any] = [one for one in strokes if not is_drawn_box(one)]
    if "clicks" not in kinds or "strokes" in kinds:
        return translate([*boxes, *lines], kinds) if boxes else lines
    drawn = sorted({one["object_id"] for one in strokes} - {0})
    clicks: list[Any] = []
    for one in lines:
        number = one["object_id"]
        targets = [number] if number else [one["of"]] if one.get("of") else drawn
        clicks += [_click(one, each, positive=number > 0) for each in targets]
    return translate([*boxes, *clicks], kinds)


def expanded(strokes: Sequence[Any]) -> list[Any]:
    """Replace boxes by equivalent strokes, for file formats without boxes."""
    found: list[Any] = []
    for one in strokes:
        if is_drawn_box(one):
            found += [{**one, **stroke} for stroke in strokes_from_boxes([_box(one)])]
        else:
            found.append(one)
    return found


def within_boxes(labels: Labels, current: Labels, strokes: Sequence[Any]) -> Labels:
    """Limit the pixels that objects with boxes gain to the insides of their boxes.

    The labels of an object that also has a stroke outside its boxes are not changed.

    Args:
        labels: Labels [h, w] computed by a segmenter that does not accept boxes.
        current: Labels [h, w] that the frame shows.
        strokes: Strokes and boxes on the frame in this round.

    Returns:
        The limited labels uint8 [h, w].
    """
    height, width = labels.shape
    result = labels
    for number in {one["object_id"] for one in strokes if is_drawn_box(one)}:
        own = [one for one in strokes if one["object_id"] == number]
        boxes = [corners(one) for one in own if is_drawn_box(one)]
        points = [point for one in own if not is_drawn_box(one) for point in one["path"]]
        if not all(any(_holds(box, point) for box in boxes) for point in points):
            continue
        inside = np.zeros(labels.shape, bool)
        for left, top, right, bottom in boxes:
            rows = slice(int(top * height), int(np.ceil(bottom * height)))
            inside[rows, int(left * width) : int(np.ceil(right * width))] = True
        gained = (labels == number) & (current != number) & ~inside
        result = np.where(gained, current, result).astype(np.uint8)
    return result


def _holds(box: list[float], point: list[float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _box(stroke: Any) -> Box:
    return {"box": corners(stroke), "object_id": stroke["object_id"]}


def _click(stroke: Stroke, number: int, positive: bool) -> Click:
    path = np.asarray(stroke["path"], np.float64)
    middle = path[((path - path.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
    return {"point": middle, "positive": positive, "object_id": number}
