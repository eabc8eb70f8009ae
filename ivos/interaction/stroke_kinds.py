"""Kinds of strokes that simulated users draw in a region: boundaries, skeletons, curves, clicks and boxes.

The arguments of each function are a mask of the region, uint8 [h, w] of 0 and 1 with at least one pixel, and
a random generator. The result is a list of polylines of pixels (x, y), each [n, 2]. The list is empty if the
region is too small for strokes of that kind.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Path = NDArray[np.float64]
RING_RADIUS = 0.04
"""The radius of a ring that represents a click, as a fraction of the frame's height."""


def boundary(region: Mask, rng: np.random.Generator) -> list[Path]:
    """Draw a random part (a third to all) of the boundary of the largest component, slightly inside."""
    distance = _distances(region)
    inset = min(float(rng.uniform(1, 4)), 0.5 * float(distance.max()))
    contour = _longest_contour((distance >= inset).astype(np.uint8))
    return [] if contour is None else [_arc(contour, float(rng.uniform(1 / 3, 1)), rng)]


def skeleton(region: Mask, rng: np.random.Generator) -> list[Path]:
    """Draw a random part (a third to all) of the region's skeleton."""
    from skimage.morphology import skeletonize  # imported here, because the import is slow

    lines = skeletonize(region > 0).astype(np.uint8)
    contour = _longest_contour(lines)  # follows each line of the skeleton forwards and backwards
    return [] if contour is None else [_arc(contour, float(rng.uniform(1 / 3, 1)), rng)]


def curve(region: Mask, rng: np.random.Generator) -> list[Path]:
    """Draw a Bézier curve of four random pixels of the region, up to the point where it leaves the region."""
    rows, columns = np.nonzero(region)
    chosen = rng.integers(len(rows), size=4)
    points = np.stack([columns[chosen], rows[chosen]], 1).astype(np.float64)
    t = np.linspace(0, 1, 32)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    path = weights @ points
    at = np.round(path).astype(int)
    inside = region[at[:, 1], at[:, 0]] > 0  # the first point is always inside
    length = len(path) if inside.all() else int(np.argmin(inside))
    return [path[:length]]


def click(region: Mask, rng: np.random.Generator) -> list[Path]:
    """Click on a pixel well inside the region: a point or a ring of radius ``RING_RADIUS``, equally often."""
    distance = _distances(region)
    rows, columns = np.nonzero(distance >= 0.5 * distance.max())
    chosen = int(rng.integers(len(rows)))
    centre = np.array([columns[chosen], rows[chosen]], np.float64)
    if rng.random() < 0.5:
        return [centre[None]]
    angles = np.linspace(0, 2 * np.pi, 17)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    return [centre + RING_RADIUS * region.shape[0] * circle]


def box(region: Mask, rng: np.random.Generator) -> list[Path]:
    """Draw the bounding box of the region, with each side moved by up to a twentieth of the box's size."""
    x, y, width, height = cv2.boundingRect(region)
    left, right = x + width * rng.uniform(-0.05, 0.05), x + width - 1 + width * rng.uniform(-0.05, 0.05)
    top, bottom = y + height * rng.uniform(-0.05, 0.05), y + height - 1 + height * rng.uniform(-0.05, 0.05)
    return [np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])]


STROKE_KINDS: dict[str, Callable[[Mask, np.random.Generator], list[Path]]] = {
    "boundary": boundary,
    "skeleton": skeleton,
    "curve": curve,
    "click": click,
    "box": box,
}
"""The kinds by name. Their order determines which kind a simulated user draws for a given random number."""


def fractions(path: Path, size: tuple[int, int]) -> list[list[float]]:
    """Return the relative coordinates of a stroke that covers given pixels (x, y) of a frame of size (h, w).

    The points are shifted by one pixel, because strokes are rasterised one pixel up and to the left; see
    :func:`ivos.interaction.rasterise`.
    """
    height, width = size
    points = np.clip((np.round(path) + 1) / (width, height), 0, 1)
    return [[float(x), float(y)] for x, y in points]


def largest_piece(region: Mask) -> Mask:
    """Return the largest connected component of a region, uint8 [h, w], or an empty mask if it is empty."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
    if count < 2:
        return np.zeros_like(region)
    return (pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _distances(region: Mask) -> NDArray[np.float32]:
    """Return the distance of each pixel of the region to the outside, which includes the frame's border."""
    padded = cv2.copyMakeBorder(region, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def _longest_contour(mask: Mask) -> Path | None:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longest = max(contours, key=len, default=None)
    return None if longest is None else np.asarray(longest, np.float64).reshape(-1, 2)


def _arc(contour: Path, share: float, rng: np.random.Generator) -> Path:
    """Return every second pixel of a part of a closed contour that begins at a random point."""
    start = int(rng.integers(len(contour)))
    length = max(1, round(share * len(contour)))
    return np.asarray(np.roll(contour, -start, axis=0)[:length:2])
