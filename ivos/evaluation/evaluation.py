"""The interactive session over a set of videos, in one process or several, with its reports."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

# No public name tells strategies that spawn or fork processes from those that start the program anew.
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

    Where the trainer has several processes (``devices``, ``num_nodes``), all of them call this function with
    the same arguments; each runs a share of the samples, and the first one writes the reports.

    Args:
        segmenter: what is evaluated.
        videos: the sequences.
        settings: of the session.
        folder: the folder of report.csv, summary.json, rounds.csv, curve.png and pictures; with several
            metrics each has a folder of its own in it, named after the metric.
        trainer: its test loop runs the sessions.
        save_masks: see :class:`ivos.evaluation.session_callbacks.RoundPictures`. Videos of which first masks
            alone are known are not scored; their masks are always saved, for the server of their benchmark.
        masks_layout: see there.
        save_overlays: see there.
        resume: continue the run in the folder, if there is one, after its last complete sample.
        provenance: what else the numbers depend on (checkpoint, data, ...), by the option's name, as JSON
            values: a run is resumed only where none of them has changed. The segmenter's class is added
            where ``segmenter._target_`` is not among them.
        protocol: None for the DAVIS interactive session.
        threads: CPU threads of PyTorch in each process, part of the provenance; None: unchanged.

    Returns:
        the summary of each metric (:func:`ivos.evaluation.summary.summarise`); ``protocol.json`` has R-AUC
        and the protocol's own measures. Without scores: ``masks``, their folder within the run's.

    Raises:
        UserError: the folder is in use, or was begun with other settings (before any work is done).
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):  # they would all run the same share
        raise UserError(
            "trainer.strategy: processes are started by ddp, or by torchrun or SLURM, not by spawning"
        )
    protocol = protocol or Davis()
    settings, videos = protocol.adapt(settings), protocol.videos(videos)
    scored = any(video.known.any() for video in videos)
    if not scored and protocol.prompts != "masks":
        raise UserError(
            f"protocol={protocol.name}: needs true masks to score and to correct, and of these videos only "
            "first masks have been published; protocol=first_mask segments them"
        )
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


@dataclass
class _Session:
    """The session of one metric; see :func:`evaluate`."""

    segmenter: Segmenter
    videos: Sequence[Video]
    settings: SessionSettings
    protocol: ProtocolFactory
    metric: Metric
    trainer: pl.Trainer
    threads: int | None

    def run(self, folder: Path, pictures: RoundPictures, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Run the samples that remain, write the reports and return the summary."""
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
        """Finish a run of videos that cannot be scored, and return where their masks are."""
        summary = {"masks": str(Path("masks", "001", f"{self.settings.max_interactions:02d}"))}
        if self.trainer.global_rank == 0:
            run.write("summary.json", json.dumps(summary, indent=2) + "\n")
            run.write("report.csv", report.to_csv())
        return summary

    def _of_segmenter(self) -> dict[str, Any]:
        """Return the segmenter's class and the mark of its clicks, if there are any, by the option's name."""
        kind = type(self.segmenter)
        found: dict[str, Any] = {"segmenter._target_": f"{kind.__module__}.{kind.__qualname__}"}
        if self.protocol.prompts == "clicks" and (radius := click_radius(self.segmenter)):
            found["segmenter.click_radius"] = radius
        return found

    def _run_share(self, run: RunFolder, session_callbacks: Sequence[SessionCallback]) -> None:
        """Run the samples of this process; a lost process ends the others, also while they start."""
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        share = run.share(rank, processes)  # before any process begins
        all_started = threading.Event()
        with ProcessWatchdog(run.parts, rank, processes) as watchdog:
            if rank == 0:
                run.clear()
            watchdog.watch(after=all_started.is_set, started=lambda: started_by(self.trainer))

            def begin() -> None:
                """Wait until all processes watch each other, so that one lost at once is noticed, too."""
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
        """Write the reports of a run; report.csv last, since it marks the run as finished."""
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
    """Return what a session's numbers depend on besides the segmenter, by the option's name."""
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
