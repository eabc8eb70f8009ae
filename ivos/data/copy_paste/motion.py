"""Smooth random motion of the objects and the camera of copy-paste clips."""

import numpy as np
from numpy.typing import NDArray


def rotation(angle: float) -> NDArray[np.float64]:
    """Return the 2 x 2 matrix of a rotation by an angle in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def affine(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix of an affine map."""
    return np.vstack([np.column_stack([linear, offset]), [0.0, 0.0, 1.0]])


class SmoothPath:
    """A smooth random motion: position (in shorter sides), rotation and scale over time."""

    def __init__(self, tempo: float, rng: np.random.Generator) -> None:
        direction = rng.uniform(0, 2 * np.pi)
        self.speed = tempo * rng.uniform(0.2, 1.6) * np.array([np.cos(direction), np.sin(direction)])
        self.sway = tempo * rng.uniform(0, 3, 2)
        self.rate, self.phase = rng.uniform(0.2, 1.2), rng.uniform(0, 2 * np.pi, 2)
        self.spin, self.growth = rng.normal(0, 2.0 * tempo), rng.normal(0, 0.6 * tempo)
        self.wag = rng.uniform(0, 0.15) * min(1.0, 15 * tempo)
        self.start = rng.uniform(-0.3, 0.3)

    def shift(self, t: float) -> NDArray[np.float64]:
        """Return the displacement since time 0, in shorter sides."""
        swing = np.sin(self.rate * t + self.phase) - np.sin(self.phase)
        return self.speed * t + self.sway * swing

    def velocity(self, t: float) -> NDArray[np.float64]:
        """Return the velocity, in shorter sides per frame."""
        return self.speed + self.sway * self.rate * np.cos(self.rate * t + self.phase)

    def linear(self, t: float) -> NDArray[np.float64]:
        """Return the rotation and scaling at time t, 2 x 2."""
        angle = self.start + self.spin * t + self.wag * np.sin(self.rate * t + self.phase[1])
        return float(np.exp(np.clip(self.growth * t, -0.6, 0.6))) * rotation(angle)


class Camera:
    """A moving camera."""

    def __init__(self, size: tuple[int, int], tempo: float, rng: np.random.Generator) -> None:
        self.path = SmoothPath(tempo * rng.uniform(0, 1.2), rng)
        self.path.start = rng.uniform(-0.1, 0.1)
        self.shake = tempo * rng.uniform(0, 0.3)
        self.side, self.centre = min(size), np.array(size[::-1]) / 2
        self.jolts = rng.standard_normal((64, 2))

    def at(self, t: int) -> NDArray[np.float64]:
        """Return the transformation from world pixels to pixels of frame t, 3 x 3."""
        linear = self.path.linear(t)
        shift = (self.path.shift(t) + self.shake * self.jolts[t % 64]) * self.side
        return affine(linear, self.centre + shift - linear @ self.centre)
