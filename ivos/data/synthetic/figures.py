"""Figures of synthetic clips, which consist of textured parts, and the drawing of random figures.

Positions of parts are in *figure* coordinates, whose origin is the centre of the figure.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.motion import Matrix, Wander, similarity
from ivos.data.synthetic.textures import Float, blob, capsule, polygon


@dataclass
class Part:
    """A textured part of a figure, which swings about its pivot."""

    image: Float  # RGB and coverage in [0, 1], [s, s, 4], of a square centred at the pivot
    half: float  # half the width of that square, in figure units
    pivot: tuple[float, float] = (0, 0)  # in figure coordinates
    swing: float = 0  # amplitude of the swing, in radians
    pace: float = 0  # angular frequency of the swing, in radians per frame
    phase: float = 0  # phase of the swing
    is_shadow: bool = False

    @cached_property
    def radius(self) -> float:
        """Largest distance of a visible point from the pivot, in figure units."""
        pixel = 2 * self.half / self.image.shape[0]
        points = (np.argwhere(self.image[..., 3]) + 0.5) * pixel - self.half
        return float(np.hypot(*points.T).max(initial=0)) + 2 * pixel

    def pose(self, t: float) -> Matrix:
        """Return the transformation from image pixels to figure coordinates at time t, [3, 3]."""
        pixel = 2 * self.half / self.image.shape[0]
        centred = similarity((0.5 * pixel - self.half, 0.5 * pixel - self.half), scale=pixel)
        return similarity(self.pivot, self.swing * math.sin(self.pace * t + self.phase)) @ centred


@dataclass
class Figure:
    """A moving figure."""

    parts: list[Part]  # from back to front
    label: int  # 0 is background
    size: float  # world units per figure unit
    area: float  # in squared figure units
    wander: Wander  # smooth random curve of 4 dimensions: x, y, angle, log size
    bends: Matrix  # waves of the deformation [3, 6]: direction (2), phase, pace, amplitude (2)
    angle: float  # rotation at time 0
    place: Matrix = field(default_factory=lambda: np.zeros(2))  # position at time 0
    trip: Matrix = field(default_factory=lambda: np.zeros(2))  # displacement that returns to 0 after `period`
    period: float = 1
    speed: tuple[float, float, float] = (0, 0, 0)  # speed of the shift, the angle (radians) and the log size

    def pose(self, t: float) -> Matrix:
        """Return the transformation from figure to world coordinates at time t, [3, 3]."""
        x, y, turn, growth = self.wander(t)
        away = math.sin(math.pi * min(t / self.period, 1)) ** 2
        shift = self.place + self.speed[0] * np.array([x, y]) + away * self.trip
        size = self.size * math.exp(max(-0.6, min(0.6, self.speed[2] * growth)))
        return similarity(shift, self.angle + self.speed[1] * turn, size)

    @cached_property
    def bow(self) -> float:
        """Largest displacement of a point by the deformation, in figure units."""
        return float(np.hypot(*self.bends[:, 4:].T).sum())

    @cached_property
    def reach(self) -> float:
        """Radius of a circle about the centre that contains the figure at all times, in figure units."""
        parts = max(part.radius + math.hypot(*part.pivot) for part in self.parts)
        return 1.001 * (self.bow + parts)  # with a margin for rounding

    def unbent(self, x: Float, y: Float, t: float) -> tuple[Float, Float]:
        """Return the positions in the undeformed figure that are visible at figure coordinates (x, y)."""
        dx, dy = np.zeros_like(x), np.zeros_like(y)
        for kx, ky, phase, pace, ax, ay in self.bends.astype(np.float32):
            wave = np.sin(kx * x + ky * y + (phase + pace * np.float32(t)))
            dx += ax * wave
            dy += ay * wave
        return x + dx, y + dy


def random_bends(rng: np.random.Generator, strength: float) -> Matrix:
    """Return three random waves that deform a figure without folding it (sum of k * amplitude < 1)."""
    direction, tilt = rng.uniform(0, 2 * np.pi, (2, 3))
    k = rng.uniform(1.5, 3.5, 3)
    amplitude = strength * rng.uniform(0.1, 0.3, 3) / k
    pace = 2 * np.pi / rng.uniform(12, 40, 3)
    shape = [k * np.cos(direction), k * np.sin(direction), rng.uniform(0, 2 * np.pi, 3), pace]
    return np.stack([*shape, amplitude * np.cos(tilt), amplitude * np.sin(tilt)], -1)


@dataclass
class _Outline:
    """The shape of a part."""

    points: Matrix  # polygon about the pivot [P, 2]
    pivot: tuple[float, float] = (0, 0)
    swings: bool = False
    trim: bool = False  # whether the part has the second of the figure's two surfaces


def _outlines(rng: np.random.Generator) -> tuple[list[_Outline], bool]:
    """Return the outlines of a random figure from back to front, and whether it is upright."""
    kind = rng.choice(["blob", "polygon", "animal", "person"], p=[0.4, 0.15, 0.25, 0.2])
    if kind == "blob":
        return [_Outline(blob(rng, rng.uniform(0.1, 0.6)) * (1, rng.uniform(0.5, 1)))], False
    if kind == "polygon":
        return [_Outline(polygon(rng) * (1, rng.uniform(0.6, 1)))], False
    if kind == "animal":
        width, bare = rng.uniform(0.13, 0.22), rng.random() < 0.5
        legs = [
            _Outline(capsule(rng.uniform(0.35, 0.6), width), (x, 0.2), True, bare)
            for x in (-0.42, -0.25, 0.25, 0.42)
        ]
        tail = _Outline(capsule(0.4, 0.12) @ np.array([[0.0, -1], [1, 0]]), (-0.5, -0.15), True, bare)
        body = _Outline(blob(rng, 0.2) * (0.65, rng.uniform(0.3, 0.42)))
        head = _Outline(blob(rng, 0.25) * rng.uniform(0.22, 0.32), (0.62, rng.uniform(-0.45, -0.1)), True)
        return [*legs, tail, body, head], True
    legs = [_Outline(capsule(0.6, 0.24), (x, 0.3), True, True) for x in (-0.12, 0.12)]
    arms = [_Outline(capsule(0.55, 0.17), (x, -0.32), True) for x in (-0.26, 0.26)]
    body = _Outline(blob(rng, 0.15) * (rng.uniform(0.28, 0.36), 0.48))
    head = _Outline(blob(rng, 0.1) * 0.22, (0, -0.62), True, True)
    return [*legs, arms[0], body, head, arms[1]], True


def _silhouette(outlines: list[_Outline], half: float = 1.5, side: int = 96) -> NDArray[np.uint8]:
    """Return the mask of all parts at rest, uint8 [side, side], of a square with half-width ``half``."""
    canvas = np.zeros((side, side), np.uint8)
    for outline in outlines:
        points = (outline.points + outline.pivot + half) / (2 * half) * side - 0.5
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1)
    return canvas


def drawn(
    spec: SyntheticSpec, rng: np.random.Generator, label: int, target: float, skin: tuple[Float, Float]
) -> Figure:
    """Return a random drawn figure.

    Args:
        spec: Settings of the clips.
        rng: Random generator.
        label: Label of the figure.
        target: Square root of the figure's area, in world units.
        skin: The figure's two surfaces.
    """
    outlines, upright = _outlines(rng)
    silhouette = _silhouette(outlines)
    area = silhouette.mean() * 9
    size = target / math.sqrt(area)
    pixels = size * min(spec.width, spec.height)
    parts = [shadow(silhouette.astype(np.float32), 1.5, spec.shadows)] if spec.shadows else []
    pace = 2 * np.pi / rng.uniform(6, 20)
    for outline in outlines:
        half = float(np.abs(outline.points).max()) * 1.08 + 1 / pixels
        side = max(8, math.ceil(2 * half * pixels))
        # coverage is computed by 4x4 supersampling
        points = np.round((outline.points + half) / (2 * half) * 4 * side - 0.5).astype(np.int32)
        inside = cv2.fillPoly(np.zeros((4 * side, 4 * side), np.uint8), [points], 255)
        cover = cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        image = lit(rng, cut(rng, skin[outline.trim], side), cover)
        swing = spec.articulation * rng.uniform(0.4, 1) * outline.swings
        parts.append(Part(image, half, outline.pivot, swing, pace, rng.uniform(0, 2 * np.pi)))
    angle = rng.normal(0, 0.2) if upright else rng.uniform(0, 2 * np.pi)
    return Figure(parts, label, size, area, Wander(rng, 4), random_bends(rng, spec.deformation), angle)


def cut(rng: np.random.Generator, surface: Float, side: int) -> Float:
    """Return a random square crop of a surface [s, s, 3], or the resized surface if it is smaller."""
    spare = surface.shape[0] - side
    if spare < 0:
        return cv2.resize(surface, (side, side))
    y, x = rng.integers(0, spare + 1, 2)
    return surface[y : y + side, x : x + side]


def shadow(silhouette: Float, half: float, strength: float) -> Part:
    """Return a figure's shadow, made of its silhouette [s, s] with half-width ``half``."""
    cover = cv2.GaussianBlur(silhouette, (0, 0), silhouette.shape[0] / 24) * strength
    image = np.dstack([np.zeros((*cover.shape, 3), np.float32), cover])
    return Part(image, half, (0.1, 0.14), is_shadow=True)


def lit(rng: np.random.Generator, colour: Float, cover: Float) -> Float:
    """Shade a surface [s, s, 3] with coverage [s, s] like a lit convex object; return [s, s, 4]."""
    height = cv2.GaussianBlur(cover, (0, 0), cover.shape[0] / 12)
    light = rng.uniform(0, 2 * np.pi)
    slope = np.cos(light) * cv2.Sobel(height, -1, 1, 0) + np.sin(light) * cv2.Sobel(height, -1, 0, 1)
    slope *= rng.uniform(0.1, 0.45) / max(float(np.abs(slope).max()), 1e-6)
    return np.dstack([(colour * (1 + slope[..., None])).clip(0, 1), cover]).astype(np.float32)
