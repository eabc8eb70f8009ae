"""A protocol in which frames are chosen by the segmenter's confidence, and the calibration of confidences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ivos.interaction.robot import Robot
from ivos.metrics import mean_over
from ivos.runtime.options import Share
from ivos.session.clicks import Davis
from ivos.session.davis import DavisProtocol, RobotUser
from ivos.session.rounds import FramePrompts, Protocol, ScoredRound
from ivos.session.sample import Sample
from ivos.session.settings import Metric, SessionSettings


@dataclass(frozen=True)
class DavisConfident(Davis):
    """The DAVIS session with frames chosen by the segmenter's confidence instead of the true masks.

    The next frame is the least confident one that has not been prompted. The session ends when every frame
    has at least the confidence ``stop``.

    Attributes:
        stop: Minimum confidence over all frames at which the user stops.
    """

    ends_early: ClassVar[bool] = True
    name: str = "davis_confident"
    stop: Share = 0.9

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> Protocol:
        """Return the protocol of one decoded sample."""
        user = RobotUser(sample, Robot(**settings.robot), settings.seed)
        return _ConfidentProtocol(
            sample, user, metric, settings.max_interactions, settings.max_time, stop=self.stop
        )


class _ConfidentProtocol(DavisProtocol):
    """The DAVIS protocol of one sample, with frames chosen by confidence."""

    needs_confidence = True

    def __init__(self, *arguments: object, stop: float) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._stop = stop

    def next(self, last: ScoredRound) -> FramePrompts | None:
        """Return strokes on the least confident frame, or None if all frames are confident enough."""
        assert last.confidence is not None
        sure = last.confidence if last.confidence.ndim == 1 else last.confidence.min(axis=1)
        sure = np.where(self._known.any(axis=1), sure, np.nan)
        self._asked.add(last.frame)
        open_frames = [
            t for t in np.argsort(sure, kind="stable") if not np.isnan(sure[t]) and t not in self._asked
        ]
        if not open_frames or np.nanmin(sure) >= self._stop:
            return None
        frame = int(open_frames[0])
        return self.user.correct(last.masks, frame, last.number)


class Calibration(NamedTuple):
    """Calibration of confidences as predictions of J.

    Attributes:
        error: Mean absolute difference between confidence and J.
        calibration_error: Expected calibration error: the absolute difference between mean confidence and
            mean J in each of ten equal bins of confidence, weighted by the bin's share of the pairs.
        pairs: Number of pairs of confidence and J.
    """

    error: float
    calibration_error: float
    pairs: int


def calibration(
    confidence: Sequence[float] | NDArray[np.floating],
    jaccard: Sequence[float] | NDArray[np.floating],
    bins: int = 10,
) -> Calibration:
    """Return the calibration of confidences as predictions of J; pairs with NaN are ignored.

    >>> found = calibration([0.8, 0.8, 0.2], [1.0, 0.6, 0.5])
    >>> round(found.error, 3), round(found.calibration_error, 3), found.pairs
    (0.233, 0.1, 3)
    """
    sure, quality = np.asarray(confidence, np.float64), np.asarray(jaccard, np.float64)
    known = ~(np.isnan(sure) | np.isnan(quality))
    sure, quality = sure[known], quality[known]
    if not sure.size:
        return Calibration(float("nan"), float("nan"), 0)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[place == one].mean() - quality[place == one].mean()) for one in np.unique(place)]
    shares = [(place == one).mean() for one in np.unique(place)]
    error = float(np.abs(sure - quality).mean())
    return Calibration(error, float(np.dot(gaps, shares)), int(sure.size))


def confidence_pairs(scored: ScoredRound) -> NDArray[np.float64]:
    """Return pairs of confidence and J in a round [P, 2], one per frame (mean over objects) or per object."""
    assert scored.confidence is not None
    quality = scored.jaccard if scored.confidence.ndim == 2 else mean_over(scored.jaccard, axis=1)
    return np.stack([scored.confidence.ravel(), quality.ravel()], axis=1).astype(np.float64)
