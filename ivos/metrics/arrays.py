"""J and F of label arrays; results that depend on the ground truth alone are computed once."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Mask = NDArray[np.uint8]  # 0 or 1
Box = tuple[slice, slice]  # rows and columns


def jaccard(gt: Labels, pred: Labels, num_objects: int) -> NDArray[np.float64]:
    """Return the intersection over union of every object on every frame; it is 1 if both masks are empty.

    Args:
        gt: Ground-truth labels [T, h, w]; 255 (void) belongs to no object.
        pred: Predicted labels [T, h, w].
        num_objects: Number of objects N; their labels are 1..N.

    Returns:
        J, float64 [T, N], equal to ``davisinteractive.metrics.batched_jaccard``.

    >>> gt = np.array([[[0, 1, 1, 2]]])
    >>> pred = np.array([[[1, 1, 1, 0]]])
    >>> jaccard(gt, pred, 3).round(3).tolist()
    [[0.667, 0.0, 1.0]]
    """
    return GroundTruth(gt, num_objects).jaccard(pred)


def f_measure(gt: Labels, pred: Labels, num_objects: int) -> NDArray[np.float64]:
    """Return the harmonic mean of boundary precision and recall of every object on every frame.

    A boundary pixel is matched if the other mask has a boundary pixel within 0.8 % of the frame's diagonal
    (rounded up). F is 1 if both boundaries are empty, and 0 if only one is.

    Args:
        gt: Ground-truth labels [T, h, w]; 255 (void) belongs to no object.
        pred: Predicted labels [T, h, w].
        num_objects: Number of objects N; their labels are 1..N.

    Returns:
        F, float64 [T, N], equal to ``davisinteractive.metrics.batched_f_measure``.

    >>> gt, pred = np.zeros((2, 1, 50, 50), int)
    >>> gt[0, 10:30, 10:30] = pred[0, 10:30, 10:31] = 1
    >>> f_measure(gt, pred, 2).tolist()
    [[1.0, 1.0]]
    """
    return GroundTruth(gt, num_objects).f_measure(pred)


def mean_over(values: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Return the mean of the values that are not NaN along an axis (None: over all), or NaN without any.

    >>> mean_over(np.array([[0.5, np.nan], [np.nan, np.nan]]), axis=1).tolist()
    [0.5, nan]
    """
    unknown = np.isnan(values)
    if values.size and not unknown.any():  # with the summation order of np.mean
        return np.asarray(values.mean(axis=axis))
    count = (~unknown).sum(axis=axis)
    total = np.where(unknown, 0, values).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


class GroundTruth:
    """Ground-truth labels for scoring many predictions, with cached results of the ground truth.

    The object holds the labels and, after the first call of :meth:`f_measure`, the dilated boundary of every
    object in its bounding box (one bit per pixel) and the positions of its boundary pixels (four bytes each).

    Args:
        labels: Ground-truth labels [T, h, w]; 255 (void) belongs to no object.
        num_objects: Number of objects N; their labels are 1..N.
    """

    def __init__(self, labels: Labels, num_objects: int) -> None:
        if labels.ndim != 3:
            raise ValueError(f"labels [T, h, w] are needed, got {labels.shape}")
        if num_objects < 1:
            raise ValueError(f"num_objects: at least 1 is needed, got {num_objects}")
        self.labels, self.num_objects = labels, num_objects
        self.radius = int(np.ceil(0.008 * np.linalg.norm(labels.shape[1:])))
        self._regions: list[_Region] = []
        self._contours: list[_Contour] = []

    def jaccard(self, pred: Labels) -> NDArray[np.float64]:
        """Return J of predicted labels [T, h, w], float64 [T, N]; see :func:`jaccard`."""
        values = np.empty((len(self.labels), self.num_objects))
        if not self._regions:
            self._regions = [_Region.of(mask) for _, _, mask in self._masks(self.labels)]
        for region, (t, index, mask) in zip(self._regions, self._masks(pred), strict=True):
            true = self.labels[t][region.box] == index + 1
            intersection = np.count_nonzero(true & mask[region.box])
            union = region.area + np.count_nonzero(mask) - intersection
            values[t, index] = intersection / union if union else 1.0
        return values

    def f_measure(self, pred: Labels) -> NDArray[np.float64]:
        """Return F of predicted labels [T, h, w], float64 [T, N]; see :func:`f_measure`."""
        values = np.empty((len(self.labels), self.num_objects))
        if not self._contours:
            self._contours = [_Contour.of(mask, self.radius) for _, _, mask in self._masks(self.labels)]
        for true, (t, index, mask) in zip(self._contours, self._masks(pred), strict=True):
            values[t, index] = true.f_measure(mask, self.radius)
        return values

    def _masks(self, labels: Labels) -> Iterator[tuple[int, int, Mask]]:
        """Yield the frame, the object's index and its mask, for every frame and object."""
        if labels.shape != self.labels.shape:
            raise ValueError(
                f"labels [T, h, w] of equal shape are needed, got {self.labels.shape} and {labels.shape}"
            )
        for t, frame in enumerate(labels):
            for index in range(self.num_objects):
                yield t, index, (frame == index + 1).view(np.uint8)


class _Region(NamedTuple):
    """The bounding box of an object on a frame, and its number of pixels."""

    box: Box
    area: int

    @classmethod
    def of(cls, mask: Mask) -> "_Region":
        return cls(_box(mask, 0), int(np.count_nonzero(mask)))


class _Contour(NamedTuple):
    """The boundary of an object on a frame, within a box with a margin of the matching radius."""

    box: Box
    points: NDArray[np.int32]  # flat indices of the boundary pixels in the box
    near: NDArray[np.uint8]  # dilated boundary, one bit per pixel of the box

    @classmethod
    def of(cls, mask: Mask, radius: int) -> "_Contour":
        box = _box(mask, radius + 2)
        boundary = _boundary(mask[box])
        near = np.packbits(_dilate(boundary, radius)) if boundary.size else boundary
        return cls(box, np.flatnonzero(boundary).astype(np.int32), near)

    def f_measure(self, predicted: Mask, radius: int) -> float:
        box = _box(predicted, radius + 2)
        boundary = _boundary(predicted[box])
        num_true, num_predicted = len(self.points), np.count_nonzero(boundary)
        if not num_true or not num_predicted:
            return 1.0 if num_true == num_predicted else 0.0
        ours, theirs = _overlap(self.box, box), _overlap(box, self.box)  # no matches outside the overlap
        if ours is None or theirs is None:
            return 0.0
        shape = _shape(self.box)
        near_true = np.unpackbits(self.near, count=shape[0] * shape[1]).reshape(shape)[ours]
        true = np.zeros(shape, np.uint8)
        true.ravel()[self.points] = 1
        near_predicted = _dilate(boundary, radius)[theirs]
        precision = np.count_nonzero(boundary[theirs] & near_true) / num_predicted
        recall = np.count_nonzero(true[ours] & near_predicted) / num_true
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _box(mask: Mask, margin: int) -> Box:
    """Return the bounding box of a mask with a margin; empty slices for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return slice(0, 0), slice(0, 0)
    rows = slice(max(y - margin, 0), min(y + height + margin, mask.shape[0]))
    return rows, slice(max(x - margin, 0), min(x + width + margin, mask.shape[1]))


def _shape(box: Box) -> tuple[int, int]:
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _overlap(inside: Box, other: Box) -> Box | None:
    """Return the overlap of two boxes in the coordinates of ``inside``, or None without overlap."""
    spans = []
    for a, b in zip(inside, other, strict=True):
        low, high = max(a.start, b.start), min(a.stop, b.stop)
        if low >= high:
            return None
        spans.append(slice(low - a.start, high - a.start))
    return spans[0], spans[1]


def _boundary(inside: Mask) -> Mask:
    """Return the mask of pixels in a box that differ from their right, lower or lower right neighbour.

    In the last row and column of the frame, only neighbours within the frame count, so that its last pixel is
    never a boundary pixel (Martin's boundary map, 2003). The last row and column of the box are those of the
    frame or empty.
    """
    boundary = np.zeros(inside.shape, np.uint8)
    boundary[:, :-1] = inside[:, :-1] ^ inside[:, 1:]
    boundary[:-1] |= inside[:-1] ^ inside[1:]
    boundary[:-1, :-1] |= inside[:-1, :-1] ^ inside[1:, 1:]
    return boundary


def _dilate(mask: Mask, radius: int) -> Mask:
    return cv2.dilate(mask, _disk(radius)).view(np.uint8)


@lru_cache(maxsize=8)
def _disk(radius: int) -> Mask:
    """Return a disk with the given radius as a structuring element."""
    offset = np.arange(-radius, radius + 1) ** 2
    return (offset[:, None] + offset <= radius**2).astype(np.uint8)
