"""Semi-supervised segmentation as a protocol: each object's true mask is given on its first frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ivos.metrics import mean_over
from ivos.session.clicks import NO_LIMIT, NO_ROBOT
from ivos.session.davis import ground_truth
from ivos.session.rounds import FramePrompts, Protocol, ScoredRound, Scores
from ivos.session.sample import Sample
from ivos.session.settings import Metric, SessionSettings
from ivos.video.labels import VOID
from ivos.video.video import Video

Masks = NDArray[np.uint8]


@dataclass(frozen=True)
class FirstMask:
    """The semi-supervised protocol of DAVIS, YouTube-VOS, MOSE and LVOS, in one forward pass.

    Every object's true mask is given on the first frame that shows it; earlier frames keep their masks. There
    is one round without corrections. Videos that only have first masks
    (:class:`ivos.video.video.FirstMasksVideo`) are segmented but not scored.
    """

    prompts: ClassVar[Literal["masks"]] = "masks"
    ends_early: ClassVar[bool] = False
    unused: ClassVar[Mapping[str, str]] = {
        **NO_ROBOT,
        **NO_LIMIT,
        "max_interactions": "all masks are given in one round",
    }
    name: str = "first_mask"

    def adapt(self, settings: SessionSettings) -> SessionSettings:
        """Return the settings with one round and without a time limit."""
        return replace(settings, max_interactions=1, max_time=None)

    def videos(self, videos: Sequence[Video]) -> Sequence[Video]:
        """Return the videos without their scribble files, so that each video is one sample."""
        return [replace(video, scribbles=()) for video in videos]

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> Protocol:
        """Return the protocol of one decoded sample."""
        return FirstMaskProtocol(sample)

    def seconds(self, num_frames: int, prompted: int) -> None:
        """Return None, because there is no user."""


class FirstMaskProtocol:
    """The semi-supervised protocol of one sample: the objects' first masks, in the order of their frames.

    Args:
        sample: A decoded sample.
    """

    max_rounds, max_seconds = 1, None

    def __init__(self, sample: Sample) -> None:
        clip = sample.clip
        self._clip, self._labels, self._known = clip, clip.labels, clip.known
        shown = np.stack([(clip.labels == number + 1).any(axis=(1, 2)) for number in range(clip.num_objects)])
        first = [int(row.argmax()) if row.any() else -1 for row in shown]
        frames = sorted({frame for frame in first if frame >= 0})
        self._given = [(f, [n + 1 for n, at in enumerate(first) if at == f]) for f in frames]
        self._kept = np.zeros_like(clip.labels)
        self._begun: list[int] = []

    def first(self) -> FramePrompts:
        """Return the labels of the first frame that shows an object."""
        return self._prompt() if self._given else FramePrompts(0, [])

    def following(self, masks: Masks) -> FramePrompts | None:
        """Return the labels of the next frame on which objects first appear, or None at the end."""
        return self._prompt() if self._given else None

    def accept(self, masks: Masks, frame: int) -> Masks:
        """Return the resulting masks: earlier frames keep theirs, and objects not given yet are removed."""
        later = np.where(np.isin(masks[frame:], self._begun), masks[frame:], 0).astype(np.uint8)
        self._kept = np.concatenate([self._kept[:frame], later])
        return self._kept

    def score(self, masks: Masks) -> Scores:
        """Return J and F, which are NaN on frames before an object's position is known."""
        if not self._known.any():
            return Scores(*[np.full(self._known.shape, np.nan)] * 2)
        truth = ground_truth(self._clip)
        measured = truth.jaccard(masks), truth.f_measure(masks)
        return Scores(*(np.where(self._known, values, np.nan) for values in measured))

    def next(self, last: ScoredRound) -> None:
        """Return None, because there is only one round."""

    def _prompt(self) -> FramePrompts:
        """Return a frame's labels: the true masks of new objects over the current masks of the others."""
        frame, numbers = self._given.pop(0)
        self._begun += numbers
        true = self._labels[frame]
        labels = np.where(np.isin(true, numbers), true, self._kept[frame]).astype(np.uint8)
        return FramePrompts(frame, [], np.where(labels == VOID, 0, labels).astype(np.uint8))


def semi_supervised_scores(quality: NDArray[np.float64], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of a measure for each object, as defined by semi-supervised benchmarks.

    As in vos-benchmark, the first and the last frame of the video and frames before the object's first
    appearance are not scored. For objects on the first frame, the mean equals that of davis2017-evaluation.

    Args:
        quality: J or F of each object on each frame [T, N]; NaN if unknown.
        areas: Number of pixels of each object on each frame [T, N].

    Returns:
        The means, float64 [N]; NaN for an object that is not on any scored frame.
    """
    appeared = np.maximum.accumulate(areas > 0, axis=0)
    counts = appeared.copy()
    counts[[0, -1]] = False
    seen = (areas[1:-1] > 0).any(axis=0)
    return np.where(seen, mean_over(np.where(counts, quality, np.nan), axis=0), np.nan)
