"""Random outlines and surfaces of the objects in copy-paste clips."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.copy_paste.config import CANVAS, Float, Image
from ivos.data.copy_paste.motion import rotation
from ivos.data.copy_paste.pictures import Pictures

_TINT = 0.3  # larger values give colours that do not occur in real scenes


def tint(image: Image, strength: float, rng: np.random.Generator) -> Float:
    """Mix the colour channels at random, and change contrast and brightness."""
    strength *= _TINT
    mix = np.eye(3) + strength * rng.normal(0, 0.25, (3, 3))
    if rng.random() < 0.25 * strength:
        mix = mix[rng.permutation(3)]
    mix *= np.exp(rng.normal(0, 0.3 * strength))
    offset = strength * rng.normal(0, 25) - (mix.sum(1) - 1) * 100
    return np.clip(cv2.transform(image, np.column_stack([mix, offset])).astype(np.float32), 0, 255)


def material(
    pictures: Pictures, size: tuple[int, int], number: int | None, rng: np.random.Generator
) -> Float:
    """Return a surface, float32 RGB [h, w, 3]: a tinted piece of a picture at a random scale."""
    which = int(rng.integers(len(pictures))) if number is None else number
    low, high = (np.log(0.04), np.log(0.3)) if rng.random() < 0.4 else (np.log(0.3), np.log(2.5))
    scale = float(np.exp(rng.uniform(low, high)))
    return tint(pictures.patch(which, size, scale, rng.uniform(-np.pi, np.pi), rng), 1.0, rng)


def smooth_noise(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Float:
    """Return smooth noise [h, w] with a number of cells per side."""
    grid = rng.standard_normal((cells + 1, cells + 1), np.float32)
    return np.asarray(cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def painted_surface(pictures: Pictures, number: int | None, rng: np.random.Generator, most: int = 4) -> Float:
    """Return a surface [C, C, 3] of one or more materials, separated by curves, lines or spots."""
    size = (CANVAS, CANVAS)
    surface = material(pictures, size, number, rng)
    for _ in range(int(rng.integers(0, most))):
        kind, where = rng.random(), np.zeros(size, np.uint8)
        if kind < 0.35:
            where = (smooth_noise(size, int(rng.integers(1, 5)), rng) > rng.uniform(-0.3, 0.8)).astype(
                np.uint8
            )
        elif kind < 0.7:  # a half plane or a band
            angle, rows = rng.uniform(0, np.pi), np.arange(CANVAS) - CANVAS / 2
            height = np.cos(angle) * rows[None] + np.sin(angle) * rows[:, None]
            low = rng.uniform(-0.3, 0.3) * CANVAS
            high = CANVAS if rng.random() < 0.5 else low + rng.uniform(0.05, 0.3) * CANVAS
            where = ((height > low) & (height < high)).astype(np.uint8)
        else:
            for _ in range(int(rng.integers(1, 5))):
                fill_ellipse(
                    where, rng.uniform(0.2, 0.8, 2) * CANVAS, rng.uniform(0.04, 0.22, 2) * CANVAS, rng
                )
        where = np.asarray(where, np.uint8)
        np.copyto(surface, material(pictures, size, None, rng), where=where[..., None] > 0)
    if rng.random() < 0.5:  # shading as of a curved surface
        surface *= 1 + 0.25 * np.clip(smooth_noise(size, 1, rng), -1.5, 1.5)[..., None]
    return surface


def fill_ellipse(
    mask: Image, centre: NDArray[np.float64], axes: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Set an ellipse of random rotation to 1, in place."""
    at, radii = (int(centre[0]), int(centre[1])), (max(1, int(axes[0])), max(1, int(axes[1])))
    cv2.ellipse(mask, at, radii, float(rng.uniform(0, 180)), 0, 360, 1, -1)


def random_outline(rng: np.random.Generator) -> Image:
    """Return a random shape in the middle of the canvas, uint8 [C, C] of 0 and 1."""
    mask, kind = np.zeros((CANVAS, CANVAS), np.uint8), rng.random()
    middle = CANVAS / 2
    if kind < 0.4:  # a closed curve with a wavy radius
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radius = np.ones_like(angles)
        for k in range(1, 6):
            radius += rng.normal(0, 0.3 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
        points = (
            np.stack([np.cos(angles) * rng.uniform(0.4, 1), np.sin(angles)], 1)
            * np.clip(radius, 0.25, 1.7)[:, None]
        )
    elif kind < 0.65:  # a polygon
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.4, 1, len(angles))[:, None]
    else:  # a union of boxes and ellipses
        for _ in range(int(rng.integers(2, 6))):
            centre, axes = (
                middle + rng.uniform(-0.25, 0.25, 2) * CANVAS,
                rng.uniform(0.06, 0.25, 2) * CANVAS,
            )
            if rng.random() < 0.5:
                fill_ellipse(mask, centre, axes, rng)
            else:
                corners = (
                    np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * axes @ rotation(rng.uniform(0, np.pi)).T
                )
                cv2.fillConvexPoly(mask, np.round(centre + corners).astype(np.int32), 1)
        return mask
    points = points / np.abs(points).max() * 0.45 * CANVAS @ rotation(rng.uniform(0, 2 * np.pi)).T
    cv2.fillPoly(mask, [np.round(middle + points).astype(np.int32)], 1)
    return mask


def picture_region(patch: Image, rng: np.random.Generator) -> Image:
    """Return the mask of a region bounded by edges of a picture, uint8 [C, C]; empty if none is found."""
    colours = cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.8, 2)).astype(np.float32) / 64
    features = [colours[..., i] for i in range(3)] + [smooth_noise(patch.shape[:2], 2, rng) * 0.7]
    weights = rng.standard_normal(4)
    value = sum(w * f for w, f in zip(weights, features, strict=True))
    rows = np.arange(CANVAS) - CANVAS / 2
    fade = (rows[None] ** 2 + rows[:, None] ** 2) / (0.45 * CANVAS) ** 2
    middle = slice(CANVAS // 3, 2 * CANVAS // 3)
    level = float(np.quantile(np.asarray(value)[middle, middle], rng.uniform(0.2, 0.6)))
    mask = ((np.asarray(value) - level > 0) & (fade < 1)).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return np.zeros_like(mask)
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    piece = (pieces == best).astype(np.uint8)
    if rng.random() < 0.7:
        contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.fillPoly(piece, list(contours), 1)
    return piece
