"""Callbacks that write files during an evaluation: rounds, confidences, masks and overlays."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ivos.evaluation.module import SessionCallback
from ivos.evaluation.report import COLUMNS, round_rows
from ivos.evaluation.run_folder import RunFolder
from ivos.interaction.clicks import translate
from ivos.interaction.drawing import draw_strokes
from ivos.runtime.files import named, write_picture, write_text
from ivos.session import Sample, ScoredRound
from ivos.session.confident import confidence_pairs
from ivos.session.objects import OneObject
from ivos.video.overlay import overlay
from ivos.video.palette import write_labels
from ivos.video.video import Video

MasksLayout = Literal["davis", "per_object"]


class SampleReports(SessionCallback):
    """Writes a sample's report to the run's folder after each round and at the end.

    Args:
        run: Folder of the run.
        session_id: Content of the report's first column.
    """

    def __init__(self, run: RunFolder, session_id: str) -> None:
        self.run, self.session_id = run, session_id
        self._report = pd.DataFrame(columns=COLUMNS)

    def on_sample(self, sample: Sample) -> None:
        """Write an empty report of the sample."""
        self._report = pd.DataFrame(columns=COLUMNS)
        self.run.note(sample, self._report)

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        """Add a round to the sample's report."""
        rows = round_rows(sample, scored, self.session_id)
        first = self._report.empty  # the columns of an empty report have no types
        self._report = rows if first else pd.concat([self._report, rows], ignore_index=True)
        self.run.note(sample, self._report)

    def on_sample_end(self, sample: Sample) -> None:
        """Mark the sample's report as complete."""
        self.run.complete(sample, self._report)


class Confidences(SessionCallback):
    """Writes confidence and J of every round of a sample, for protocols that use the confidence.

    Args:
        folder: Folder for the files ``SEQUENCE-SCRIBBLE.csv``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rounds: list[pd.DataFrame] = []

    def on_sample(self, sample: Sample) -> None:
        """Start a new sample."""
        self._rounds = []

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        """Add the pairs of confidence and J of a round."""
        if scored.confidence is not None:
            pairs = pd.DataFrame(confidence_pairs(scored), columns=["confidence", "jaccard"])
            pairs.insert(0, "interaction", scored.number)
            self._rounds.append(pairs)

    def on_sample_end(self, sample: Sample) -> None:
        """Write the pairs of all rounds."""
        if self._rounds:
            self.folder.mkdir(exist_ok=True)
            text = pd.concat(self._rounds, ignore_index=True).to_csv(index=False)
            write_text(self.folder / f"{sample.name}.csv", text)


class RoundPictures(SessionCallback):
    """Writes masks and overlays of every round.

    ``masks/SCRIBBLE/ROUND`` is a folder of sequences that :mod:`ivos.evaluation.score` reads; names of frames
    and numbers of objects are those of the ground truth. Rounds that a session does not reach repeat its last
    round.

    Args:
        folder: Folder of the run.
        masks: Whether to write the masks of every round to ``masks/SCRIBBLE/ROUND/SEQUENCE``.
        overlays: Whether to write frames with masks and strokes to ``overlays/SEQUENCE/SCRIBBLE/ROUND``.
        layout: Layout of the masks: ``davis`` for files with the labels of all objects, or ``per_object`` as
            in SA-V for a folder for each object (``SEQUENCE/000`` for label 1). For protocols that segment
            object by object, ``per_object`` combines the objects of a video in one folder.
        rounds: Largest number of rounds of a session.
        videos: Videos on disk, whose files define the names of frames and the numbers of objects.
    """

    def __init__(
        self,
        folder: Path,
        masks: bool,
        overlays: bool,
        layout: MasksLayout,
        rounds: int,
        videos: Sequence[Video],
    ) -> None:
        self.folder, self.masks, self.overlays = folder, masks, overlays
        self.layout, self.rounds = layout, rounds
        self._videos = {video.name: video for video in videos}
        self._last: ScoredRound | None = None

    def on_sample(self, sample: Sample) -> None:
        """Remove the files of an earlier, interrupted run of the sample."""
        self._last = None
        if self.overlays:
            shutil.rmtree(self._overlays(sample), ignore_errors=True)
        if self.masks:
            for number in range(1, self.rounds + 1):
                for folder in self._mask_folders(sample, number).values():
                    shutil.rmtree(folder, ignore_errors=True)

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        """Write the masks and overlays of a round."""
        self._last = scored
        if self.masks:
            self._write_masks(sample, scored)
        if self.overlays:
            folder = self._overlays(sample) / f"{scored.number:02d}"
            folder.mkdir(parents=True)
            for index, (frame, labels) in enumerate(zip(sample.clip.frames, scored.masks, strict=True)):
                picture = overlay(frame, labels)
                if index == scored.frame:
                    picture = draw_strokes(picture, translate(scored.strokes, ["strokes"]))
                write_picture(folder / f"{index:05d}.jpg", np.ascontiguousarray(picture[..., ::-1]))

    def on_sample_end(self, sample: Sample) -> None:
        """Copy the last round's masks to the rounds that were not reached, as in the official summary."""
        if not self.masks or self._last is None:
            return
        last = self._mask_folders(sample, self._last.number)
        for number in range(self._last.number + 1, self.rounds + 1):
            for label, folder in self._mask_folders(sample, number).items():
                with named(folder):
                    shutil.copytree(last[label], folder)

    def _write_masks(self, sample: Sample, scored: ScoredRound) -> None:
        video = self._videos[sample.video.name]
        names = [path.stem for path in video.annotations]
        numbers = np.arange(256, dtype=np.uint8)
        numbers[1 : video.num_objects + 1] = video.labels_in_files
        for label, folder in self._mask_folders(sample, scored.number).items():
            folder.mkdir(parents=True)
            for name, mask in zip(names, numbers[scored.masks], strict=True):
                write_labels(
                    folder / f"{name}.png", mask if label is None else (mask == label).view(np.uint8)
                )

    def _mask_folders(self, sample: Sample, number: int) -> dict[int | None, Path]:
        """Return the folders of a round's masks by object label; the key None stands for all objects."""
        video = self._videos[sample.video.name]
        place = self.folder / "masks" / f"{sample.scribble:03d}" / f"{number:02d}"
        if self.layout == "davis":
            return {None: place / video.name}
        name = video.sequence if isinstance(video, OneObject) else video.name
        return {label: place / name / f"{label - 1:03d}" for label in video.labels_in_files}

    def _overlays(self, sample: Sample) -> Path:
        return self.folder / "overlays" / sample.video.name / f"{sample.scribble:03d}"
