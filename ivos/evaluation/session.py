"""The DAVIS interactive session on any data set: requests, scoring, and what the robot draws next."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ivos.errors import UserError
from ivos.evaluation.settings import Metric, SessionSettings
from ivos.interaction import Scribbles, Stroke
from ivos.interaction.labels import most_telling_frames
from ivos.interaction.robot import Robot  # also mends davisinteractive, so it must come before it
from ivos.metrics import GroundTruth

from davisinteractive.connector.abstract import AbstractConnector  # isort: skip
from davisinteractive.dataset import Davis  # isort: skip
from davisinteractive.evaluation import EvaluationService  # isort: skip
from davisinteractive.session import DavisInteractiveSession  # isort: skip
from davisinteractive.storage import LocalStorage  # isort: skip


Sample = tuple[str, int]  # a sequence's name and the number of its first strokes, from 1


class Video(Protocol):
    """What the session needs of a sequence (``data.davis.Sequence`` is one)."""

    @property
    def name(self) -> str:
        """Unique in its data set."""

    @property
    def num_frames(self) -> int:
        """T."""

    @property
    def num_objects(self) -> int:
        """N."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""

    @property
    def scribbles(self) -> Sequence[Path]:
        """Files with first strokes; empty where the robot is to draw them."""

    @property
    def num_scribbles(self) -> int:
        """Samples on this video: one for each file, or one without any."""

    def load_frames(self) -> NDArray[np.uint8]:
        """RGB [T, h, w, 3]."""

    def load_annotations(self) -> NDArray[np.uint8]:
        """Labels [T, h, w]; 255 is void."""

    def load_scribbles(self, index: int) -> Scribbles:
        """The strokes of file ``index``, counted from 1."""


def all_samples(videos: Sequence[Video]) -> list[Sample]:
    """Every sample of the sequences, in order."""
    return [(video.name, number + 1) for video in videos for number in range(video.num_scribbles)]


@dataclass(frozen=True)
class Request:
    """One round asked of the segmenter."""

    video: Video
    scribble: int  # 1-based index of the sample's first strokes
    round: int  # 1-based
    frame: int | None  # where the strokes are; None where there is nothing to correct
    strokes: list[Stroke]


class _Scorer(EvaluationService):
    """Scores rounds and draws the next strokes: davisinteractive's local service on any data set.

    The official summary is inherited. Rounds are scored by our own metrics, which are equal; a sample's
    ground truth is read once; the robot is seeded by (seed, sequence, scribble, round), so that no round
    depends on which others were run before it.
    """

    def __init__(
        self, videos: Sequence[Video], metric: Metric, settings: SessionSettings, samples: Sequence[Sample]
    ) -> None:
        self.videos = {video.name: video for video in videos}
        self.samples = list(samples)
        self.robot = Robot(**settings.robot)
        self.seed = settings.seed
        self.metric_to_optimize = metric
        self.storage = LocalStorage()
        self.sequences = list(self.videos)
        self.max_t, self.max_i = settings.max_time, settings.max_interactions
        self.time_threshold = settings.time_threshold
        self.avg_nb_objects = float(np.mean([video.num_objects for video in videos]))
        self._truth: tuple[str, GroundTruth] | None = None

    def get_samples(self, *_: Any, **__: Any) -> tuple[list[tuple[str, int]], float | None, int]:
        """The samples by name and number, and the limits."""
        return self.samples, self.max_t, self.max_i

    def get_scribble(self, sequence: str, scribble_idx: int) -> Scribbles:
        """The first strokes of a sample: of its file, or the robot's on the frame that shows most."""
        video = self.videos[sequence]
        if video.scribbles:
            return video.load_scribbles(scribble_idx)
        truth = self._ground_truth(sequence).labels
        frame = most_telling_frames(truth, video.num_objects)[0]
        return self._draw(sequence, scribble_idx, 0, np.zeros_like(truth), frame)

    def post_predicted_masks(
        self,
        sequence: str,
        scribble_idx: int,
        pred_masks: NDArray[np.uint8],
        timing: float,
        interaction: int,
        *user: str,
        next_scribble_frame_candidates: list[int] | None = None,
    ) -> Scribbles:
        """Score a round and draw the strokes of the next one on the worst frame not yet annotated."""
        truth = self._ground_truth(sequence)
        j, f = truth.jaccard(pred_masks), truth.f_measure(pred_masks)
        frames, objects = np.indices(j.shape)
        user_key, session_key = user
        self.storage.store_interactions_results(
            *(user_key, session_key, sequence, scribble_idx, interaction, timing),
            *(
                (objects + 1).ravel().tolist(),
                frames.ravel().tolist(),
                j.ravel().tolist(),
                f.ravel().tolist(),
            ),
        )
        quality = {"J": j, "F": f, "J_AND_F": 0.5 * j + 0.5 * f}[self.metric_to_optimize].mean(axis=1)
        asked = set(next_scribble_frame_candidates or range(len(j)))
        fresh = asked - set(self.storage.get_annotated_frames(session_key, sequence, scribble_idx))
        # A stable sort: among equals the earliest frame, on every processor.
        worst = int(next(i for i in quality.argsort(kind="stable") if i in (fresh or asked)))
        self.storage.store_annotated_frame(
            session_key, sequence, scribble_idx, worst, next_scribble_frame_candidates is not None
        )
        return self._draw(sequence, scribble_idx, interaction, pred_masks, worst)

    def _draw(
        self, sequence: str, scribble: int, interaction: int, prediction: NDArray[np.uint8], frame: int
    ) -> Scribbles:
        truth = self._ground_truth(sequence)
        key = (self.seed, sequence, scribble, interaction)
        drawn: list[list[Stroke]] = [[] for _ in truth.labels]
        drawn[frame] = self.robot.strokes(prediction[frame], truth.labels[frame], truth.num_objects, key)
        return {"scribbles": drawn, "sequence": sequence}

    def _ground_truth(self, sequence: str) -> GroundTruth:
        if self._truth is None or self._truth[0] != sequence:
            video = self.videos[sequence]
            self._truth = (sequence, GroundTruth(video.load_annotations(), video.num_objects))
        return self._truth[1]


class _Connector(AbstractConnector):
    """What DavisInteractiveSession talks to: hands everything on to the scorer."""

    def __init__(self, scorer: _Scorer, user_key: str, session_key: str) -> None:
        self.scorer, self.keys = scorer, (user_key, session_key)
        self.get_samples, self.get_scribble = scorer.get_samples, scorer.get_scribble

    def post_predicted_masks(self, *args: Any, **kwargs: Any) -> Scribbles:
        return self.scorer.post_predicted_masks(*args, *self.keys, **kwargs)

    def get_report(self) -> pd.DataFrame:
        return self.scorer.get_report(session_id=self.keys[1])

    def post_finish(self) -> dict[str, Any]:
        summary: dict[str, Any] = self.scorer.summarize_report(self.get_report())
        return summary


class Session(DavisInteractiveSession):
    """``DavisInteractiveSession`` on any sequences, repeatable from its seed.

    While it runs, ``NAME.tmp.csv`` in its folder holds the rounds so far; at the end that becomes
    ``NAME.csv``.

    Args:
        videos: the sequences, in the order of evaluation.
        metric: what the worst frame is chosen by and the summary is about.
        settings: limits, robot and seed.
        folder: where the report goes.
        samples: what to evaluate of the sequences; None for everything.
        name: of the report.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        metric: Metric,
        settings: SessionSettings,
        folder: Path,
        samples: Sequence[Sample] | None = None,
        name: str = "report",
    ) -> None:
        if metric not in get_args(Metric):
            raise UserError(f"session.metric: {metric!r} is none of {', '.join(get_args(Metric))}")
        super().__init__(
            user_key="ivos",
            max_time=settings.max_time,
            max_nb_interactions=settings.max_interactions,
            metric_to_optimize=metric,
            report_save_dir=str(folder),
        )
        self.metric: Metric = metric
        self.session_key = f"seed-{settings.seed}"
        samples = all_samples(videos) if samples is None else samples
        self.scorer = _Scorer(videos, metric, settings, samples)
        self.connector = _Connector(self.scorer, self.user_key, self.session_key)
        self.report_name = name

    def next(self) -> bool:
        """Whether there is another round; at the end the report is written."""
        with _table(self.scorer.videos.values()):
            more: bool = super().next()
            return more

    def submit_masks(
        self, pred_masks: NDArray[np.uint8], next_scribble_frame_candidates: list[int] | None = None
    ) -> None:
        """Hand in a round's labels [T, h, w]."""
        with _table(self.scorer.videos.values()):
            super().submit_masks(pred_masks, next_scribble_frame_candidates)

    def requests(self) -> Iterator[Request]:
        """The rounds, one after the other; the masks of one must be submitted before the next is taken."""
        while self.next():
            number = self.interaction_nb + 1
            sequence, scribbles, _ = self.get_scribbles(only_last=True)
            frame = next((i for i, strokes in enumerate(scribbles["scribbles"]) if strokes), None)
            yield Request(
                video=self.scorer.videos[sequence],
                scribble=self.samples[self.sample_idx][1],
                round=number,
                frame=frame,
                strokes=[] if frame is None else scribbles["scribbles"][frame],
            )

    def rounds_of(self, sequence: str, scribble: int) -> pd.DataFrame:
        """The rounds scored so far of a sample: means over its frames and objects, one row a round."""
        report = self.get_report()
        mine = report[(report["sequence"] == sequence) & (report["scribble_idx"] == scribble)]
        return mine.groupby("interaction")[["jaccard", "contour", "j_and_f", "timing"]].mean()

    def write_summary(self) -> dict[str, Any]:
        """Write ``summary.json`` in the official form and return it; for after the last round."""
        summary: dict[str, Any] = self.get_global_summary()
        (Path(self.report_save_dir) / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        return summary


def summarise(
    report: pd.DataFrame, videos: Sequence[Video], metric: Metric, settings: SessionSettings
) -> dict[str, Any]:
    """The official summary of an official report."""
    with _table(videos):
        summary: dict[str, Any] = _Scorer(videos, metric, settings, ()).summarize_report(report)
    return summary


@contextlib.contextmanager
def _table(videos: Iterable[Video]) -> Iterator[None]:
    """davisinteractive looks counts up in one table for the whole process; lend it ours for a while."""
    official = Davis.dataset
    Davis.dataset = {
        video.name: {
            "name": video.name,
            "num_frames": video.num_frames,
            "num_objects": video.num_objects,
            "num_scribbles": video.num_scribbles,
            "image_size": list(video.size),
        }
        for video in videos
    }
    try:
        yield
    finally:
        Davis.dataset = official
