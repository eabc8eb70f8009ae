"""The DAVIS interactive protocol (Caelles et al., 2018): strokes on the worst frame not yet annotated."""

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivos.interaction.robot import Robot
from ivos.metrics import GroundTruth
from ivos.session.metrics import mean_over
from ivos.session.rounds import Prompt, Round, Scores
from ivos.session.sample import Sample
from ivos.session.settings import Metric, SessionSettings
from ivos.video.clip import Clip
from ivos.video.labels import VOID, most_telling_frames

_last: list[tuple[Clip, GroundTruth]] = []


def ground_truth(clip: Clip) -> GroundTruth:
    """What a clip's masks are scored by; that of the last clip is kept, since its other samples follow."""
    if not _last or _last[0][0] is not clip:
        _last[:] = [(clip, GroundTruth(clip.labels, clip.num_objects))]
    return _last[0][1]


class User(Protocol):
    """Who draws in a session on one sample, on the frames that a protocol chooses; made for that sample."""

    def first(self) -> Prompt:
        """The first strokes."""

    def correct(self, masks: NDArray[np.uint8], frame: int, number: int) -> Prompt:
        """Correct a frame of the masks [T, h, w] that round ``number`` has left."""


class DavisProtocol:
    """The DAVIS session's choice of frames, scores and limits.

    The next frame is the one of lowest metric (mean over its objects) among those not yet asked about, the
    earliest on a tie; once all have been asked about, among all. As in davisinteractive, the frame of the
    first strokes has not been asked about. Frames before the begin of all objects are never asked about.

    Args:
        sample: decoded.
        user: who draws.
        metric: what the frames are chosen by; F is measured where it is needed or ``f_measure`` says so.
        max_rounds: rounds.
        max_time: seconds for each object; None for no limit.
        f_measure: measure F, whatever the metric is.
    """

    def __init__(
        self,
        sample: Sample,
        user: User,
        metric: Metric,
        max_rounds: int,
        max_time: float | None = None,
        f_measure: bool = True,
    ) -> None:
        clip = sample.clip
        self.user, self.metric, self.max_rounds = user, metric, max_rounds
        self.max_seconds = None if max_time is None else max_time * clip.num_objects
        self._truth, self._known = ground_truth(clip), clip.known
        self._with_f = f_measure or metric != "J"
        self._asked: set[int] = set()

    def first(self) -> Prompt:
        """The user's first strokes."""
        return self.user.first()

    def score(self, masks: NDArray[np.uint8]) -> Scores:
        """J and F; NaN before an object's begin."""
        jaccard = np.where(self._known, self._truth.jaccard(masks), np.nan)
        if not self._with_f:
            return Scores(jaccard)
        return Scores(jaccard, np.where(self._known, self._truth.f_measure(masks), np.nan))

    def next(self, last: Round) -> Prompt:
        """The user's strokes on the worst frame."""
        frame = worst_frame(mean_over(of_metric(last, self.metric), axis=1), self._asked)
        self._asked.add(frame)
        return self.user.correct(last.masks, frame, last.number)


def of_metric(scored: Round, metric: Metric) -> NDArray[np.float64]:
    """A round's J, F or the mean of both [T, N].

    Raises:
        ValueError: F is needed and was not measured.
    """
    if metric == "J":
        return scored.jaccard
    if scored.f_measure is None:
        raise ValueError(f"{metric}: F was not measured")
    return scored.f_measure if metric == "F" else 0.5 * scored.jaccard + 0.5 * scored.f_measure


def worst_frame(quality: NDArray[np.float64], asked: Collection[int]) -> int:
    """The frame of lowest quality [T] among those not in ``asked``, or, where all are, among all.

    Frames of quality NaN do not count. Among equals it is the earliest one, on every processor.
    """
    order = [int(frame) for frame in quality.argsort(kind="stable") if not np.isnan(quality[frame])]
    return next((frame for frame in order if frame not in asked), order[0])


def truth_to_correct(clip: Clip, masks: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
    """A frame's true labels [h, w] for who corrects the masks [T, h, w].

    What the masks give to an object on a frame before the object's begin is neither right nor wrong: void.
    """
    unknown = np.flatnonzero(~clip.known[frame]) + 1
    return np.where(np.isin(masks[frame], unknown), VOID, clip.labels[frame]).astype(np.uint8)


class RobotUser:
    """Draws a sample's first strokes, or reads them from its file, and corrections, as the DAVIS robot does.

    Where there is no file the robot draws on the most telling frame. Its ties are broken from (seed, name of
    the video, number of the strokes, number of the round), so that no round depends on what was run before.

    Args:
        sample: decoded.
        robot: what draws.
        seed: of the ties.
    """

    def __init__(self, sample: Sample, robot: Robot, seed: int) -> None:
        self.sample, self.robot, self.seed = sample, robot, seed

    def first(self) -> Prompt:
        """The strokes of the sample's file, or the robot's."""
        clip, drawn = self.sample.clip, self.sample.strokes
        if drawn is not None:
            frames = [frame for frame, strokes in enumerate(drawn["scribbles"]) if strokes]
            return Prompt(frames[0], drawn["scribbles"][frames[0]]) if frames else Prompt(0, [])
        frame = most_telling_frames(clip.labels, clip.num_objects)[0]
        return self.correct(np.zeros_like(clip.labels), frame, 0)

    def correct(self, masks: NDArray[np.uint8], frame: int, number: int) -> Prompt:
        """The robot's strokes on a frame after round ``number``."""
        clip = self.sample.clip
        truth = truth_to_correct(clip, masks, frame)
        key = (self.seed, clip.name, self.sample.scribble, number)
        return Prompt(frame, self.robot.strokes(masks[frame], truth, clip.num_objects, key))


def davis(sample: Sample, settings: SessionSettings, metric: Metric) -> DavisProtocol:
    """The protocol with a robot, as the settings have it."""
    user = RobotUser(sample, Robot(**settings.robot), settings.seed)
    return DavisProtocol(sample, user, metric, settings.max_interactions, settings.max_time)
