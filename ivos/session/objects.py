"""Videos with a single object, for protocols that segment each object separately."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivos.video.video import Video


@dataclass(frozen=True, kw_only=True)
class OneObject(Video):
    """A video in which one object is labelled and the others are background.

    Attributes:
        whole: The video with all objects.
        number: Number of this object in that video, from 1.
    """

    whole: Video
    number: int

    @property
    def sequence(self) -> str:
        """The name of the video with all objects."""
        return self.whole.name

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        return self.whole.read_object(path, self.number)


def split_objects(videos: Sequence[Video]) -> list[Video]:
    """Return a video ``NAME_NUMBER`` without scribble files for each object that is visible anywhere."""
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
