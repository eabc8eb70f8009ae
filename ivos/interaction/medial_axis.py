"""From an error to its axis: the opening by a disk, and the thinning to one pixel."""

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import morphology

# `skimage.morphology.medial_axis` builds a table of neighbourhoods at every call: 15 to 20 ms, more than all
# the rest of a stroke takes. Of what is inside it only this loop has to be compiled, and there is no public
# way to it; where it is not found, the public function draws the same axis, slower.
try:
    from skimage.morphology._skeletonize_various_cy import _skeletonize_loop
except ImportError:
    _skeletonize_loop = None

Mask = NDArray[np.uint8]  # 0 or 1
Box = tuple[slice, slice]  # rows and columns


def opening(mask: Mask, radius: float) -> Mask:
    """Erosion and dilation by ``skimage.morphology.disk(radius)``; what lies outside the frame is left out.

    A disk of a broken radius is lopsided: the result can reach beyond the mask.
    """
    kernel = morphology.disk(radius)
    eroded, opened = _eroded(mask, kernel), np.zeros_like(mask)
    for _, near in _boxes(eroded, len(kernel)):
        opened[near] |= _dilate(eroded[near], kernel)
    return opened


def _eroded(mask: Mask, kernel: Mask) -> Mask:
    """``cv2.erode(mask, kernel)`` for a disk, where its square and its axes leave something at all.

    A rectangle takes OpenCV a tenth of the time that a disk takes.
    """
    centre = len(kernel) // 2
    if not kernel[centre, centre]:  # a disk so small and lopsided that it may miss the frame at its corners
        return _erode(mask, kernel) & _dilate(np.ones_like(mask), kernel)
    square = _reach(kernel.diagonal(), centre)
    across = _reach(kernel[centre], centre)
    left = mask
    for size in ((square, square), (across, 0), (0, across)):
        left = left & _erode(mask, np.ones([2 * reach + 1 for reach in size], np.uint8))
    eroded = np.zeros_like(mask)
    for box, near in _boxes(left, len(kernel)):
        rows, columns = (slice(b.start - n.start, b.stop - n.start) for b, n in zip(box, near, strict=True))
        eroded[box] = _erode(mask[near], kernel)[rows, columns]
    return eroded


def _erode(mask: Mask, kernel: Mask) -> Mask:
    return np.asarray(cv2.erode(mask, kernel), np.uint8)


def _dilate(mask: Mask, kernel: Mask) -> Mask:
    return np.asarray(cv2.dilate(mask, kernel), np.uint8)


def _boxes(mask: Mask, margin: int) -> Iterator[tuple[Box, Box]]:
    """Return the bounding box of each connected piece, and the same with a margin."""
    for outline in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        x, y, width, height = cv2.boundingRect(outline)
        near = slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)
        yield (slice(y, y + height), slice(x, x + width)), near


def _reach(line: Mask, centre: int) -> int:
    """How far a line through a disk reaches to either side of the centre."""
    inside = np.flatnonzero(line)
    return int(min(centre - inside[0], inside[-1] - centre))


def medial_axis(mask: Mask, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``skimage.morphology.medial_axis`` with background all around the frame, its ties broken by ``rng``.

    Pixels go one by one, unless a part would come off: those nearest the background first, of these those
    with the most neighbours, of these by chance.
    """
    x, y, width, height = cv2.boundingRect(mask)
    box = slice(y, y + height), slice(x, x + width)
    axis = np.zeros(mask.shape, bool)
    if width:
        axis[box] = _thinned(np.pad(mask[box], 1), rng)[1:-1, 1:-1]
    return axis


def _thinned(mask: Mask, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the medial axis of a mask that does not touch the frame."""
    if _skeletonize_loop is None:
        return np.asarray(morphology.medial_axis(mask.astype(bool), rng=rng), bool)
    rows, columns = map(np.ascontiguousarray, np.nonzero(mask.view(bool)))
    neighbours = cv2.boxFilter(mask, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    corner = 9 - neighbours[rows, columns].astype(np.int64)
    tie_break = rng.permutation(np.arange(len(rows)))
    distance = np.rint(np.square(_distance(mask)[rows, columns], dtype=np.float64)).astype(np.int64)
    rank = (distance * 16 + corner) * len(rows) + tie_break
    result = mask.copy()
    _skeletonize_loop(result, rows, columns, np.argsort(rank).astype(np.int32), _removal_table())
    return result.astype(bool)


def _distance(mask: Mask) -> NDArray[np.floating]:
    """Distance of each pixel to the nearest 0; its square, rounded, is exact."""
    if min(mask.shape) > 2000:  # where single precision no longer tells neighbouring squares apart
        return np.asarray(ndimage.distance_transform_edt(mask), np.float64)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # several times faster
    return np.asarray(distance, np.float32)


@lru_cache(maxsize=1)
def _removal_table() -> NDArray[np.uint8]:
    """For each of the 512 patterns of a 3x3 neighbourhood: 1 where its centre has to stay.

    It stays where it is set and either its removal changes the number of connected pieces or the pattern has
    fewer than three pixels.
    """
    table = np.zeros(512, np.uint8)
    for index in range(512):
        if index & 16:
            pattern = np.array([(index >> bit) & 1 for bit in range(9)], np.uint8).reshape(3, 3)
            without = np.array([(index & ~16) >> bit & 1 for bit in range(9)], np.uint8).reshape(3, 3)
            pieces = [ndimage.label(p, np.ones((3, 3)))[1] for p in (pattern, without)]
            table[index] = pieces[0] != pieces[1] or pattern.sum() < 3
    return table
