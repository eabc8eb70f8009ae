"""The session as a Lightning test loop, on one process or shared by several."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from ivos.engine import Segmenter
from ivos.errors import UserError
from ivos.evaluation.peers import Peers
from ivos.evaluation.report import log_session, plot_curve, rounds_table, sequences_table
from ivos.evaluation.run_folder import RunFolder
from ivos.evaluation.session import Request, Sample, Session, Video, summarise
from ivos.evaluation.settings import Metric, SessionSettings
from ivos.interaction.palette import write_labels
from ivos.interaction.pictures import overlay


class SessionRequests(IterableDataset):
    """The requests of some samples as a data set, so that a Lightning test loop can drive the session.

    Every sample is a :class:`Session` of its own, whose report goes to the run's folder as soon as it is
    complete; the frames of the next sample are decoded meanwhile. The length is the largest possible number
    of rounds. That it has one at all matters: without, Lightning would ask for a round ahead of the masks it
    depends on.

    Args:
        videos: the sequences.
        metric: see :class:`Session`.
        settings: see :class:`Session`.
        run: the folder.
        samples: what to do.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        metric: Metric,
        settings: SessionSettings,
        run: RunFolder,
        samples: Sequence[Sample],
    ) -> None:
        self.videos = {video.name: video for video in videos}
        self.metric, self.settings, self.run, self.samples = metric, settings, run, samples
        self.session: Session | None = None  # at work
        self.frames = np.zeros((0, 0, 0, 3), np.uint8)  # of the sample at work

    def __len__(self) -> int:
        return len(self.samples) * self.settings.max_interactions

    def __iter__(self) -> Iterator[Request]:
        videos = [self.videos[name] for name, _ in self.samples]
        with ThreadPoolExecutor(1) as loader:
            ahead = loader.submit(videos[0].load_frames) if videos else None
            for number, (sample, video) in enumerate(zip(self.samples, videos, strict=True)):
                assert ahead is not None
                self.frames = ahead.result()
                following = videos[min(number + 1, len(videos) - 1)]
                if following is not video:  # decoded while this one is at work
                    ahead = loader.submit(following.load_frames)
                name = self.run.name(sample)
                self.session = Session([video], self.metric, self.settings, self.run.parts, [sample], name)
                with self.session:
                    yield from self.session.requests()

    def close(self) -> None:
        """Complete the last sample's report: after its last possible round nobody asks for another."""
        if self.session and self.session.running:
            self.session.next()


class SessionModule(pl.LightningModule):
    """Runs a segmenter through a session; the test loop's batches are the session's requests.

    Args:
        segmenter: what is evaluated. If it has a module ``network``, Lightning moves that to its device.
        requests: what asks and scores.
        peers: the processes that this one shares the run with.
        save_masks: write every round's masks under ``masks/SEQUENCE/SCRIBBLE/ROUND``.
        save_overlays: write frames with masks and strokes under ``overlays/SEQUENCE/SCRIBBLE/ROUND``.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        requests: SessionRequests,
        peers: Peers,
        save_masks: bool = False,
        save_overlays: bool = False,
    ) -> None:
        super().__init__()
        self.segmenter, self.requests, self.peers = segmenter, requests, peers
        self.save_masks, self.save_overlays = save_masks, save_overlays
        self.folder = requests.run.folder
        # With more processes than samples some have nothing to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        network = getattr(segmenter, "network", None)
        if isinstance(network, nn.Module):
            self.network = network
        self._masks = np.zeros((0, 0, 0), np.uint8)

    def transfer_batch_to_device(self, batch: Request, device: Any, dataloader_idx: int) -> Request:
        """Requests stay on the CPU; the segmenter moves what it needs."""
        return batch

    def on_test_start(self) -> None:
        """All processes have come this far; from here on a lost one would go unnoticed."""
        self.peers.watch()

    def test_step(self, request: Request, batch_idx: int) -> None:
        """One round: strokes to masks to score."""
        if request.round == 1:
            frames = self.requests.frames
            self._masks = np.zeros(frames.shape[:3], np.uint8)
            self.segmenter.start(frames, request.video.num_objects)
        if request.frame is not None:  # else there is nothing to correct, and the masks stay
            self._masks = self.segmenter.interact(request.frame, request.strokes)
        assert self.requests.session is not None
        self.requests.session.submit_masks(self._masks)
        self._save_pictures(request)

    def on_test_epoch_end(self) -> None:
        """Complete the last sample."""
        self.requests.close()

    def _save_pictures(self, request: Request) -> None:
        sample = Path(request.video.name, f"{request.scribble:03d}")
        if self.save_masks:
            folder = self._picture_folder("masks" / sample, request.round)
            for index, labels in enumerate(self._masks):
                write_labels(folder / f"{index:05d}.png", labels)
        if self.save_overlays:
            folder = self._picture_folder("overlays" / sample, request.round)
            for index, (frame, labels) in enumerate(zip(self.requests.frames, self._masks, strict=True)):
                picture = overlay(frame, labels, request.strokes if index == request.frame else ())
                cv2.imwrite(str(folder / f"{index:05d}.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _picture_folder(self, sample: Path, number: int) -> Path:
        if number == 1:  # a killed run may have left some
            shutil.rmtree(self.folder / sample, ignore_errors=True)
        folder = self.folder / sample / f"{number:02d}"
        folder.mkdir(parents=True)
        return folder


def report_folders(folder: str | Path, settings: SessionSettings, resume: bool = False) -> dict[Metric, Path]:
    """Where the report of each metric goes.

    Raises:
        UserError: there is a report already, or an unfinished run, and it is not to be resumed; or it was
            begun with one metric and is to go on with several, or the other way round.
    """
    several = len(settings.metrics) > 1
    folders = {metric: Path(folder, metric) if several else Path(folder) for metric in settings.metrics}
    elsewhere = [Path(folder)] if several else [Path(folder, metric) for metric in get_args(Metric)]
    for place in folders.values():
        if (place / "report.csv").exists() and not resume:
            raise UserError(
                f"{place} already holds a report.csv; choose another folder with hydra.run.dir=..."
            )
        if (place / "session.json").exists() and not resume:
            raise UserError(
                f"{place} holds an unfinished run; go on with resume=true, or choose another folder with "
                "hydra.run.dir=..."
            )
    if resume and any((place / "session.json").exists() for place in elsewhere):
        what = "one session.metric, several" if several else "several of session.metric, one"
        raise UserError(f"{folder} was begun with {what} now; resume with the settings it was begun with")
    return folders


def evaluate(
    segmenter: Segmenter,
    videos: Sequence[Video],
    settings: SessionSettings,
    folder: str | Path,
    trainer: pl.Trainer,
    save_masks: bool = False,
    save_overlays: bool = False,
    resume: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Run the DAVIS interactive session, once for each metric of the settings.

    Where the trainer has several processes (``devices``, ``num_nodes``), all of them call this with the same
    arguments; each does a share of the samples, and the first one writes the reports.

    Args:
        segmenter: what is evaluated.
        videos: the sequences.
        settings: of the session.
        folder: where report.csv, summary.json, rounds.csv, curve.png and pictures go; with several metrics
            each has a folder of its own in there, named after it.
        trainer: whose test loop runs it.
        save_masks: see :class:`SessionModule`.
        save_overlays: see :class:`SessionModule`.
        resume: go on with the run in the folder, if there is one, after its last complete sample.
        facts: what else the numbers depend on (checkpoint, data, ...), by the option's name, as JSON values:
            a run is resumed only where they have not changed.

    Returns:
        the official summary of each metric.

    Raises:
        UserError: the folder is in use, or was begun with other settings (before any work is done).
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):  # would run one share in all of them
        raise UserError(
            "trainer.strategy: processes are started by ddp, or by torchrun or SLURM, not by spawning"
        )
    first = trainer.global_rank == 0
    if first:
        report_folders(folder, settings, resume)
    summaries: dict[str, Mapping[str, Any]] = {}
    for metric, place in report_folders(folder, settings, resume=True).items():
        run = RunFolder(place, videos)
        if first:
            run.open({**session_facts(videos, metric, settings), **(facts or {})})
        if run.remaining():
            share = run.share(trainer.global_rank, trainer.world_size)
            requests = SessionRequests(videos, metric, settings, run, share)
            with Peers(run.parts, trainer.global_rank, trainer.world_size) as peers:
                module = SessionModule(segmenter, requests, peers, save_masks, save_overlays)
                trainer.test(module, DataLoader(requests, batch_size=None), verbose=False)
        report = run.report()
        summaries[metric] = summarise(report, videos, metric, settings)
        if first:
            _write_reports(run, report, videos, metric, settings, summaries[metric])
            log_session(trainer.loggers, metric, summaries[metric], place, report)
    return summaries


def session_facts(videos: Sequence[Video], metric: Metric, settings: SessionSettings) -> dict[str, Any]:
    """What a session's numbers depend on besides the segmenter, by the option's name."""
    options = {**asdict(settings), "metric": metric}
    robot = {f"session.robot.{name}": value for name, value in options.pop("robot").items()}
    sequences = {
        f"data.sequences {video.name}": f"{video.num_frames} frames, {video.num_objects} objects, "
        f"{video.num_scribbles} samples"
        for video in videos
    }
    return {f"session.{name}": value for name, value in options.items()} | robot | sequences


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
