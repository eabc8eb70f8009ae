"""Interfaces of interactive segmenters, as evaluation, validation and the annotation app use them."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import Stroke


@runtime_checkable
class Segmenter(Protocol):
    """Interactive segmenter of one video at a time.

    :meth:`start` begins a video; each call of :meth:`interact` runs one round.
    """

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video and discard the previous one.

        Args:
            frames: Frames, uint8 RGB [T, h, w, 3].
            num_objects: Number of objects N; their labels are 1..N, the background is 0.
        """

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a round with new strokes on one frame.

        Args:
            frame: Index of the annotated frame.
            strokes: New strokes on that frame.

        Returns:
            Labels uint8 [T, h, w] of the whole video.
        """


@runtime_checkable
class LiveSegmenter(Segmenter, Protocol):
    """Segmenter for interactive use, with previews, interruptible rounds and undo.

    A round in progress (:meth:`propagate`) may be stopped at any frame; a call of another method that changes
    the state also stops it. A round that fails leaves the state unchanged. Methods must be called by one
    thread at a time.
    """

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Return the labels of the annotated frame that a round with these strokes would give.

        The state does not change. A subsequent round on the same frame with the same strokes reuses the
        result.

        Args:
            frame: Index of the annotated frame.
            strokes: New strokes on that frame.

        Returns:
            Labels uint8 [h, w].
        """

    def propagate(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Run a round as :meth:`interact` does, frame by frame, alternating between the two directions.

        The arguments are checked by the call itself; the computation starts with the first frame requested
        from the iterator. Closing or deleting the iterator stops the round: frames yielded so far, which are
        always consecutive, keep their new labels, and all others keep their old ones.

        Args:
            frame: Index of the annotated frame, which is yielded first.
            strokes: New strokes on that frame.
            reach: First and last frame to compute, limited to the range of :meth:`planned`. The first and
                last frame that a stopped round has yielded repeat that round with the same results.

        Yields:
            Frame index and labels uint8 [h, w] of that frame.
        """

    def planned(self, frame: int) -> tuple[int, int]:
        """Return the first and the last frame that a round from the given frame would change now."""

    def undo(self) -> NDArray[np.uint8]:
        """Undo the latest round, also a stopped one; objects added since that round remain, without masks.

        Returns:
            Labels uint8 [T, h, w] as before that round.

        Raises:
            ValueError: There is no round to undo.
        """

    def add_object(self) -> int:
        """Add an object, also between rounds; its mask is empty until strokes are drawn for it.

        Returns:
            Number of the new object, N + 1.
        """

    def confidence(self) -> NDArray[np.float32]:
        """Return the confidence of the masks in each frame, float32 [T] in [0, 1].

        Frames that no round has reached have 0.
        """


@runtime_checkable
class AdoptingSegmenter(Segmenter, Protocol):
    """Segmenter that accepts the mask of a frame as a prompt; its ``prompts`` contain ``masks``."""

    def adopt(
        self, frame: int, labels: NDArray[np.uint8], objects: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """Set the labels of a frame and use them as an annotation.

        Other frames do not change; a round on this frame without strokes (``interact(frame, [])`` or
        ``propagate(frame, [])``) propagates the labels. Later rounds do not change the frame unless strokes
        are drawn on it. An adoption counts as a round for :meth:`LiveSegmenter.undo`.

        Args:
            frame: Index of the frame, 0..T-1.
            labels: Labels uint8 [h, w] at the frame's size: 0 is the background, others are object numbers.
            objects: Numbers of the objects that the labels describe; None for all objects. Other objects keep
                their masks in this frame, except where the labels show one of the described objects.

        Returns:
            The resulting labels of the frame, uint8 [h, w].

        Raises:
            ValueError: An argument is invalid; the message names it.
        """


def takes_network(make: Callable[..., object]) -> bool:
    """Return whether a segmenter's constructor or factory function has an argument ``network``."""
    return "network" in inspect.signature(make).parameters
