"""A video in memory."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ivos.video.labels import areas, known_pairs, most_telling_frames


@dataclass(frozen=True)
class Clip:
    """A video, or a range of its frames, in memory.

    Attributes:
        name: The name of the video.
        frames: Frames RGB uint8 [T, h, w, 3].
        labels: Labels uint8 [T, h, w]: 0 for the background, 1..N for the objects, 255 for void.
        num_objects: Number of objects N.
        begins: First annotated frame of each object; see :class:`ivos.video.video.Video`.
    """

    name: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    num_objects: int
    begins: tuple[int, ...] = ()

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Number of pixels of each object on each frame, int64 [T, N]."""
        return areas(self.labels, self.num_objects)

    @property
    def num_frames(self) -> int:
        """The number of frames T."""
        return len(self.frames)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which objects are annotated on which frames, bool [T, N]; see :func:`known_pairs`."""
        return known_pairs(self.begins, self.num_frames, self.num_objects)

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the frames [n, h, w, 3] and the labels [n, h, w] with the given frame numbers."""
        chosen = list(frames)
        return self.frames[chosen], self.labels[chosen]

    @property
    def first_frame(self) -> int:
        """The frame that is annotated in the first round of a session."""
        return most_telling_frames(self.labels, self.num_objects)[0]

    def only(self, frame: int) -> "Clip":
        """Return a clip that consists of one frame of this clip."""
        begins = tuple(max(0, begin - frame) for begin in self.begins)
        return replace(self, frames=self.frames[frame, None], labels=self.labels[frame, None], begins=begins)
