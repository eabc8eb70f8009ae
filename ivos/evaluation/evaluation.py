"""The DAVIS session over a set of videos, on one process or shared by several, with its reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

# No public name tells strategies that spawn or fork processes from those that start the program anew.
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from ivos.engine import Segmenter
from ivos.evaluation.module import SessionCallback, run_samples
from ivos.evaluation.report import log_session, plot_curve, protocol_summary, rounds_table, sequences_table
from ivos.evaluation.run_folder import RunFolder, report_folders
from ivos.evaluation.session_callbacks import MasksLayout, RoundPictures, SampleReports
from ivos.runtime.errors import UserError
from ivos.runtime.process_watchdog import ProcessWatchdog
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

    Where the trainer has several processes (``devices``, ``num_nodes``), all of them call this with the same
    arguments; each does a share of the samples, and the first one writes the reports.

    Args:
        segmenter: what is evaluated.
        videos: the sequences.
        settings: of the session.
        folder: where report.csv, summary.json, rounds.csv, curve.png and pictures go; with several metrics
            each has a folder of its own in there, named after it.
        trainer: whose test loop runs it.
        save_masks: see :class:`ivos.evaluation.session_callbacks.RoundPictures`.
        masks_layout: likewise.
        save_overlays: likewise.
        resume: go on with the run in the folder, if there is one, after its last complete sample.
        provenance: what else the numbers depend on (checkpoint, data, ...), by the option's name, as JSON
            values: a run is resumed only where it has not changed.
        protocol: None for the DAVIS interactive session.
        threads: CPU threads of PyTorch in each process, which is part of the provenance; None: as they are.

    Returns:
        the official summary of each metric; ``protocol.json`` has R-AUC and what else the protocol measures.

    Raises:
        UserError: the folder is in use, or was begun with other settings (before any work is done).
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):  # would run one share in all of them
        raise UserError(
            "trainer.strategy: processes are started by ddp, or by torchrun or SLURM, not by spawning"
        )
    from ivos.evaluation.official import summarise  # davisinteractive is missed before any work, not after it

    protocol = protocol or Davis()
    settings, videos = protocol.adapt(settings), protocol.videos(videos)
    first = trainer.global_rank == 0
    if first:
        report_folders(folder, settings, resume)
    summaries: dict[str, Mapping[str, Any]] = {}
    for metric, place in report_folders(folder, settings, resume=True).items():
        all_rounds = settings.max_time is None and not protocol.ends_early
        run = RunFolder(place, videos, settings.max_interactions if all_rounds else None)
        if first:
            known = {"threads": threads or torch.get_num_threads(), **(provenance or {})}
            run.open({**session_provenance(videos, metric, settings, protocol), **known})
        if run.remaining():
            reports = SampleReports(run, f"seed-{settings.seed}")
            pictures = RoundPictures(
                place, save_masks, save_overlays, masks_layout, settings.max_interactions, videos
            )
            _run_share(segmenter, run, metric, settings, protocol, trainer, [reports, pictures], threads)
        report = run.report()
        summary = summaries[metric] = summarise(report, videos, metric, settings)
        if first:
            more = protocol_summary(report, videos, metric, summary, protocol)
            run.write("protocol.json", json.dumps(more, indent=2) + "\n")
            _write_reports(run, report, videos, metric, settings, summary)
            log_session(trainer.loggers, metric, summary, place, report)
    return summaries


def _run_share(
    segmenter: Segmenter,
    run: RunFolder,
    metric: Metric,
    settings: SessionSettings,
    protocol: ProtocolFactory,
    trainer: pl.Trainer,
    watchers: Sequence[SessionCallback],
    threads: int | None,
) -> None:
    """This process' samples, watched over by the others."""
    rank, processes = trainer.global_rank, trainer.world_size
    share = run.share(rank, processes)  # before anyone has begun
    with ProcessWatchdog(run.parts, rank, processes) as peers:
        if rank == 0:
            run.clear()

        def begin() -> None:
            """Nobody begins before all have seen each other at work: one lost at once would not be missed."""
            peers.watch()
            peers.meet()
            trainer.strategy.barrier()

        run_samples(
            segmenter,
            share,
            lambda sample: protocol.on(sample, settings, metric),
            trainer,
            metric=metric,
            watchers=watchers,
            begin=begin,
            total=len(run.all),
            done=lambda: len(run.all) - len(run.remaining()),
            threads=threads,
        )


def session_provenance(
    videos: Sequence[Video], metric: Metric, settings: SessionSettings, protocol: ProtocolFactory
) -> dict[str, Any]:
    """What a session's numbers depend on besides the segmenter, by the option's name."""
    options = {**asdict(settings), "metric": metric}
    robot = {f"session.robot.{name}": value for name, value in options.pop("robot").items()}
    sequences = {
        f"data.sequences {video.name}": f"{video.num_frames} frames, {video.num_objects} objects, "
        f"{video.num_scribbles} samples"
        for video in videos
    }
    found = {f"session.{name}": value for name, value in options.items()} | robot | sequences
    if not isinstance(protocol, Davis) or protocol != Davis():
        found |= {f"protocol.{field.name}": getattr(protocol, field.name) for field in fields(protocol)}  # type: ignore[arg-type]
    return found


def _write_reports(
    run: RunFolder,
    report: pd.DataFrame,
    videos: Sequence[Video],
    metric: Metric,
    settings: SessionSettings,
    summary: Mapping[str, Any],
) -> None:
    """Write what a run leaves; report.csv last, for it says that the run is finished."""
    rows = [
        (video.name, obj + 1, scribble + 1)
        for video in videos
        for obj in range(video.num_objects)
        for scribble in range(video.num_scribbles)
    ]
    run.write("rounds.csv", rounds_table(report, metric, rows, settings.max_interactions).to_csv())
    run.write("sequences.csv", sequences_table(report, metric).to_csv())
    plot_curve(metric, summary, run.folder / "curve.png")
    run.write("summary.json", json.dumps(summary, indent=2) + "\n")
    run.write("report.csv", report.to_csv())
