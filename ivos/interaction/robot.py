"""The DAVIS robot, which draws strokes along the medial axis of a prediction's errors."""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from ivos.interaction.axis_paths import longest_paths
from ivos.interaction.medial_axis import medial_axis, opening
from ivos.interaction.strokes import Stroke
from ivos.runtime.options import Rule, is_number, number, whole

_KERNEL_SIZE = Rule(lambda v: is_number(v) and 0 <= v < 1, "a number from 0 to below 1")


class Robot:
    """The simulated user of the DAVIS interactive challenge, with ties broken by a seeded generator.

    For every object and the background, the robot computes the error mask: the pixels that belong to it but
    have another label in the prediction. The mask is opened by a disk and thinned to its medial axis. The
    longest path through each connected component of the axis becomes a Bézier curve. The strokes are
    bit-identical to those of davisinteractive 1.0.4 with the same random number generator; no code of that
    package is used.

    Args:
        kernel_size: Diameter of the disk relative to the square root of the error's area, in [0, 1).
        max_kernel_radius: Largest radius of the disk in pixels.
        min_nb_nodes: Smallest number of pixels of a component of the axis; smaller components get no stroke.
        nb_points: Number of points of a curve (at most 1000).

    Raises:
        ValueError: ``kernel_size`` is not in [0, 1).
    """

    def __init__(
        self,
        kernel_size: Annotated[float, _KERNEL_SIZE] = 0.2,
        max_kernel_radius: Annotated[float, number(0)] = 16,
        min_nb_nodes: Annotated[int, whole(1)] = 2,
        nb_points: Annotated[int, whole(1, 1000)] = 1000,
    ) -> None:
        if not _KERNEL_SIZE.holds(kernel_size):
            raise ValueError(f"kernel_size: must be {_KERNEL_SIZE.words}, got {kernel_size}")
        self.kernel_size, self.max_kernel_radius = kernel_size, max_kernel_radius
        self.min_nb_nodes, self.nb_points = min_nb_nodes, nb_points
        self.rng = np.random.default_rng(0)

    def seed(self, *key: int | str) -> None:
        """Seed the generator for ties from a key such as (session seed, sequence, scribble, round)."""
        words = [part if isinstance(part, int) else int.from_bytes(part.encode(), "little") for part in key]
        self.rng = np.random.default_rng(words)

    def strokes(
        self,
        prediction: NDArray[np.integer],
        ground_truth: NDArray[np.integer],
        num_objects: int,
        key: Sequence[int | str] = (0,),
    ) -> list[Stroke]:
        """Draw strokes that correct the prediction of one frame.

        Args:
            prediction: Labels [h, w]; all zeros yield strokes on the objects themselves.
            ground_truth: Labels [h, w]; pixels of label 255 (void) belong to no object and get no stroke.
            num_objects: Number of objects N.
            key: Seed of the generator for ties.

        Returns:
            The strokes; empty if the prediction has no errors that need a stroke.
        """
        self.seed(*key)
        size = np.array(ground_truth.shape[::-1], np.float64)
        curves: list[tuple[int, NDArray[np.float64]]] = []
        for object_id in range(num_objects + 1):
            error = (ground_truth == object_id) & (prediction != object_id)
            paths = self._paths(error.view(np.uint8))
            curves += [(object_id, _bezier(path, min(self.nb_points, 1000)) / size) for path in paths]
        with _no_garbage_collection():
            return [{"path": curve.tolist(), "object_id": object_id} for object_id, curve in curves]

    def _paths(self, error: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
        """Return the pixels (x, y) of the path [P, 2] through each component of the error's medial axis."""
        x, y, width, height = cv2.boundingRect(error)
        if not width:
            return []
        radius = min(self.kernel_size * float(np.sqrt(np.count_nonzero(error))) * 0.5, self.max_kernel_radius)
        # A disk whose radius is not an integer is asymmetric, so that the opened error can contain pixels
        # outside the error. With a margin of twice the radius, the crop gives the same result as the whole
        # frame.
        margin = 2 * int(np.ceil(radius)) + 2
        left, top = max(x - margin, 0), max(y - margin, 0)
        inside = np.ascontiguousarray(error[top : y + height + margin, left : x + width + margin])
        axis = medial_axis(self._opened(inside, radius), self.rng)
        return [path + np.array((left, top)) for path in longest_paths(axis, self.min_nb_nodes)]

    @staticmethod
    def _opened(error: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
        """Open the error morphologically; while the result is empty, reduce the radius, down to 1."""
        opened = error
        while radius > 1:
            opened = opening(error, radius)
            if opened.any():
                break
            radius *= 0.9
        return opened


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Disable garbage collection in the ``with`` block.

    A curve is converted to a list of a thousand lists. So many new objects would trigger several runs of the
    garbage collector, which take longer than all other computations of a stroke.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@lru_cache(maxsize=16)  # each entry takes up to 8 MB
def _bernstein(n_points: int, nb_points: int) -> NDArray[np.float64]:
    t = np.linspace(0.0, 1.0, nb_points).reshape(1, -1)
    i = np.arange(n_points).reshape(-1, 1)
    n = n_points - 1
    return (comb(n, i) * (t ** (n - i)) * (1 - t) ** i).T


def _bezier(points: NDArray[np.integer], nb_points: int) -> NDArray[np.float64]:
    """Return davisinteractive's ``bezier_curve`` of points [P, 2].

    The result is a curve [nb_points, 2], or the points themselves if P exceeds nb_points.
    """
    if len(points) > nb_points:
        return points.astype(np.float64)
    return _bernstein(len(points), nb_points).dot(points.astype(np.float64))
