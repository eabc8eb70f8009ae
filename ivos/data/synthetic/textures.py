"""Random textures and outlines of synthetic video."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[Any]  # float32, which the type stubs of OpenCV do not express
KINDS = ("clouds", "stripes", "spots", "cells", "checks")


def palette(rng: np.random.Generator, size: int = 4) -> Float:
    """Return random matching colours: similar hues except for one, from dark to light.

    Returns:
        Colours, float32 RGB [size, 3] in [0, 1].
    """
    hue = rng.uniform(0, 360) + rng.normal(0, 18, size)
    hue[rng.integers(size)] += rng.uniform(60, 300)
    value = np.linspace(rng.uniform(0.15, 0.5), rng.uniform(0.6, 1.0), size)
    hsv = np.stack([hue % 360, rng.uniform(0.1, 0.9, size), rng.permutation(value)], -1)
    return cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0]


def fractal(
    rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 4, roughness: float = 0.5
) -> Float:
    """Return fractal noise: a sum of octaves of smooth noise with decreasing amplitude.

    Args:
        rng: Random generator.
        height: Height of the result.
        width: Width of the result.
        cells: Number of cells along the longer side in the coarsest octave.
        octaves: Number of octaves; each has twice as many cells as the previous one.
        roughness: Ratio of the amplitudes of consecutive octaves.

    Returns:
        The noise, float32 [height, width], normalised to [0, 1].
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(height, width) / (cells * 2**octave)
        if step < 1.5:
            break
        grid = rng.standard_normal((int(height / step) + 2, int(width / step) + 2)).astype(np.float32)
        total += roughness**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.normalize(total, total, 0, 1, cv2.NORM_MINMAX)


def texture(
    rng: np.random.Generator,
    height: int,
    width: int,
    colours: Float,
    cells: float = 4,
    kind: str | None = None,
) -> Float:
    """Return a random texture of the given colours: clouds, stripes, spots, cells or checks.

    Args:
        rng: Random generator.
        height: Height of the result.
        width: Width of the result.
        colours: Colours, float32 RGB [C, 3] in [0, 1].
        cells: Number of repetitions of the pattern along the longer side.
        kind: One of :data:`KINDS`; None chooses one at random.

    Returns:
        The texture, float32 RGB [height, width, 3] in [0, 1].
    """
    kind = kind or str(rng.choice(KINDS))
    if kind == "clouds":
        field = fractal(rng, height, width, cells, 5, 0.6)
    elif kind in ("stripes", "checks"):
        field = _waves(rng, height, width, cells, crossed=kind == "checks")
    else:
        field = _cells(rng, height, width, cells, spots=kind == "spots")
    stops = np.linspace(0, 1, len(colours))
    surface = np.stack([np.interp(field, stops, channel) for channel in colours.T], -1).astype(np.float32)
    grain = fractal(rng, height, width, 6 * cells, 3, 0.7)
    return (surface * (0.75 + 0.5 * grain[..., None])).clip(0, 1)


def backdrop(rng: np.random.Generator, height: int, width: int, colours: Float) -> Float:
    """Return a backdrop by the "dead leaves" model: overlapping textured shapes of many sizes, unevenly lit.

    Such images have the edges and statistics of natural images (Lee, Mumford, Huang, "Occlusion models for
    natural images", 2001).

    Returns:
        The backdrop, float32 RGB [height, width, 3] in [0, 1].
    """
    kinds = ["clouds" if rng.random() < 0.6 else None, None, None]
    surfaces = [
        texture(rng, height, width, rng.permutation(colours), rng.uniform(2, 10), kind) for kind in kinds
    ]
    scene = surfaces[0].copy()
    longer = max(height, width)
    for _ in range(rng.integers(0, 60)):
        radius = min(0.02 * rng.uniform(0.01, 1) ** -0.6, 0.2) * longer
        centre = rng.uniform(0, 1, 2) * (width, height)
        points = np.round(blob(rng, rng.uniform(0, 0.5)) * radius + centre).astype(np.int32)
        x, y, w, h = cv2.boundingRect(points.clip(0, (width - 1, height - 1)))
        inside = cv2.fillPoly(np.zeros((h, w), np.uint8), [points - (x, y)], 1).astype(bool)
        tone = rng.uniform(0.6, 1.3)
        scene[y : y + h, x : x + w][inside] = tone * surfaces[rng.integers(3)][y : y + h, x : x + w][inside]
    light = 0.7 + 0.6 * fractal(rng, height, width, 1.5, 2)
    return cv2.GaussianBlur(scene * light[..., None], (3, 3), 0.7).clip(0, 1)


def faded(surface: Float, contrast: float) -> Float:
    """Reduce the contrast of a surface [h, w, 3] about its mean colour."""
    if contrast == 1:
        return surface
    mean = surface.mean((0, 1), dtype=np.float32)
    return mean + np.float32(contrast) * (surface - mean)


def blob(rng: np.random.Generator, irregularity: float = 0.5, points: int = 72) -> NDArray[np.float64]:
    """Return a closed curve about the origin whose radius varies between 1 - irregularity and 1.

    Returns:
        The points of the curve, float64 [points, 2].
    """
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    order = np.arange(2, 7)[:, None]
    waves = np.sin(order * angle + rng.uniform(0, 2 * np.pi, (5, 1))) * rng.uniform(0, 1, (5, 1)) / order
    wave = waves.sum(0)
    radius = 1 - irregularity * (wave.max() - wave) / max(np.ptp(wave), 1e-6)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def polygon(rng: np.random.Generator, points: int = 96) -> NDArray[np.float64]:
    """Return a regular polygon or a star about the origin with its corners at radius 1.

    Returns:
        Points along the outline, float64 [points, 2].
    """
    corners = int(rng.integers(3, 7))
    star = corners > 3 and rng.random() < 0.4
    radius = np.tile([1, rng.uniform(0.45, 0.7)], corners) if star else np.ones(corners)
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    tips = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    along = np.linspace(0, len(tips), points, endpoint=False)
    return np.stack([np.interp(along, np.arange(len(tips) + 1), np.append(c, c[0])) for c in tips.T], -1)


def capsule(length: float, width: float, points: int = 32) -> NDArray[np.float64]:
    """Return the outline of a limb from the origin along y: a bar with round ends, narrower at its tip.

    Returns:
        Points along the outline, float64 [points, 2].
    """
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    tip = np.sin(angle) > 0
    radius = np.where(tip, 0.7, 1.0) * width / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) + tip * length], -1)


def _waves(rng: np.random.Generator, height: int, width: int, cells: float, crossed: bool) -> Float:
    """Return stripes or checks with soft edges, distorted by noise; float32 [height, width] in [0, 1]."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    direction = rng.uniform(0, np.pi)
    bend = rng.uniform(0, 0.25) * fractal(rng, height, width, 2, 2)
    waves = [
        np.sin(2 * np.pi * cells * (x * np.cos(angle) + y * np.sin(angle) + bend) + rng.uniform(0, 6))
        for angle in ([direction, direction + np.pi / 2] if crossed else [direction])
    ]
    return (0.5 + rng.uniform(0.6, 3) * np.prod(waves, 0)).clip(0, 1).astype(np.float32)


def _cells(rng: np.random.Generator, height: int, width: int, cells: float, spots: bool) -> Float:
    """Return Voronoi cells of random tones, or spots at their seeds; float32 [height, width] in [0, 1]."""
    step = max(height, width) / (1.5 * cells)
    seeds = np.mgrid[0 : height + step : step, 0 : width + step : step].reshape(2, -1).T
    seeds = (
        (seeds + rng.uniform(-0.45, 0.45, seeds.shape) * step).clip(0, (height - 1, width - 1)).astype(int)
    )
    empty = np.ones((height, width), np.uint8)
    empty[tuple(seeds.T)] = 0
    distance, cell = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    tone = rng.uniform(0, 1, cell.max() + 1).astype(np.float32)[cell]
    if not spots:
        return tone
    radius = rng.uniform(0.25, 0.42) * step
    spot = (radius + 0.5 - distance).clip(0, 1)
    return spot * (0.6 + 0.4 * tone) + (1 - spot) * 0.3 * fractal(rng, height, width, cells)
