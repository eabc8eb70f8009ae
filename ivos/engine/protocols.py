"""What an interactive segmenter is to whoever drives it: an evaluation, a validation loop, an application."""

import inspect
from collections.abc import Callable, Iterator, Sequence
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


@runtime_checkable
class LiveSegmenter(Segmenter, Protocol):
    """A segmenter for a person who draws and looks on.

    A round that is iterated over (:meth:`propagate`) may be left at any frame. One that is open when another
    verb that changes the state is called ends there. Calls come from one thread at a time. A round that fails
    leaves the state as it was before.
    """

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Return the mask that a round with these new strokes would give its own frame, and change nothing.

        If a round on the same frame with the same strokes follows, that mask is not computed again.

        Returns:
            labels uint8 [h, w].
        """

    def propagate(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Run a round as :meth:`interact` does, frame by frame, in both directions by turns.

        Arguments are checked at the call; the round begins with the first frame that is asked for. Closing
        the iterator (or dropping it) ends the round: the frames yielded so far, which are always the frames
        from one to another, keep their new results, all others are as before.

        Args:
            frame: the annotated frame; it is yielded first.
            strokes: the new strokes of the round.
            reach: the first and the last frame to go to, at most as far as the round would go by itself;
                those that a stopped round has yielded run it again, with the same results.

        Yields:
            each frame with its labels uint8 [h, w].
        """

    def planned(self, frame: int) -> tuple[int, int]:
        """Return the first and the last frame that a round from a frame would reach now."""

    def undo(self) -> NDArray[np.uint8]:
        """Take the latest round back, a stopped one too; objects added since stay, empty.

        Returns:
            labels uint8 [T, h, w] as before that round.

        Raises:
            ValueError: there is no round.
        """

    def add_object(self) -> int:
        """Have one more object, in the middle of a session, too; it is nowhere until something is drawn.

        Returns:
            its number, N + 1.
        """

    def confidence(self) -> NDArray[np.float32]:
        """How sure the masks of each frame are, float32 [T] in [0, 1]; 0 where no round has come to."""


@runtime_checkable
class AdoptingSegmenter(Segmenter, Protocol):
    """A segmenter that takes a frame's mask as a prompt; ``masks`` is one of its ``prompts``."""

    def adopt(
        self, frame: int, labels: NDArray[np.uint8], objects: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """Give a frame exactly these labels, as an annotation from which the video can be segmented.

        Other frames stay as they are: a round on this frame without strokes (``interact(frame, [])`` or
        ``propagate(frame, [])``) propagates the labels. Later rounds leave the frame as it is, unless strokes
        are drawn on it. An adoption counts as a round for :meth:`LiveSegmenter.undo`.

        Args:
            frame: 0..T-1.
            labels: uint8 [h, w] at the frames' size: 0 background, else objects' numbers.
            objects: the objects that the labels describe; None: all. The others keep their masks in this
                frame, except where the labels show one of these objects.

        Returns:
            the labels of the frame as they are now, uint8 [h, w].

        Raises:
            ValueError: An argument is not possible; the message names it.
        """


def takes_network(make: Callable[..., object]) -> bool:
    """Whether what makes a segmenter takes our network, as its argument ``network``."""
    return "network" in inspect.signature(make).parameters
