"""A segmenter that works on smaller frames than it is given: the size that a network was trained for."""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ivos.engine import ATNetSegmenter
from ivos.engine.thresholding import to_labels
from ivos.interaction import Stroke
from ivos.networks import ATNet
from ivos.runtime.errors import UserError
from ivos.runtime.options import options_go_to


@options_go_to(ATNetSegmenter)
def atnet_segmenter(
    network: ATNet, short_side: int | Literal["trained"] | None = None, **options: Any
) -> "ATNetSegmenter | ResizedSegmenter":
    """A-Net and T-Net's segmenter, at frames' own size or at a smaller one.

    Args:
        network: what runs.
        short_side: see :class:`ResizedSegmenter`; ``trained``: the size that the weights were trained for,
            where their file says so; None: frames as they are.
        options: of :class:`ivos.engine.ATNetSegmenter`.
    """
    if short_side == "trained":
        short_side = network.short_side
    segmenter = ATNetSegmenter(network, **options)
    return segmenter if short_side is None else ResizedSegmenter(segmenter, short_side)


class ResizedSegmenter:
    """Runs a segmenter on frames of a given shorter side and brings its probabilities back, bilinearly.

    Strokes are given in shares of the frame, so that they need no scaling; frames that are no larger stay as
    they are. Follows :class:`ivos.engine.LiveSegmenter`.

    Args:
        segmenter: what runs.
        short_side: in pixels, 32 or more.

    Raises:
        UserError: such a size is none.
    """

    def __init__(self, segmenter: ATNetSegmenter, short_side: int) -> None:
        if isinstance(short_side, bool) or not isinstance(short_side, int) or short_side < 32:
            raise UserError(f"segmenter.short_side: a whole number from 32, or null, got {short_side!r}")
        self.segmenter, self.short_side = segmenter, short_side
        self._size: tuple[int, int] | None = None  # (h, w) of the frames as given; None: they stay so
        self._num_frames = 0

    @property
    def click_radius(self) -> float:
        """The radius of the mark of a click, see :func:`ivos.interaction.clicks.click_radius`."""
        return self.segmenter.click_radius

    @property
    def network(self) -> ATNet:
        """What runs."""
        return self.segmenter.network

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities of the objects after the last round at the frames' own size, float32 [T, N, h, w]."""
        small = self.segmenter.probabilities
        return small if self._size is None else np.stack([self._enlarged(one) for one in small])

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video; see :meth:`ivos.engine.Segmenter.start`."""
        self._size = None
        if frames.ndim == 4 and min(frames.shape[1:3]) > self.short_side:
            self._size, self._num_frames = (int(frames.shape[1]), int(frames.shape[2])), len(frames)
            factor = self.short_side / min(self._size)
            h, w = (max(self.short_side, round(factor * side)) for side in self._size)
            small = [cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA) for frame in frames]
            frames = np.stack(small).astype(np.uint8)
        self.segmenter.start(frames, num_objects)

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a round; see :meth:`ivos.engine.Segmenter.interact`."""
        return self._masks(self.segmenter.interact(frame, strokes))

    def preview(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """The frame's labels by A-Net; see :meth:`ivos.engine.LiveSegmenter.preview`."""
        if self._size is None:
            return self.segmenter.preview(frame, strokes)
        return self._labels(self.segmenter.preview_probabilities(frame, strokes))

    def planned(self, frame: int) -> tuple[int, int]:
        """How far a round goes; see :meth:`ivos.engine.LiveSegmenter.planned`."""
        return self.segmenter.planned(frame)

    def propagate(
        self, frame: int, strokes: Sequence[Stroke], reach: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Run a round frame by frame; see :meth:`ivos.engine.LiveSegmenter.propagate`."""
        steps = self.segmenter.propagate(frame, strokes, reach)
        return steps if self._size is None else self._stream(steps)

    def _stream(
        self, steps: Iterator[tuple[int, NDArray[np.uint8]]]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        with contextlib.closing(cast(Generator[tuple[int, NDArray[np.uint8]], None, None], steps)):
            for target, _ in steps:
                yield target, self._labels(self.segmenter.probabilities_of(target))

    def undo(self) -> NDArray[np.uint8]:
        """Take the latest round back; see :meth:`ivos.engine.LiveSegmenter.undo`."""
        return self._masks(self.segmenter.undo())

    def add_object(self) -> int:
        """Have one more object from the next round on; see :meth:`ivos.engine.LiveSegmenter.add_object`."""
        return self.segmenter.add_object()

    def confidence(self) -> NDArray[np.float32]:
        """How sure the masks are at the smaller size; see :meth:`ivos.engine.LiveSegmenter.confidence`."""
        return self.segmenter.confidence()

    def _masks(self, small: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels [T, h, w] of the state at the frames' own size; `small` are those of the segmenter."""
        if self._size is None:
            return small
        masks = np.empty((self._num_frames, *self._size), np.uint8)
        for frame in range(self._num_frames):
            masks[frame] = self._labels(self.segmenter.probabilities_of(frame))
        return masks

    def _labels(self, probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Labels [h, w] at the frames' own size from the segmenter's probabilities [N, ...]."""
        return to_labels(torch.from_numpy(self._enlarged(probabilities))).numpy()

    def _enlarged(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, h, w] at the frames' own size."""
        assert self._size is not None
        size = self._size[::-1]
        return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in probabilities])
