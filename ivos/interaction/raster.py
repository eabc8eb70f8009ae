"""From strokes to the three interaction channels that A-Net reads beside the image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.interaction.strokes import Stroke

_BRUSH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


def _polyline(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bresenham's pixels along an integer polyline [P, 2], ends included; joints come twice.

    On the way from one point to the next the axis with the larger difference (``major``) steps by one pixel
    and the other has moved by round-half-up(k * minor / major) pixels after k steps, which is what the
    incremental rule "D = 2 minor - major, step when D >= 0" works out to.
    """
    if len(points) == 1:
        return points
    start, delta = points[:-1], np.diff(points, axis=0)
    length = np.abs(delta)
    major = length.max(axis=1)
    segment = np.repeat(np.arange(len(delta)), major + 1)
    step = np.arange(len(segment)) - np.repeat(np.cumsum(major + 1) - (major + 1), major + 1)
    span = np.maximum(major[segment], 1)[:, None]
    moved = (2 * length[segment] * step[:, None] + span) // (2 * span)
    return start[segment] + np.sign(delta[segment]) * moved


def rasterise(strokes: Sequence[Stroke], height: int, width: int) -> NDArray[np.float32]:
    """Draw strokes with the released system's brush.

    Points are round(path * (width, height)), joined by Bresenham lines and drawn one pixel up and to the left
    (clamped to the frame), dilated by a 5x5 ellipse and blurred by a 5x5 Gaussian of sigma 6.

    Returns:
        float32 [height, width] in [0, 1]; zero where there is no stroke.
    """
    canvas = np.zeros((height, width), np.float32)
    if not strokes:
        return canvas
    for stroke in strokes:
        points = np.round(np.asarray(stroke["path"], np.float64) * (width, height)).astype(np.int64)
        x, y = (_polyline(points) - 1).clip(0, (width - 1, height - 1)).T
        canvas[y, x] = 1
    return np.asarray(cv2.GaussianBlur(cv2.dilate(canvas, _BRUSH), (5, 5), 6), np.float32)


def join_channels(
    previous: NDArray[np.float32], positive: NDArray[np.float32], negative: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Lay out the channels [..., 3, h, w] that A-Net reads, from [..., h, w] each.

    They are the previous mask, positive strokes, and negative strokes, the latter where the previous mask is.
    """
    return np.stack([previous, positive, negative * previous], axis=-3)


def interaction_channels(
    strokes: Sequence[Stroke],
    mask: NDArray[np.uint8] | None,
    num_objects: int,
    height: int,
    width: int,
    negatives_everywhere: bool = False,
) -> NDArray[np.float32]:
    """Return the channels (previous mask, positive strokes, negative strokes) of every object of one frame.

    Args:
        strokes: all strokes drawn on the frame so far; an object's own are positive, all others negative.
        mask: uint8 [height, width], the frame's mask before this round; None in the first round of a video,
            when the previous mask is 0.5 everywhere and there are no negatives.
        num_objects: N.
        height: the height of the frame in pixels.
        width: the width of the frame in pixels.
        negatives_everywhere: keep negative strokes in the first round and outside the previous mask, which
            the released system drops.

    Returns:
        float32 [N, 3, height, width].
    """
    channels = np.zeros((num_objects, 3, height, width), np.float32)
    for index in range(num_objects):
        positive = rasterise([s for s in strokes if s["object_id"] == index + 1], height, width)
        previous = np.full_like(positive, 0.5) if mask is None else (mask == index + 1).astype(np.float32)
        others = [s for s in strokes if s["object_id"] != index + 1]
        if negatives_everywhere:
            channels[index] = np.stack([previous, positive, rasterise(others, height, width)])
            continue
        negative = np.zeros_like(positive) if mask is None else rasterise(others, height, width)
        channels[index] = join_channels(previous, positive, negative)
    return channels
