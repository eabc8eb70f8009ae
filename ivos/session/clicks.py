"""Configurable protocols: the DAVIS session with strokes or clicks, and the two protocols of SAM 2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ivos.interaction.clicks import PromptKind, click_on_error, clicks_on_errors
from ivos.metrics import mean_over
from ivos.runtime.options import Share, number, whole
from ivos.runtime.signatures import check_fields
from ivos.session.davis import DavisProtocol, davis, ground_truth, truth_to_correct, worst_frame
from ivos.session.objects import split_objects
from ivos.session.rounds import FramePrompts, ScoredRound, Scores
from ivos.session.rounds import Protocol as SessionProtocol
from ivos.session.sample import Sample
from ivos.session.settings import Metric, SessionSettings
from ivos.video.labels import most_telling_frames
from ivos.video.video import Video

Masks = NDArray[np.uint8]
Seconds = Annotated[float, number(0)]
NO_ROBOT = {"robot": "no stroke of this protocol is the robot's"}
NO_LIMIT = {"max_time": "this protocol has no limit of time"}
"""Settings of the session that a protocol may not use, with the reasons, for its attribute ``unused``."""


class ProtocolFactory(Protocol):
    """Interface of the configuration of a protocol, which creates the protocol of each sample."""

    @property
    def name(self) -> str:
        """The protocol's name in reports."""

    @property
    def prompts(self) -> str:
        """The kind of prompts that the simulated user gives: strokes, clicks or masks."""

    @property
    def ends_early(self) -> bool:
        """Whether a session may end before the maximum number of rounds without reaching the time limit."""

    def adapt(self, settings: SessionSettings) -> SessionSettings:
        """Return the session's settings, overridden by those that the protocol prescribes."""

    def videos(self, videos: Sequence[Video]) -> Sequence[Video]:
        """Return the videos that the protocol runs on."""

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> SessionProtocol:
        """Return the protocol of one decoded sample."""

    def seconds(self, num_frames: int, prompted: int) -> float | None:
        """Return the user's time for a video according to the protocol's model, or None without a model.

        Args:
            num_frames: Number of frames of the video.
            prompted: Number of prompted frames.
        """


@dataclass(frozen=True)
class Davis:
    """The DAVIS session with the robot's strokes."""

    prompts: ClassVar[PromptKind] = "strokes"
    ends_early: ClassVar[bool] = False
    name: str = "davis"

    def __post_init__(self) -> None:
        check_fields(self, "protocol")

    def adapt(self, settings: SessionSettings) -> SessionSettings:
        """Return the settings unchanged."""
        return settings

    def videos(self, videos: Sequence[Video]) -> Sequence[Video]:
        """Return the videos unchanged."""
        return videos

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> SessionProtocol:
        """Return the DAVIS protocol of a sample; see :func:`ivos.session.davis.davis`."""
        return davis(sample, settings, metric)

    def seconds(self, num_frames: int, prompted: int) -> float | None:
        """Return None, because the session measures real time."""
        return None


class ClickUser:
    """Simulated user who clicks on errors by rule S3 of CiVOS.

    See :func:`ivos.interaction.clicks.clicks_on_errors`.
    """

    def __init__(self, sample: Sample, clicks: int, min_area: int) -> None:
        self.sample, self.clicks, self.min_area = sample, clicks, min_area

    def first(self) -> FramePrompts:
        """Return clicks on the objects, on the frame that shows most of them."""
        clip = self.sample.clip
        frame = most_telling_frames(clip.labels, clip.num_objects)[0]
        return self.correct(np.zeros_like(clip.labels), frame, 0)

    def correct(self, masks: Masks, frame: int, number: int) -> FramePrompts:
        """Return clicks on the errors of a frame."""
        truth, num_objects = truth_to_correct(self.sample.clip, masks, frame), self.sample.clip.num_objects
        clicks = clicks_on_errors(truth, masks[frame], num_objects, self.clicks, self.min_area)
        return FramePrompts(frame, clicks)


@dataclass(frozen=True)
class DavisClicks(Davis):
    """The DAVIS session with clicks instead of strokes: strategy S3 of CiVOS (Vujasinovic et al., 2022).

    Attributes:
        clicks: Largest number of positive clicks and largest number of negative clicks per object and round.
        min_area: Smallest area of an error region that is clicked on, in pixels.
    """

    prompts: ClassVar[PromptKind] = "clicks"
    unused: ClassVar[Mapping[str, str]] = NO_ROBOT
    name: str = "davis_clicks"
    clicks: Annotated[int, whole(1)] = 3
    min_area: Annotated[int, whole(1)] = 100

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> SessionProtocol:
        """Return the DAVIS protocol of a sample with a user who clicks."""
        user = ClickUser(sample, self.clicks, self.min_area)
        return DavisProtocol(sample, user, metric, settings.max_interactions, settings.max_time)


@dataclass(frozen=True)
class Sam2Offline:
    """The offline protocol of SAM 2 (Ravi et al., 2024, E.1.2), which segments each object separately.

    In the first round, the user makes ``clicks`` clicks on the first frame that shows the object; in each
    later round, on the frame with the lowest IoU. The whole video is then segmented again from all clicks.
    Each click is at the centre of the error that remains after the previous clicks
    (:func:`ivos.interaction.clicks.error_centre`).

    Attributes:
        frames: Largest number of prompted frames, which is the number of rounds.
        clicks: Number of clicks on each prompted frame.
        click_seconds: User's time for a click.
        look_seconds: User's time for finding a frame.
        watch_seconds: User's time for watching 300 frames; an offline user watches the video once for each
            prompted frame.
        threshold: IoU threshold of the online protocol; None for the offline protocol.
    """

    prompts: ClassVar[PromptKind] = "clicks"
    ends_early: ClassVar[bool] = True  # if all frames have been prompted, or all later frames are good
    unused: ClassVar[Mapping[str, str]] = {
        **NO_ROBOT,
        **NO_LIMIT,
        "max_interactions": "the number of rounds is protocol.frames",
    }
    name: str = "sam2_offline"
    frames: Annotated[int, whole(1, 16)] = 8
    clicks: Annotated[int, whole(1)] = 3
    click_seconds: Seconds = 1.5
    look_seconds: Seconds = 1.0
    watch_seconds: Seconds = 30.0
    threshold: Share | None = None

    def __post_init__(self) -> None:
        check_fields(self, "protocol")

    def adapt(self, settings: SessionSettings) -> SessionSettings:
        """Return the settings with one round per prompted frame and without a time limit."""
        return replace(settings, max_interactions=self.frames, max_time=None)

    def videos(self, videos: Sequence[Video]) -> Sequence[Video]:
        """Return one video per object."""
        return split_objects(videos)

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> SessionProtocol:
        """Return the protocol of one object."""
        return Sam2Protocol(sample, self.frames, self.clicks, self.threshold)

    def seconds(self, num_frames: int, prompted: int) -> float:
        """Return the time for watching, finding and clicking, summed over the prompted frames."""
        watching = self.watch_seconds * num_frames / 300
        return (watching + self.look_seconds + self.click_seconds * self.clicks) * prompted


@dataclass(frozen=True)
class Sam2Online(Sam2Offline):
    """The online protocol of SAM 2: one forward pass, which pauses for clicks on bad masks.

    It differs from the offline protocol in two points: the next prompted frame is the first one after the
    last prompted frame whose IoU is below ``threshold``, and prompts only change later frames. The user
    watches the video once.
    """

    name: str = "sam2_online"
    threshold: Share = 0.75

    def seconds(self, num_frames: int, prompted: int) -> float:
        """Return the time for watching once, and for finding and clicking on each prompted frame."""
        each = self.look_seconds + self.click_seconds * self.clicks
        return self.watch_seconds * num_frames / 300 + each * prompted


class Sam2Protocol:
    """The protocols of SAM 2 for one object.

    Args:
        sample: A decoded sample with one object.
        frames: Largest number of prompted frames.
        clicks: Number of clicks on each prompted frame.
        threshold: IoU below which the online protocol pauses; None for the offline protocol.
    """

    max_seconds = None

    def __init__(self, sample: Sample, frames: int, clicks: int, threshold: float | None) -> None:
        clip = sample.clip
        if clip.num_objects != 1:
            raise ValueError(f"{clip.name}: one object is needed, there are {clip.num_objects}")
        self.max_rounds, self.clicks, self.threshold = frames, clicks, threshold
        self._labels, self._known = clip.labels, clip.known
        self._truth = ground_truth(clip)
        self._asked: list[int] = []
        self._kept = np.zeros_like(clip.labels)

    def first(self) -> FramePrompts:
        """Return the first click, on the first frame that shows the object."""
        frame = int((self._labels == 1).any(axis=(1, 2)).argmax())
        return self._prompt(frame, self._kept)

    def refine(self, prompt: FramePrompts, mask: Masks) -> FramePrompts | None:
        """Return another click on the error of the frame's current mask; None after the last click."""
        click = None if len(prompt.strokes) >= self.clicks else self._click(prompt.frame, mask)
        return None if click is None else FramePrompts(prompt.frame, [click])

    def accept(self, masks: Masks, frame: int) -> Masks:
        """Return the resulting masks; online, frames before the prompted one keep their masks."""
        if self.threshold is not None:
            masks = np.concatenate([self._kept[:frame], masks[frame:]])
        self._kept = masks
        return masks

    def score(self, masks: Masks) -> Scores:
        """Return J and F, which are NaN on frames before the object's position is known."""
        measured = self._truth.jaccard(masks), self._truth.f_measure(masks)
        return Scores(*(np.where(self._known, values, np.nan) for values in measured))

    def next(self, last: ScoredRound) -> FramePrompts | None:
        """Return the first click on the next frame, or None if no frame needs one."""
        quality = mean_over(last.jaccard, axis=1)
        if self.threshold is None:
            if len(self._asked) == np.count_nonzero(~np.isnan(quality)):
                return None
            return self._prompt(worst_frame(quality, self._asked), last.masks)
        later = range(self._asked[-1] + 1, len(quality))
        bad = next((t for t in later if quality[t] < self.threshold), None)
        return None if bad is None else self._prompt(bad, last.masks)

    def _prompt(self, frame: int, masks: Masks) -> FramePrompts:
        self._asked.append(frame)
        click = self._click(frame, masks[frame])
        return FramePrompts(frame, [] if click is None else [click])

    def _click(self, frame: int, mask: Masks) -> Any:
        return click_on_error(self._labels[frame], mask, 1)
