"""What a session is run on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ivos.interaction import Scribbles, read_scribbles
from ivos.video.clip import Clip
from ivos.video.video import Video


@dataclass(frozen=True, eq=False)
class Sample:
    """A video and a set of first strokes.

    Attributes:
        video: on disk or decoded; unique by its name in its data set.
        scribble: which of the video's sets of first strokes, from 1.
        strokes: that set; None where the protocol draws the first ones (or before it is read).
    """

    video: Video | Clip
    scribble: int = 1
    strokes: Scribbles | None = None

    @property
    def name(self) -> str:
        """What files of it are called, such as ``bear-001``."""
        return f"{self.video.name}-{self.scribble:03d}"

    @property
    def title(self) -> str:
        """What it is called on the screen, such as ``bear (1)``."""
        return f"{self.video.name} ({self.scribble})"

    @property
    def cost(self) -> int:
        """What a segmenter's work grows with: frames times objects."""
        return self.video.num_frames * self.video.num_objects

    @property
    def clip(self) -> Clip:
        """The decoded video.

        Raises:
            TypeError: it is not decoded.
        """
        if not isinstance(self.video, Clip):
            raise TypeError(f"{self.title} is not decoded; see Sample.decoded")
        return self.video

    def decoded(self, clip: Clip | None = None) -> "Sample":
        """The sample with frames, masks and strokes in memory.

        Args:
            clip: the video decoded, where it is at hand.

        Raises:
            DataError: a picture has become unreadable since its check.
            ScribbleError: so has the file of strokes.
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
    """Every sample of some videos, in order: one for each file of strokes, or one on a video without any."""
    return [Sample(video, number + 1) for video in videos for number in range(video.num_scribbles)]
