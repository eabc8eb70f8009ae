"""A video in memory."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ivos.video.labels import areas, known_pairs, most_telling_frames


@dataclass(frozen=True)
class Clip:
    """A video, or some frames in a row of it, held in memory."""

    name: str
    frames: NDArray[np.uint8]  # RGB [T, h, w, 3]
    labels: NDArray[np.uint8]  # [T, h, w]: 0 background, 1..N, 255 void
    num_objects: int  # N
    begins: tuple[int, ...] = ()  # see Video

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each object on each frame [T, N]."""
        return areas(self.labels, self.num_objects)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which objects the labels tell of on which frames [T, N]; see :func:`known_pairs`."""
        return known_pairs(self.begins, self.num_frames, self.num_objects)

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames [n, h, w, 3] and labels [n, h, w] of the frames of these numbers."""
        chosen = list(frames)
        return self.frames[chosen], self.labels[chosen]

    @property
    def first_frame(self) -> int:
        """Where a session begins."""
        return most_telling_frames(self.labels, self.num_objects)[0]

    def only(self, frame: int) -> "Clip":
        """A clip of this one frame."""
        begins = tuple(max(0, begin - frame) for begin in self.begins)
        return replace(self, frames=self.frames[frame, None], labels=self.labels[frame, None], begins=begins)
