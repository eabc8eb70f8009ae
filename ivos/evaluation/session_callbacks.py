"""What an evaluation writes while it runs: the rounds so far, and pictures of every round."""

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
from ivos.runtime.files import named, write_picture
from ivos.session import Round, Sample
from ivos.session.objects import OneObject
from ivos.video.overlay import overlay
from ivos.video.palette import write_labels
from ivos.video.video import Video

MasksLayout = Literal["davis", "per_object"]


class SampleReports(SessionCallback):
    """Keeps a sample's rounds in the run's folder: those so far, and all of them at the end.

    Args:
        run: the folder.
        session_id: what goes into the report's first column.
    """

    def __init__(self, run: RunFolder, session_id: str) -> None:
        self.run, self.session_id = run, session_id
        self._report = pd.DataFrame(columns=COLUMNS)

    def on_sample(self, sample: Sample) -> None:
        """No round so far."""
        self._report = pd.DataFrame(columns=COLUMNS)
        self.run.note(sample, self._report)

    def on_round(self, sample: Sample, scored: Round) -> None:
        """One more."""
        rows = round_rows(sample, scored, self.session_id)
        first = self._report.empty  # whose columns have no types
        self._report = rows if first else pd.concat([self._report, rows], ignore_index=True)
        self.run.note(sample, self._report)

    def on_sample_end(self, sample: Sample) -> None:
        """The last one."""
        self.run.complete(sample, self._report)


class RoundPictures(SessionCallback):
    """Writes masks and overlays of every round.

    ``masks/SCRIBBLE/ROUND`` is a folder of sequences that :mod:`ivos.evaluation.score` takes: frames are
    named and objects numbered as in the ground truth. Rounds that a session does not reach repeat its last.

    Args:
        folder: of the run.
        masks: write every round's masks under ``masks/SCRIBBLE/ROUND/SEQUENCE``.
        overlays: write frames with masks and strokes under ``overlays/SEQUENCE/SCRIBBLE/ROUND``.
        layout: of the masks: ``davis``, labels of all objects in one file, or ``per_object``, as in SA-V: a
            folder for each, ``SEQUENCE/000`` for label 1. By protocols that go object by object the objects
            of a video are together in the latter.
        rounds: that a session has at most.
        videos: as they are on disk, whose files name frames and objects.
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
        self._last: Round | None = None

    def on_sample(self, sample: Sample) -> None:
        """Remove what a killed run may have left."""
        self._last = None
        if self.overlays:
            shutil.rmtree(self._overlays(sample), ignore_errors=True)
        if self.masks:
            for number in range(1, self.rounds + 1):
                for folder in self._mask_folders(sample, number).values():
                    shutil.rmtree(folder, ignore_errors=True)

    def on_round(self, sample: Sample, scored: Round) -> None:
        """Write."""
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
        """The rounds that were not reached have the last one's masks, as in the official summary."""
        if not self.masks or self._last is None:
            return
        last = self._mask_folders(sample, self._last.number)
        for number in range(self._last.number + 1, self.rounds + 1):
            for label, folder in self._mask_folders(sample, number).items():
                with named(folder):
                    shutil.copytree(last[label], folder)

    def _write_masks(self, sample: Sample, scored: Round) -> None:
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
        """Where the masks of a round go: of each object by its label, or of all (None)."""
        video = self._videos[sample.video.name]
        place = self.folder / "masks" / f"{sample.scribble:03d}" / f"{number:02d}"
        if self.layout == "davis":
            return {None: place / video.name}
        name = video.sequence if isinstance(video, OneObject) else video.name
        return {label: place / name / f"{label - 1:03d}" for label in video.labels_in_files}

    def _overlays(self, sample: Sample) -> Path:
        return self.folder / "overlays" / sample.video.name / f"{sample.scribble:03d}"
