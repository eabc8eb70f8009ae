"""Videos of one object each, for protocols that segment object by object."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivos.video.video import Video


@dataclass(frozen=True, kw_only=True)
class OneObject(Video):
    """A video in which one object counts and the others are background.

    Attributes:
        whole: the video with all of its objects.
        number: the number of this object in it, from 1.
    """

    whole: Video
    number: int

    @property
    def sequence(self) -> str:
        """The name of the video with all of its objects."""
        return self.whole.name

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        return self.whole.read_object(path, self.number)


def split_objects(videos: Sequence[Video]) -> list[Video]:
    """Return a video ``NAME_NUMBER`` for each object that has a pixel anywhere, without files of strokes."""
    found: list[Video] = []
    for video in videos:
        for index, label in enumerate(video.labels_in_files):
            areas = video.areas[:, index : index + 1]
            if not areas.any():
                continue
            one = OneObject(
                f"{video.name}_{index + 1}", video.frames, video.annotations, (), video.size, 1, areas,
                video.begins[index : index + 1], (label,), whole=video, number=index + 1,
            )  # fmt: skip
            found.append(one)
    return found
