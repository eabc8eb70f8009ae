"""Interpolation of masks between two frames, by the shapes and positions of the objects."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Shape:
    """The shape of an object as a signed distance map around the object's centre.

    Attributes:
        depth: Distance to the outline in pixels, float32 [h, w], negative outside.
        centre: Coordinates x and y of the object's centre in the frame.
    """

    depth: NDArray[np.float32]
    centre: tuple[float, float]


class Interpolation:
    """Interpolation between two masks [h, w].

    The centre of an object that is in both masks moves on a straight line between its two positions, while
    the signed distance maps of its two shapes are interpolated linearly. An object that is in only one of the
    masks shrinks to nothing towards the other mask. Where objects overlap, a pixel belongs to the object
    whose outline is farther away.
    """

    def __init__(self, first: Labels, last: Labels) -> None:
        self._size = first.shape
        self._pairs: dict[int, tuple[_Shape | None, _Shape | None]] = {}
        for number in sorted({*np.unique(first).tolist(), *np.unique(last).tolist()} - {0}):
            masks = first == number, last == number
            radius = max(_radius(mask) for mask in masks)
            self._pairs[number] = (_shape(masks[0], radius), _shape(masks[1], radius))

    def at(self, share: float) -> Labels:
        """Return the interpolated labels uint8 [h, w]; `share` is 0 at the first and 1 at the last mask."""
        labels = np.zeros(self._size, np.uint8)
        deepest = np.zeros(self._size, np.float32)
        for number, (first, last) in self._pairs.items():
            depth = _between(first, last, share)
            rows, columns, cut = _placed(depth, self._size)
            better = cut > deepest[rows, columns]
            labels[rows, columns][better] = number
            deepest[rows, columns][better] = cut[better]
        return labels


def _radius(mask: Mask) -> int:
    """Return the largest possible distance of a mask's pixels from its centre, with a margin."""
    if not mask.any():
        return 0
    rows, columns = np.nonzero(mask)
    return int(max(np.ptp(rows), np.ptp(columns))) + 4


def _shape(mask: Mask, radius: int) -> _Shape | None:
    """Return a mask's shape in a square of 2 x radius + 1 pixels around its centre; None if it is empty."""
    if not mask.any():
        return None
    rows, columns = np.nonzero(mask)
    y, x = float(rows.mean()), float(columns.mean())
    solid = np.pad(mask, 2 * radius + 1).view(np.uint8)
    inside, outside = (
        cv2.distanceTransform(each, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for each in (solid, 1 - solid)
    )
    # Distance 0 is on the edge between two pixels.
    depth = inside - outside + (0.5 - solid.astype(np.float32))
    side = 2 * radius + 1
    moved = np.asarray([[1, 0, -x - radius - 1], [0, 1, -y - radius - 1]], np.float32)
    cut = cv2.warpAffine(depth, moved, (side, side), flags=cv2.INTER_LINEAR)
    return _Shape(np.asarray(cut, np.float32), (x, y))


def _between(first: _Shape | None, last: _Shape | None, share: float) -> _Shape:
    """Interpolate two shapes of the same size; `share` is 0 at the first and 1 at the last shape."""
    if first is not None and last is not None:
        depth = (1 - share) * first.depth + share * last.depth
        centre = [(1 - share) * a + share * b for a, b in zip(first.centre, last.centre, strict=True)]
        return _Shape(np.asarray(depth, np.float32), (centre[0], centre[1]))
    one, vanished = (first, share) if first is not None else (last, 1 - share)
    assert one is not None
    return _Shape(one.depth - np.float32(vanished * float(one.depth.max())), one.centre)


def _placed(shape: _Shape, size: tuple[int, ...]) -> tuple[slice, slice, NDArray[np.float32]]:
    """Return the rows and columns of a frame that a shape may cover, and its signed distances there."""
    side = shape.depth.shape[0]
    left, top = (round(value) - side // 2 for value in shape.centre)
    shift = [value - round(value) for value in shape.centre]
    moved = np.asarray([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    depth = cv2.warpAffine(
        shape.depth, moved, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    rows = slice(max(0, top), max(0, min(size[0], top + side)))
    columns = slice(max(0, left), max(0, min(size[1], left + side)))
    cut = depth[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return rows, columns, np.asarray(cut, np.float32)
