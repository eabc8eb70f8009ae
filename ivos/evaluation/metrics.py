"""Region similarity J and contour accuracy F of DAVIS (Perazzi et al., CVPR 2016)."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]


def jaccard(gt: Labels, pred: Labels, num_objects: int) -> NDArray[np.float64]:
    """Intersection over union of every object on every frame; 1 where neither mask has a pixel.

    Args:
        gt: ground-truth labels [T, h, w]; 255 (void) belongs to no object.
        pred: predicted labels [T, h, w].
        num_objects: N; objects are 1..N.

    Returns:
        float64 [T, N], equal to ``davisinteractive.metrics.batched_jaccard``.

    >>> gt = np.array([[[0, 1, 1, 2]]])
    >>> pred = np.array([[[1, 1, 1, 0]]])
    >>> jaccard(gt, pred, 3).round(3).tolist()
    [[0.667, 0.0, 1.0]]
    """
    _check(gt, pred, num_objects)
    values = np.empty((len(gt), num_objects))
    for row, true, predicted in zip(values, gt, pred, strict=True):
        for index in range(num_objects):
            a, b = true == index + 1, predicted == index + 1
            intersection = np.count_nonzero(a & b)
            union = np.count_nonzero(a) + np.count_nonzero(b) - intersection
            row[index] = intersection / union if union else 1.0
    return values


def f_measure(gt: Labels, pred: Labels, num_objects: int) -> NDArray[np.float64]:
    """Harmonic mean of boundary precision and recall of every object on every frame.

    A boundary pixel counts as found where the other mask has one within 0.8 % of the frame's diagonal
    (rounded up). An empty boundary has precision 1 and recall 0 against one that is not, and both 1 against
    another empty one.

    Args:
        gt: ground-truth labels [T, h, w]; 255 (void) belongs to no object.
        pred: predicted labels [T, h, w].
        num_objects: N; objects are 1..N.

    Returns:
        float64 [T, N], equal to ``davisinteractive.metrics.batched_f_measure``.

    >>> gt, pred = np.zeros((2, 1, 50, 50), int)
    >>> gt[0, 10:30, 10:30] = pred[0, 10:30, 10:31] = 1
    >>> f_measure(gt, pred, 2).tolist()
    [[1.0, 1.0]]
    """
    _check(gt, pred, num_objects)
    radius = int(np.ceil(0.008 * np.linalg.norm(gt.shape[1:])))
    values = np.empty((len(gt), num_objects))
    for row, true, predicted in zip(values, gt, pred, strict=True):
        for index in range(num_objects):
            row[index] = _f_of_one(true == index + 1, predicted == index + 1, radius)
    return values


def _check(gt: Labels, pred: Labels, num_objects: int) -> None:
    if gt.ndim != 3 or gt.shape != pred.shape:
        raise ValueError(f"labels [T, h, w] of equal shape are needed, got {gt.shape} and {pred.shape}")
    if num_objects < 1:
        raise ValueError(f"num_objects: at least 1 is needed, got {num_objects}")


def _f_of_one(true: NDArray[np.bool_], predicted: NDArray[np.bool_], radius: int) -> float:
    box = _box(true | predicted, margin=radius + 2)  # outside it there is neither a boundary nor a match
    if box is None:
        return 1.0
    true_boundary, predicted_boundary = _boundary(true, box), _boundary(predicted, box)
    num_true, num_predicted = np.count_nonzero(true_boundary), np.count_nonzero(predicted_boundary)
    if not num_true or not num_predicted:
        return 1.0 if num_true == num_predicted else 0.0
    disk = _disk(radius)
    found_predicted = cv2.bitwise_and(predicted_boundary, cv2.dilate(true_boundary, disk))
    found_true = cv2.bitwise_and(true_boundary, cv2.dilate(predicted_boundary, disk))
    precision = np.count_nonzero(found_predicted) / num_predicted
    recall = np.count_nonzero(found_true) / num_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice] | None:
    """The rows and columns that hold a mask, with a margin; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin),
    )


def _boundary(mask: NDArray[np.bool_], box: tuple[slice, slice]) -> NDArray[np.uint8]:
    """Pixels of the box that differ from their right, lower or lower right neighbour, 0 or 1.

    In the last row and column of the frame only the neighbours inside it count, and its last pixel is never
    one (Martin's boundary map of 2003). The box's own last row and column are either the frame's or empty.
    """
    inside = np.ascontiguousarray(mask[box])
    boundary = np.zeros(inside.shape, bool)
    boundary[:, :-1] = inside[:, :-1] != inside[:, 1:]
    boundary[:-1] |= inside[:-1] != inside[1:]
    boundary[:-1, :-1] |= inside[:-1, :-1] != inside[1:, 1:]
    return boundary.view(np.uint8)


@lru_cache(maxsize=8)
def _disk(radius: int) -> NDArray[np.uint8]:
    """All offsets up to ``radius`` away, as a structuring element."""
    offset = np.arange(-radius, radius + 1) ** 2
    return (offset[:, None] + offset <= radius**2).astype(np.uint8)
