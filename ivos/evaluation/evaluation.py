"""Evaluation of a segmenter on a set of videos, in one or several processes, with its reports."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

# There is no public way to distinguish strategies that spawn or fork processes from those that do not.
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from ivos.engine import Segmenter
from ivos.evaluation.module import SessionCallback, run_samples
from ivos.evaluation.report import (
    calibration_summary,
    log_session,
    plot_curve,
    protocol_summary,
    rounds_table,
    sequences_table,
)
from ivos.evaluation.run_folder import RunFolder, report_folders
from ivos.evaluation.session_callbacks import Confidences, MasksLayout, RoundPictures, SampleReports
from ivos.evaluation.summary import summarise
from ivos.interaction.clicks import click_radius
from ivos.runtime.errors import UserError
from ivos.runtime.process_watchdog import ProcessWatchdog, started_by
from ivos.session import Davis, Metric, ProtocolFactory, SessionSettings
from ivos.video.video import Video


def evaluate(
    segmenter: Segmenter,
    videos: Sequence[Video],
    settings: SessionSettings,
    folder: str | Path,
    trainer: pl.Trainer,
    save_masks: bool = False,
    masks_layout: MasksLayout = "davis",
    save_overlays: bool = False,
    resume: bool = False,
    provenance: Mapping[str, Any] | None = None,
    protocol: ProtocolFactory | None = None,
    threads: int | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Run interactive sessions by a protocol, once for each metric of the settings.

    If the trainer has several processes (``devices``, ``num_nodes``), all of them call this function with the
    same arguments. Each process runs a share of the samples, and the first one writes the reports.

    Args:
        segmenter: Segmenter to evaluate.
        videos: The sequences.
        settings: Settings of the sessions.
        folder: Folder for report.csv, summary.json, rounds.csv, curve.png and pictures; with several metrics,
            each has a subfolder with its name.
        trainer: Trainer whose test loop runs the sessions.
        save_masks: See :class:`ivos.evaluation.session_callbacks.RoundPictures`. Videos that have only first
            masks are not scored; their predicted masks are always saved, for the benchmark's server.
        masks_layout: See :class:`ivos.evaluation.session_callbacks.RoundPictures`.
        save_overlays: See :class:`ivos.evaluation.session_callbacks.RoundPictures`.
        resume: Whether to continue a run in the folder after its last complete sample.
        provenance: Everything else that the results depend on (checkpoint, data, ...), as JSON values by
            option name. A run can be resumed only if none of them has changed. The segmenter's class is added
            if ``segmenter._target_`` is missing.
        protocol: Interactive protocol; None uses the DAVIS interactive session.
        threads: Number of CPU threads of PyTorch in each process, which is part of the provenance; None
            leaves it unchanged.

    Returns:
        The summary of each metric (:func:`ivos.evaluation.summary.summarise`); ``protocol.json`` contains
        R-AUC and the protocol's own measures. The summary of a run without scores has the single entry
        ``masks``, the folder of the masks relative to the run's folder.

    Raises:
        UserError: The folder is in use or was started with other settings; raised before any work is done.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):  # all would run the same samples
        raise UserError("trainer.strategy: spawned processes are not supported; use ddp, torchrun or SLURM")
    protocol = protocol or Davis()
    settings, videos = protocol.adapt(settings), protocol.videos(videos)
    scored = _has_scores(protocol, videos)
    if trainer.global_rank == 0:
        report_folders(folder, settings, resume)
    summaries: dict[str, Mapping[str, Any]] = {}
    for metric, place in report_folders(folder, settings, resume=True).items():
        session = _Session(segmenter, videos, settings, protocol, metric, trainer, threads)
        pictures = RoundPictures(
            place, save_masks or not scored, save_overlays, masks_layout, settings.max_interactions, videos
        )
        summaries[metric] = session.run(place, pictures, provenance or {})
    return summaries


def _has_scores(protocol: ProtocolFactory, videos: Sequence[Video]) -> bool:
    """Return whether true masks of any video are known, beyond the first masks.

    Raises:
        UserError: No true masks are known, and the protocol needs them.
    """
    if any(video.known.any() for video in videos):
        return True
    if protocol.prompts != "masks":
        raise UserError(
            f"protocol={protocol.name}: needs true masks for scores and corrections, but only first masks of "
            "these videos have been published; use protocol=first_mask"
        )
    return False


@dataclass
class _Session:
    """The evaluation with one metric; see :func:`evaluate`."""

    segmenter: Segmenter
    videos: Sequence[Video]
    settings: SessionSettings
    protocol: ProtocolFactory
    metric: Metric
    trainer: pl.Trainer
    threads: int | None

    def run(self, folder: Path, pictures: RoundPictures, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Run the remaining samples, write the reports and return the summary."""
        all_rounds = self.settings.max_time is None and not self.protocol.ends_early
        run = RunFolder(folder, self.videos, self.settings.max_interactions if all_rounds else None)
        first = self.trainer.global_rank == 0
        if first:
            own = {"threads": self.threads or torch.get_num_threads(), **self._of_segmenter()}
            session = session_provenance(self.videos, self.metric, self.settings, self.protocol)
            run.open({**session, **own, **provenance})
        if run.remaining():
            reports = SampleReports(run, f"seed-{self.settings.seed}")
            self._run_share(run, [Confidences(folder / "confidence"), reports, pictures])
        report = run.report()
        if not any(video.known.any() for video in self.videos):
            return self._without_scores(run, report)
        summary = summarise(report, self.videos, self.metric, self.settings)
        if first:
            self._write_reports(run, report, summary)
            log_session(self.trainer.loggers, self.metric, summary, folder, report)
        return summary

    def _without_scores(self, run: RunFolder, report: pd.DataFrame) -> dict[str, Any]:
        """Finish a run of videos without scores, and return the folder of their masks."""
        summary = {"masks": str(Path("masks", "001", f"{self.settings.max_interactions:02d}"))}
        if self.trainer.global_rank == 0:
            run.write("summary.json", json.dumps(summary, indent=2) + "\n")
            run.write("report.csv", report.to_csv())
        return summary

    def _of_segmenter(self) -> dict[str, Any]:
        """Return the segmenter's class and the radius of its clicks, if it has one, by option name."""
        kind = type(self.segmenter)
        found: dict[str, Any] = {"segmenter._target_": f"{kind.__module__}.{kind.__qualname__}"}
        if self.protocol.prompts == "clicks" and (radius := click_radius(self.segmenter)):
            found["segmenter.click_radius"] = radius
        return found

    def _run_share(self, run: RunFolder, session_callbacks: Sequence[SessionCallback]) -> None:
        """Run the samples of this process; the loss of a process ends the others, even during their start."""
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        share = run.share(rank, processes)  # before any process completes a sample
        all_started = threading.Event()
        with ProcessWatchdog(run.parts, rank, processes) as watchdog:
            if rank == 0:
                run.clear()
            watchdog.watch(after=all_started.is_set, started=lambda: started_by(self.trainer))

            def begin() -> None:
                """Wait until all processes watch each other, so that an early loss is noticed as well."""
                watchdog.meet()
                self.trainer.strategy.barrier()
                all_started.set()

            run_samples(
                self.segmenter,
                share,
                lambda sample: self.protocol.on(sample, self.settings, self.metric),
                self.trainer,
                metric=self.metric,
                session_callbacks=session_callbacks,
                begin=begin,
                total=len(run.all),
                done=lambda: len(run.all) - len(run.remaining()),
                threads=self.threads,
            )

    def _write_reports(self, run: RunFolder, report: pd.DataFrame, summary: Mapping[str, Any]) -> None:
        """Write the reports of a run; report.csv is last, because it marks the run as finished."""
        more = protocol_summary(
            report, self.videos, self.metric, summary, self.protocol, click_radius(self.segmenter)
        )
        files = [run.folder / "confidence" / f"{sample.name}.csv" for sample in run.all]
        more |= calibration_summary([path for path in files if path.exists()])
        run.write("protocol.json", json.dumps(more, indent=2) + "\n")
        rows = [
            (video.name, obj + 1, scribble + 1)
            for video in self.videos
            for obj in range(video.num_objects)
            for scribble in range(video.num_scribbles)
        ]
        table = rounds_table(report, self.metric, rows, self.settings.max_interactions)
        run.write("rounds.csv", table.to_csv())
        run.write("sequences.csv", sequences_table(report, self.metric).to_csv())
        plot_curve(self.metric, summary, run.folder)
        run.write("summary.json", json.dumps(summary, indent=2) + "\n")
        run.write("report.csv", report.to_csv())


def session_provenance(
    videos: Sequence[Video], metric: Metric, settings: SessionSettings, protocol: ProtocolFactory
) -> dict[str, Any]:
    """Return everything that a session's results depend on except the segmenter, by option name."""
    options = {**asdict(settings), "metric": metric}
    robot = {f"session.robot.{name}": value for name, value in options.pop("robot").items()}
    sequences = {
        f"data.sequences {video.name}": f"{video.num_frames} frames, {video.num_objects} objects, "
        f"{video.num_scribbles} samples"
        for video in videos
    }
    found = {f"session.{name}": value for name, value in options.items()} | robot | sequences
    if not isinstance(protocol, Davis) or protocol != Davis():
        named = fields(protocol)  # type: ignore[arg-type]
        found |= {f"protocol.{field.name}": getattr(protocol, field.name) for field in named}
    return found
