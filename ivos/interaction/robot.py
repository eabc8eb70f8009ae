"""The DAVIS robot: strokes along the medial axis of what a prediction gets wrong."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import comb
from skimage.morphology import disk, medial_axis

from ivos.interaction import davisinteractive_mend
from ivos.interaction.strokes import Stroke

davisinteractive_mend.install()

from davisinteractive.robot import InteractiveScribblesRobot  # noqa: E402

try:  # the loop inside medial_axis, which builds a table of 20 ms around it at every call
    from skimage.morphology._skeletonize_various_cy import _skeletonize_loop
except ImportError:  # a scikit-image that has moved it: the public function does the same, slower
    _skeletonize_loop = None

_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)


class Robot(InteractiveScribblesRobot):
    """davisinteractive's scribble robot with its random tie-breaks drawn from a seed, several times faster.

    For every object (and the background) the pixels that belong to it and were given to something else are
    opened by a disk, thinned to their medial axis and turned into one Bézier curve per connected piece.
    The strokes are the official robot's, to the last bit. The time goes down because it works inside the
    bounding box of an error, opens it by OpenCV, and keeps the medial axis' table of neighbourhoods and the
    curves' Bernstein polynomials.

    Args:
        kernel_size: the opening's diameter as a share of the square root of the error's area, in [0, 1).
        max_kernel_radius: upper bound of the opening's radius, in pixels.
        min_nb_nodes: pieces whose axis has fewer pixels than this get no stroke.
        nb_points: points of a curve (at most 1000).
    """

    def __init__(
        self,
        kernel_size: float = 0.2,
        max_kernel_radius: float = 16,
        min_nb_nodes: int = 2,
        nb_points: int = 1000,
    ) -> None:
        super().__init__(kernel_size, max_kernel_radius, min_nb_nodes, nb_points)
        self.rng = np.random.default_rng(0)

    def seed(self, *key: int | str) -> None:
        """Restart the tie-breaks from a key such as (session seed, sequence, scribble, round)."""
        words = [part if isinstance(part, int) else int.from_bytes(part.encode(), "little") for part in key]
        self.rng = np.random.default_rng(words)

    def strokes(
        self,
        prediction: NDArray[np.integer],
        ground_truth: NDArray[np.integer],
        num_objects: int,
        key: Sequence[int | str] = (0,),
    ) -> list[Stroke]:
        """Correct one frame.

        Args:
            prediction: labels [h, w]; all zeros asks for strokes on the objects themselves.
            ground_truth: labels [h, w]; pixels of label 255 (void) belong to no object and get no stroke.
            num_objects: N.
            key: what the tie-breaks are seeded with.

        Returns:
            the strokes, empty where there is nothing to correct.
        """
        self.seed(*key)
        size = np.array(ground_truth.shape[::-1], np.float64)
        strokes: list[Stroke] = []
        for object_id in range(num_objects + 1):
            error = (ground_truth == object_id) & (prediction != object_id)
            strokes += [
                {"path": (curve / size).tolist(), "object_id": object_id} for curve in self._curves(error)
            ]
        return strokes

    def _curves(self, error: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """One curve of [P, 2] pixel coordinates (x, y) for each piece of the error's medial axis."""
        x, y, width, height = cv2.boundingRect(error.view(np.uint8))
        if not width:
            return []
        # A disk of a broken radius is lopsided, so that the opened error can reach beyond the error: a margin
        # of twice the radius leaves every neighbourhood as it is in the whole frame.
        margin = 2 * int(np.ceil(self._radius(error))) + 2
        left, top = max(x - margin, 0), max(y - margin, 0)
        axis = self._generate_scribble_mask(error[top : y + height + margin, left : x + width + margin])
        if not axis.any():
            return []
        graph, points = self._mask2graph(axis)
        points = points + np.array((left, top))
        paths = [self._longest_path_in_tree(tree) for tree in self._acyclics_subgraphs(graph)]
        return [_bezier(points[path], min(self.nb_points, 1000)) for path in paths]

    def _radius(self, error: NDArray[np.generic]) -> float:
        return min(self.kernel_size * float(np.sqrt(np.count_nonzero(error))) * 0.5, self.max_kernel_radius)

    def _generate_scribble_mask(self, mask: NDArray[np.generic]) -> NDArray[np.bool_]:
        """The medial axis of the opened error; the opening's radius shrinks until something is left."""
        error: NDArray[np.uint8] = np.ascontiguousarray(mask, np.uint8)
        radius, opened = self._radius(error), error
        while radius > 1:
            kernel = disk(radius)
            inside = cv2.dilate(np.ones_like(error), kernel)  # 0 in corners that no pixel of the disk reaches
            opened = cv2.dilate(cv2.bitwise_and(cv2.erode(error, kernel), inside), kernel).astype(np.uint8)
            if opened.any():
                break
            radius *= 0.9
        padded = np.pad(opened, 1).astype(bool)
        return _medial_axis(padded, self.rng)[1:-1, 1:-1]


def _medial_axis(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """``skimage.morphology.medial_axis(mask, rng=rng)``."""
    if _skeletonize_loop is None:
        return medial_axis(mask, rng=rng)
    neighbours = cv2.filter2D(mask.view(np.uint8), cv2.CV_16S, _NEIGHBOURHOOD, borderType=cv2.BORDER_CONSTANT)
    distance = ndimage.distance_transform_edt(mask)[mask]
    rows, columns = np.nonzero(mask)
    tie_break = rng.permutation(np.arange(len(rows)))
    order = np.lexsort((tie_break, 9 - neighbours[mask], distance)).astype(np.int32)
    result = mask.astype(np.uint8)
    _skeletonize_loop(result, rows.astype(np.intp), columns.astype(np.intp), order, _removal_table())
    return result.astype(bool)


@lru_cache(maxsize=1)
def _removal_table() -> NDArray[np.uint8]:
    """For each of the 512 patterns of a 3x3 neighbourhood: 1 where its centre has to stay.

    It stays where it is set and either its removal changes the number of connected pieces or the pattern has
    fewer than three pixels.
    """
    table = np.zeros(512, np.uint8)
    for index in range(512):
        if index & 16:
            pattern = np.array([(index >> bit) & 1 for bit in range(9)], np.uint8).reshape(3, 3)
            without = np.array([(index & ~16) >> bit & 1 for bit in range(9)], np.uint8).reshape(3, 3)
            pieces = [ndimage.label(p, np.ones((3, 3)))[1] for p in (pattern, without)]
            table[index] = pieces[0] != pieces[1] or pattern.sum() < 3
    return table


@lru_cache(maxsize=16)  # of up to 8 MB
def _bernstein(n_points: int, nb_points: int) -> NDArray[np.float64]:
    t = np.linspace(0.0, 1.0, nb_points).reshape(1, -1)
    i = np.arange(n_points).reshape(-1, 1)
    n = n_points - 1
    return (comb(n, i) * (t ** (n - i)) * (1 - t) ** i).T


def _bezier(points: NDArray[np.integer], nb_points: int) -> NDArray[np.float64]:
    """davisinteractive's ``bezier_curve``: [P, 2] -> [nb_points, 2], or the points where there are more."""
    if len(points) > nb_points:
        return points.astype(np.float64)
    return _bernstein(len(points), nb_points).dot(points.astype(np.float64))
