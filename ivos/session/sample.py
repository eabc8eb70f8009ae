"""Samples of an evaluation: a video with a set of first strokes, on which one session runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ivos.interaction import Scribbles, read_scribbles
from ivos.video.clip import Clip
from ivos.video.video import Video


@dataclass(frozen=True, eq=False)
class Sample:
    """A video and a set of first strokes.

    Attributes:
        video: Video on disk or decoded; its name is unique in the data set.
        scribble: Number of the set of first strokes, from 1.
        strokes: First strokes; None before they are read, or if the protocol draws them.
    """

    video: Video | Clip
    scribble: int = 1
    strokes: Scribbles | None = None

    @property
    def name(self) -> str:
        """The sample's name in file names, such as ``bear-001``."""
        return f"{self.video.name}-{self.scribble:03d}"

    @property
    def title(self) -> str:
        """The sample's name on the screen, such as ``bear (1)``."""
        return f"{self.video.name} ({self.scribble})"

    @property
    def cost(self) -> int:
        """The estimated work of a segmenter: the number of frames times the number of objects."""
        return self.video.num_frames * self.video.num_objects

    @property
    def clip(self) -> Clip:
        """The decoded video.

        Raises:
            TypeError: The video is not decoded.
        """
        if not isinstance(self.video, Clip):
            raise TypeError(f"{self.title} is not decoded; see Sample.decoded")
        return self.video

    def decoded(self, clip: Clip | None = None) -> "Sample":
        """Return the sample with frames, masks and strokes in memory.

        Args:
            clip: The decoded video, if the caller already has it; None decodes it.

        Raises:
            DataError: An image has become unreadable since it was checked.
            ScribbleError: The scribble file has become unreadable.
        """
        if isinstance(self.video, Clip):
            return self
        strokes = self.strokes
        if strokes is None and self.video.scribbles:
            file = self.video.scribbles[self.scribble - 1]
            about = self.video.name, self.video.num_frames
            strokes = read_scribbles(file, *about, object_ids=self.video.object_ids)
        return replace(self, video=clip or self.video.load(), strokes=strokes)


def all_samples(videos: Sequence[Video]) -> list[Sample]:
    """Return the samples of videos: one per scribble file, or one for a video without scribble files."""
    return [Sample(video, number + 1) for video in videos for number in range(video.num_scribbles)]
