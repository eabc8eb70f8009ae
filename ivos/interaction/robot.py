"""The DAVIS robot: strokes along the medial axis of what a prediction gets wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import davisinteractive_mend
from ivos.interaction.strokes import Stroke

davisinteractive_mend.install()

from davisinteractive.robot import InteractiveScribblesRobot  # noqa: E402


class Robot(InteractiveScribblesRobot):
    """davisinteractive's scribble robot, with its random tie-breaks drawn from a seed.

    For every object (and the background) the pixels that belong to it and were given to something else are
    opened by a disk, thinned to their medial axis and turned into one Bézier curve per connected piece.

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
        drawn = self.interact("", prediction[None], ground_truth[None], nb_objects=num_objects, frame=0)
        strokes: list[Stroke] = drawn["scribbles"][0]
        return strokes
