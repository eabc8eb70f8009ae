"""Smooth random motion and similarity transformations."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]  # float64


class Wander:
    """A smooth random curve that starts at 0 and has a root mean square speed of 1 per frame."""

    def __init__(self, rng: np.random.Generator, dimensions: int) -> None:
        shape = (3, dimensions)
        self._frequency = 2 * np.pi / rng.uniform(16, 60, shape)
        self._phase = rng.uniform(0, 2 * np.pi, shape)
        self._amplitude = np.sqrt(2 / 3) / self._frequency

    def __call__(self, t: float) -> Matrix:
        """Return the position at time t, [dimensions]."""
        swing = np.sin(self._frequency * t + self._phase) - np.sin(self._phase)
        return (self._amplitude * swing).sum(0)


def similarity(shift: Matrix | tuple[float, float], angle: float = 0, scale: float = 1) -> Matrix:
    """Return the matrix [3, 3] that scales, then rotates, then shifts."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]], [0, 0, 1]])
