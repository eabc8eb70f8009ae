"""Rasterisation of strokes, and the three interaction channels that are A-Net's input besides the image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.interaction.strokes import Stroke

_BRUSH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


def _polyline(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return Bresenham's pixels along an integer polyline [P, 2] with its ends; inner points occur twice.

    Between two points, the axis with the larger difference (``major``) advances by one pixel per step. After
    k steps the other axis has advanced by round-half-up(k * minor / major) pixels. This is equivalent to the
    incremental rule "D = 2 minor - major, step when D >= 0".
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
    """Draw strokes with the brush of the authors' released system.

    The points round(path * (width, height)) are joined by Bresenham lines, which are drawn one pixel up and
    to the left (clamped to the frame). The lines are dilated by a 5x5 ellipse and blurred by a 5x5 Gaussian
    of sigma 6.

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
    """Stack the interaction channels [..., 3, h, w] of A-Net from maps [..., h, w].

    The channels are the previous mask, the positive strokes, and the negative strokes multiplied by the
    previous mask.
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
        strokes: All strokes drawn on the frame so far. For an object, its own strokes are positive and all
            others negative.
        mask: Mask of the frame before this round, uint8 [height, width]. None in the first round of a video:
            the previous mask is then 0.5 everywhere, and negative strokes are dropped.
        num_objects: Number of objects N.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        negatives_everywhere: Whether to keep negative strokes in the first round and outside the previous
            mask, which the authors' released system drops.

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
