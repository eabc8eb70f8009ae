"""A protocol that replays the strokes of a user study with the annotation app."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import PromptKind, Stroke, check_strokes
from ivos.runtime.errors import UserError
from ivos.session.clicks import NO_LIMIT, NO_ROBOT
from ivos.session.davis import ground_truth
from ivos.session.rounds import FramePrompts, Protocol, ScoredRound, Scores
from ivos.session.sample import Sample
from ivos.session.settings import Metric, SessionSettings
from ivos.video.video import Video

_MAX_ROUNDS = 16  # largest number of rounds in a session


@dataclass(frozen=True)
class Recorded:
    """Protocol that replays the strokes of a study's participants, to compare segmenters on human strokes.

    Each session of a participant on a video is a sample ``VIDEO.PARTICIPANT``. The participant drew the
    strokes on masks of the study's segmenter; they are not adapted to the masks of other segmenters.

    Attributes:
        study: Folder of the study, with a folder ``PARTICIPANT.VIDEO`` and a journal for each session.
        participant: Participant whose strokes are replayed; None for all participants.

    Raises:
        UserError: The folder has no journals.
    """

    prompts: ClassVar[PromptKind] = "strokes"
    ends_early: ClassVar[bool] = True  # a participant ends a session when satisfied
    unused: ClassVar[Mapping[str, str]] = {
        **NO_ROBOT,
        **NO_LIMIT,
        "max_interactions": "the rounds are those of the study",
    }
    name: str = "recorded"
    study: str | None = None
    participant: str | None = None

    def __post_init__(self) -> None:
        if self.study is None or not self._journals():
            who = f" of {self.participant}" if self.participant else ""
            raise UserError(
                f"protocol.study: {self.study} has no journals{who} (PARTICIPANT.VIDEO/journal.jsonl)"
            )

    def adapt(self, settings: SessionSettings) -> SessionSettings:
        """Return the settings with the largest number of rounds of any participant and no time limit."""
        most = max(len(recorded_rounds(path)) for path in self._journals().values())
        return replace(settings, max_interactions=min(max(most, 1), _MAX_ROUNDS), max_time=None)

    def videos(self, videos: Sequence[Video]) -> Sequence[Video]:
        """Return one video per video and participant with a journal.

        Raises:
            UserError: There is no journal for any of the videos.
        """
        found = [
            replace(video, name=f"{video.name}.{participant}", scribbles=())
            for video in videos
            for participant, name in self._journals()
            if name == video.name
        ]
        if not found:
            drawn = sorted({name for _, name in self._journals()})
            raise UserError(
                f"protocol.study: {self.study} has strokes on {', '.join(drawn)}, which the data lacks"
            )
        return found

    def on(self, sample: Sample, settings: SessionSettings, metric: Metric) -> Protocol:
        """Return the recorded rounds of one decoded sample."""
        name, _, participant = sample.video.name.rpartition(".")
        path = self._journals()[participant, name]
        return RecordedProtocol(sample, recorded_rounds(path)[: settings.max_interactions], str(path))

    def seconds(self, num_frames: int, prompted: int) -> None:
        """Return None, because the tables of the study contain the times of its participants."""

    def _journals(self) -> Mapping[tuple[str, str], Path]:
        """Return the journals by participant and video."""
        found = {}
        for path in sorted(Path(self.study or "").glob("*.*/journal.jsonl")):
            participant, _, video = path.parent.name.partition(".")
            if self.participant in (None, participant):
                found[participant, video] = path
        return found


class RecordedProtocol:
    """The protocol of one sample, which replays recorded rounds.

    Args:
        sample: A decoded sample.
        rounds: Prompts of each round.
        source: Path of the journal, for error messages.

    Raises:
        UserError: A stroke refers to an object or a frame that does not exist.
    """

    max_seconds = None

    def __init__(self, sample: Sample, rounds: Sequence[FramePrompts], source: str) -> None:
        clip = sample.clip
        for number, prompt in enumerate(rounds, start=1):
            strokes: Any = prompt.strokes
            try:
                check_strokes(strokes, clip.num_objects)
            except UserError as error:
                raise UserError(f"{source}, round {number}: {error}") from error
            if not 0 <= prompt.frame < clip.num_frames:
                raise UserError(f"{source}, round {number}: frame {prompt.frame} of {clip.num_frames}")
        self.max_rounds = max(1, len(rounds))
        self._rounds, self._truth, self._known = rounds, ground_truth(clip), clip.known

    def first(self) -> FramePrompts:
        """Return the strokes of the first round."""
        return self._rounds[0] if self._rounds else FramePrompts(0, [])

    def next(self, last: ScoredRound) -> FramePrompts | None:
        """Return the strokes of the next round, or None after the participant's last round."""
        return self._rounds[last.number] if last.number < len(self._rounds) else None

    def score(self, masks: NDArray[np.uint8]) -> Scores:
        """Return J and F, which are NaN on frames before an object's position is known."""
        measured = self._truth.jaccard(masks), self._truth.f_measure(masks)
        return Scores(*(np.where(self._known, values, np.nan) for values in measured))


def recorded_rounds(path: Path) -> list[FramePrompts]:
    """Return the rounds of a journal that were not undone, in order.

    Raises:
        UserError: The journal is unreadable.
    """
    strokes: dict[str, tuple[int, Stroke]] = {}
    rounds: list[tuple[int, list[str]]] = []
    undone: list[tuple[int, list[str]] | None] = []  # stack for redo; None stands for a stroke
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for line in lines:
            kind = line["type"]
            if kind == "stroke":
                stroke: Stroke = {"path": line["path"], "object_id": line["object_id"]}
                strokes[line["id"]] = (line["frame"], stroke)
                undone.clear()
            elif kind == "undo_stroke":
                undone.append(None)
            elif kind == "round_begin":
                rounds.append((line["frame"], list(line["strokes"])))
                undone.clear()
            elif kind == "round_abort":
                rounds.pop()
            elif kind == "undo_round":
                undone.append(rounds.pop())
            elif kind == "redo" and (again := undone.pop()) is not None:
                rounds.append(again)
        return [FramePrompts(frame, [strokes[key][1] for key in keys]) for frame, keys in rounds]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path}: not a journal of the annotation app ({error})") from error
