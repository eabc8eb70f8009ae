"""The DAVIS interactive protocol (Caelles et al., 2018): strokes on the worst frame not yet annotated."""

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivos.interaction.robot import Robot
from ivos.metrics import GroundTruth, mean_over
from ivos.session.rounds import FramePrompts, ScoredRound, Scores
from ivos.session.sample import Sample
from ivos.session.settings import Metric, SessionSettings
from ivos.video.clip import Clip
from ivos.video.labels import VOID, most_telling_frames

_last: list[tuple[Clip, GroundTruth]] = []


def ground_truth(clip: Clip) -> GroundTruth:
    """Return the ground truth of a clip; the latest one is cached for consecutive samples of a clip."""
    if not _last or _last[0][0] is not clip:
        _last[:] = [(clip, GroundTruth(clip.labels, clip.num_objects))]
    return _last[0][1]


class User(Protocol):
    """Interface of a simulated user of one sample, who gives prompts on frames that a protocol chooses."""

    def first(self) -> FramePrompts:
        """Return the prompts of the first round."""

    def correct(self, masks: NDArray[np.uint8], frame: int, number: int) -> FramePrompts:
        """Return prompts that correct a frame of the masks [T, h, w] of round ``number``."""


class DavisProtocol:
    """The DAVIS protocol of one sample: choice of frames, scores and limits.

    The next frame is the one with the lowest metric (mean over its objects) among those not prompted so far,
    or among all frames once all have been prompted; on a tie it is the earliest. As in davisinteractive, the
    frame of the first strokes does not count as prompted. Frames on which no object's position is known are
    never prompted.

    Args:
        sample: A decoded sample.
        user: User who gives the prompts.
        metric: Metric that determines the worst frame.
        max_rounds: Number of rounds.
        max_time: Time limit in seconds per object; None for no limit.
        f_measure: Whether F is computed even if the metric is J.
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

    def first(self) -> FramePrompts:
        """Return the user's first strokes."""
        return self.user.first()

    def score(self, masks: NDArray[np.uint8]) -> Scores:
        """Return J and F [T, N], which are NaN on frames before an object's position is known."""
        jaccard = np.where(self._known, self._truth.jaccard(masks), np.nan)
        if not self._with_f:
            return Scores(jaccard)
        return Scores(jaccard, np.where(self._known, self._truth.f_measure(masks), np.nan))

    def next(self, last: ScoredRound) -> FramePrompts | None:
        """Return the user's strokes on the worst frame."""
        frame = worst_frame(mean_over(of_metric(last, self.metric), axis=1), self._asked)
        self._asked.add(frame)
        return self.user.correct(last.masks, frame, last.number)


def of_metric(scored: ScoredRound, metric: Metric) -> NDArray[np.float64]:
    """Return J, F or the mean of both [T, N] of a round.

    Raises:
        ValueError: F is needed but was not computed.
    """
    if metric == "J":
        return scored.jaccard
    if scored.f_measure is None:
        raise ValueError(f"{metric}: F was not computed")
    return scored.f_measure if metric == "F" else 0.5 * scored.jaccard + 0.5 * scored.f_measure


def worst_frame(quality: NDArray[np.float64], asked: Collection[int]) -> int:
    """Return the frame with the lowest quality [T] that is not in ``asked``, or among all if all are in it.

    Frames with quality NaN are ignored. On a tie the earliest frame is returned.
    """
    order = [int(frame) for frame in quality.argsort(kind="stable") if not np.isnan(quality[frame])]
    return next((frame for frame in order if frame not in asked), order[0])


def truth_to_correct(clip: Clip, masks: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
    """Return the true labels [h, w] of a frame for a user who corrects the masks [T, h, w].

    Pixels that the masks assign to an object whose true position on the frame is unknown are void.
    """
    unknown = np.flatnonzero(~clip.known[frame]) + 1
    return np.where(np.isin(masks[frame], unknown), VOID, clip.labels[frame]).astype(np.uint8)


class RobotUser:
    """The DAVIS robot as a user: first strokes from the sample's file or by the robot, then corrections.

    Without a file, the robot draws the first strokes on the frame that shows most of the objects. Random
    choices of the robot depend on the seed, the name of the video, the number of the scribble file and the
    round only, so that they are repeatable.

    Args:
        sample: A decoded sample.
        robot: Robot that draws the strokes.
        seed: Seed of the robot's tie-breaks.
    """

    def __init__(self, sample: Sample, robot: Robot, seed: int) -> None:
        self.sample, self.robot, self.seed = sample, robot, seed

    def first(self) -> FramePrompts:
        """Return the strokes of the sample's file, or else strokes of the robot."""
        clip, drawn = self.sample.clip, self.sample.strokes
        if drawn is not None:
            frames = [frame for frame, strokes in enumerate(drawn["scribbles"]) if strokes]
            return FramePrompts(frames[0], drawn["scribbles"][frames[0]]) if frames else FramePrompts(0, [])
        frame = most_telling_frames(clip.labels, clip.num_objects)[0]
        return self.correct(np.zeros_like(clip.labels), frame, 0)

    def correct(self, masks: NDArray[np.uint8], frame: int, number: int) -> FramePrompts:
        """Return the robot's strokes on a frame after round ``number``."""
        clip = self.sample.clip
        truth = truth_to_correct(clip, masks, frame)
        key = (self.seed, clip.name, self.sample.scribble, number)
        return FramePrompts(frame, self.robot.strokes(masks[frame], truth, clip.num_objects, key))


def davis(sample: Sample, settings: SessionSettings, metric: Metric) -> DavisProtocol:
    """Return the DAVIS protocol of a sample with the robot that the settings describe."""
    user = RobotUser(sample, Robot(**settings.robot), settings.seed)
    return DavisProtocol(sample, user, metric, settings.max_interactions, settings.max_time)
