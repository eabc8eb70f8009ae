"""What a user has drawn on a frame, as prompts that a segmenter takes."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import Box, Click, PromptKind, Stroke
from ivos.interaction.boxes import strokes_from_boxes
from ivos.interaction.clicks import translate

Labels = NDArray[np.uint8]
Kinds = Collection[PromptKind]

# What is drawn is a stroke in the journal: {"path": ..., "object_id": ...}. A box has "box": true and a path
# of two opposite corners. A stroke of the background may name the object that is meant: {"of": 2}.


def is_drawn_box(stroke: Any) -> bool:
    """Return whether what was drawn is a box around an object."""
    return bool(stroke.get("box"))


def corners(stroke: Any) -> list[float]:
    """Return a drawn box as [left, top, right, bottom], in shares of the frame."""
    (x0, y0), (x1, y1) = stroke["path"]
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def prompts_of(strokes: Sequence[Any], kinds: Kinds) -> list[Any]:
    """Return what was drawn as prompts of the kinds that a segmenter takes.

    For a segmenter of clicks, a stroke becomes a click at the point of its path that is nearest to the mean
    of the path. One of the background is a negative click of the object that the user had chosen; where that
    is not known, of all objects that something is drawn for.

    Args:
        strokes: drawn on one frame in one round.
        kinds: the kinds of prompts that the segmenter takes.
    """
    boxes: list[Any] = [_box(one) for one in strokes if is_drawn_box(one)]
    lines: list[Any] = [one for one in strokes if not is_drawn_box(one)]
    if "clicks" not in kinds or "strokes" in kinds:
        return translate([*boxes, *lines], kinds) if boxes else lines
    drawn = sorted({one["object_id"] for one in strokes} - {0})
    clicks: list[Any] = []
    for one in lines:
        number = one["object_id"]
        meant = [number] if number else [one["of"]] if one.get("of") else drawn
        clicks += [_click(one, each, positive=number > 0) for each in meant]
    return translate([*boxes, *clicks], kinds)


def expanded(strokes: Sequence[Any]) -> list[Any]:
    """Return strokes with the strokes that stand for boxes in their place, for files that have no boxes."""
    found: list[Any] = []
    for one in strokes:
        if is_drawn_box(one):
            found += [{**one, **stroke} for stroke in strokes_from_boxes([_box(one)])]
        else:
            found.append(one)
    return found


def within_boxes(labels: Labels, current: Labels, strokes: Sequence[Any]) -> Labels:
    """Return labels [h, w] in which an object that was given a box gains no pixel outside of it.

    An object for which something is drawn outside its boxes as well is left as it is.

    Args:
        labels: what a segmenter that knows no boxes finds.
        current: the labels [h, w] that the frame shows.
        strokes: drawn on the frame in this round.
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
