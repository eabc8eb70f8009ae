"""Pixel operations on labels: drawing of runs, protection of locked objects, and merging of annotations."""

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.app.prompts import is_drawn_box
from ivos.interaction import Stroke

Labels = NDArray[np.uint8]
STROKE_WIDTH = 5  # width of strokes in pixels of the frame, both on the page and in the network's input


def draw_runs(labels: Labels, runs: Sequence[int], label: int, locked: Collection[int] = ()) -> None:
    """Set the pixels of runs to a label, in place.

    Args:
        labels: Labels uint8 [h, w], which are changed.
        runs: Alternating numbers of skipped and drawn pixels, row by row from the first pixel on.
        label: The new label.
        locked: Labels of locked objects, which neither lose nor gain pixels.

    Raises:
        ValueError: The runs are longer than the frame, or malformed.
    """
    flat = labels.reshape(-1)
    counts = np.asarray(runs, np.int64)
    ends = np.cumsum(counts)
    if len(counts) % 2 or (len(counts) and (counts.min() < 0 or ends[-1] > flat.size)):
        raise ValueError("the runs do not fit the frame")
    if label in locked:
        return
    protected = np.isin(labels, list(locked)).reshape(-1) if locked else None
    for start, end in zip(ends[0::2].tolist(), ends[1::2].tolist(), strict=True):
        if protected is None:
            flat[start:end] = label
        else:
            part = flat[start:end]
            part[~protected[start:end]] = label


def find_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Encode a mask [h, w] as the runs that :func:`draw_runs` draws.

    >>> find_runs(np.array([[0, 1, 1], [0, 1, 0]], bool))
    [1, 2, 1, 1]
    """
    flat = np.concatenate([[False], mask.reshape(-1), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(changes, prepend=0).tolist()


def protect(current: Labels, new: Labels, locked: Collection[int]) -> Labels:
    """Return the labels `new` in which locked objects keep exactly the pixels that they have in `current`."""
    if not locked:
        return new
    names = list(locked)
    result = np.where(np.isin(new, names), 0, new)
    kept = np.isin(current, names)
    return np.where(kept, current, result).astype(np.uint8)


def covered(strokes: Sequence[Stroke], size: tuple[int, int]) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the label of each stroke and the pixels [h, w] that it covers; size is (width, height)."""
    width, height = size
    found = []
    for stroke in strokes:
        points = np.round(np.asarray(stroke["path"], np.float64) * (width, height) - 0.5).astype(np.int32)
        canvas = np.zeros((height, width), np.uint8)
        cv2.polylines(canvas, [points.reshape(-1, 1, 2)], False, 1, STROKE_WIDTH)
        found.append((int(stroke["object_id"]), canvas.astype(bool)))
    return found


def merge_annotation(
    current: Labels,
    network: Labels,
    strokes: Sequence[Stroke],
    locked: Collection[int] = (),
    cover: bool = True,
) -> Labels:
    """Merge the former mask of an annotated frame with the mask that the network computes from new strokes.

    Objects without strokes keep their pixels; only an object that is crossed by a stroke of another label can
    lose pixels to this label. Pixels under a stroke get its label. Locked objects do not change.

    Args:
        current: Labels [h, w] that the frame shows.
        network: Labels [h, w] that the network computes from the strokes.
        strokes: New strokes and boxes on the frame; a box does not cover any pixels.
        locked: Objects that are locked on the frame.
        cover: Whether the pixels under strokes get the labels of the strokes.
    """
    areas = covered([one for one in strokes if not is_drawn_box(one)], current.shape[1::-1])
    drawn = {label for label, _ in areas} | {one["object_id"] for one in strokes if is_drawn_box(one)}
    crossed = {int(label) for _, area in areas for label in np.unique(current[area])} - {0}
    kept = [label for label in np.unique(current).tolist() if label and label not in drawn | crossed]
    gained = (network != current) & (network != 0) & ~np.isin(network, list(drawn))
    result = np.where(np.isin(current, kept) | gained, current, network).astype(np.uint8)
    for label, area in areas if cover else ():
        result[area] = label
    return protect(current, result, locked)
