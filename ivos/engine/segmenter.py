"""What an interactive segmenter is to whoever drives it: an evaluation, a validation loop, an application."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import Stroke


@runtime_checkable
class Segmenter(Protocol):
    """One video at a time: :meth:`start` it, then :meth:`interact` round after round."""

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video and forget the one before.

        Args:
            frames: uint8 RGB [T, h, w, 3].
            num_objects: N; labels are 1..N, the background is 0.
        """

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Take the new strokes of a round, all on one frame.

        Returns:
            labels uint8 [T, h, w] of the whole video.
        """
