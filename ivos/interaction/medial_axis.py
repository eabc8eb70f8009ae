"""The medial axis of an error mask: opening by a disk, and thinning to lines of one pixel."""

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import morphology

# `skimage.morphology.medial_axis` builds a table of neighbourhoods at every call, which takes 15 to 20 ms,
# longer than all other computations of a stroke. This module caches the table and calls the compiled loop of
# scikit-image directly. The loop is private; if it cannot be imported, the public function computes the same
# axis more slowly.
try:
    from skimage.morphology._skeletonize_various_cy import _skeletonize_loop
except ImportError:
    _skeletonize_loop = None

Mask = NDArray[np.uint8]  # 0 or 1
Box = tuple[slice, slice]  # rows and columns


def opening(mask: Mask, radius: float) -> Mask:
    """Erode and dilate a mask by ``skimage.morphology.disk(radius)``, ignoring pixels outside the frame.

    A disk whose radius is not an integer is asymmetric, so that the result can contain pixels outside the
    mask.
    """
    kernel = morphology.disk(radius)
    eroded, opened = _eroded(mask, kernel), np.zeros_like(mask)
    for _, near in _boxes(eroded, len(kernel)):
        opened[near] |= _dilate(eroded[near], kernel)
    return opened


def _eroded(mask: Mask, kernel: Mask) -> Mask:
    """Return ``cv2.erode(mask, kernel)`` for a disk, computed faster.

    The mask is first eroded by rectangles inside the disk, which OpenCV does in a tenth of the time. Only the
    surroundings of the remaining pixels are eroded by the disk itself.
    """
    centre = len(kernel) // 2
    # The disk is so small and asymmetric that it may miss the frame at corners.
    if not kernel[centre, centre]:
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
    """Yield the bounding box of each connected component, and the box extended by a margin."""
    for outline in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        x, y, width, height = cv2.boundingRect(outline)
        near = slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)
        yield (slice(y, y + height), slice(x, x + width)), near


def _reach(line: Mask, centre: int) -> int:
    """Return how far a line through the centre of a disk extends to both sides."""
    inside = np.flatnonzero(line)
    return int(min(centre - inside[0], inside[-1] - centre))


def medial_axis(mask: Mask, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return ``skimage.morphology.medial_axis`` of a mask, with background around the frame.

    Pixels are removed one by one, unless the removal would change the connectivity. Pixels nearest to the
    background are removed first; of these, pixels with the most neighbours; ties are broken by ``rng``.
    """
    x, y, width, height = cv2.boundingRect(mask)
    box = slice(y, y + height), slice(x, x + width)
    axis = np.zeros(mask.shape, bool)
    if width:
        axis[box] = _thinned(np.pad(mask[box], 1), rng)[1:-1, 1:-1]
    return axis


def _thinned(mask: Mask, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the medial axis of a mask that does not touch the border of the array."""
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
    """Return the distance of each pixel to the nearest 0, so accurate that its rounded square is exact."""
    if min(mask.shape) > 2000:  # single precision would not distinguish neighbouring integers as squares
        return np.asarray(ndimage.distance_transform_edt(mask), np.float64)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # several times faster
    return np.asarray(distance, np.float32)


@lru_cache(maxsize=1)
def _removal_table() -> NDArray[np.uint8]:
    """Return for each of the 512 patterns of a 3x3 neighbourhood whether its centre has to be kept.

    A centre is kept if it is set, and if either its removal changes the number of connected components or the
    pattern has fewer than three pixels.
    """
    table = np.zeros(512, np.uint8)
    for index in range(512):
        if index & 16:
            pattern = np.array([(index >> bit) & 1 for bit in range(9)], np.uint8).reshape(3, 3)
            without = np.array([(index & ~16) >> bit & 1 for bit in range(9)], np.uint8).reshape(3, 3)
            pieces = [ndimage.label(p, np.ones((3, 3)))[1] for p in (pattern, without)]
            table[index] = pieces[0] != pieces[1] or pattern.sum() < 3
    return table
