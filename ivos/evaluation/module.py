"""The session as a Lightning test loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
from torch import nn
from torch.utils.data import DataLoader

from ivos.engine import Segmenter
from ivos.errors import UserError
from ivos.evaluation.pictures import overlay
from ivos.evaluation.report import figures, plot_curve, write_rounds
from ivos.evaluation.session import Request, Session, SessionRequests, Video
from ivos.evaluation.settings import Metric, SessionSettings
from ivos.interaction.palette import write_labels


class SessionModule(pl.LightningModule):
    """Runs a segmenter through a session; the test loop's batches are the session's requests.

    Args:
        segmenter: what is evaluated. If it has a module ``network``, Lightning moves that to its device.
        session: what asks and scores.
        save_masks: write every round's masks under ``masks/SEQUENCE/SCRIBBLE/ROUND``.
        save_overlays: write frames with masks and strokes under ``overlays/SEQUENCE/SCRIBBLE/ROUND``.
    """

    def __init__(
        self, segmenter: Segmenter, session: Session, save_masks: bool = False, save_overlays: bool = False
    ) -> None:
        super().__init__()
        self.segmenter, self.session = segmenter, session
        self.save_masks, self.save_overlays = save_masks, save_overlays
        self.folder = Path(session.report_save_dir)
        self.summary: dict[str, Any] = {}
        network = getattr(segmenter, "network", None)
        if isinstance(network, nn.Module):
            self.network = network
        self._frames = np.zeros((0, 0, 0, 3), np.uint8)
        self._masks = np.zeros((0, 0, 0), np.uint8)

    def transfer_batch_to_device(self, batch: Request, device: Any, dataloader_idx: int) -> Request:
        """Requests stay on the CPU; the segmenter moves what it needs."""
        return batch

    def test_step(self, request: Request, batch_idx: int) -> None:
        """One round: strokes to masks to score."""
        if request.round == 1:
            self._frames = request.video.load_frames()
            self._masks = np.zeros(self._frames.shape[:3], np.uint8)
            self.segmenter.start(self._frames, request.video.num_objects)
        if request.frame is not None:  # else there is nothing to correct, and the masks stay
            self._masks = self.segmenter.interact(request.frame, request.strokes)
        self.session.submit_masks(self._masks)
        self._save_pictures(request)

    def on_test_epoch_end(self) -> None:
        """Close the session and write everything about it."""
        if self.session.running:  # after the last possible round nobody has asked for another
            self.session.next()
        metric = self.session.metric
        self.summary = self.session.write_summary()
        report = self.session.get_report()
        rows = [
            (video.name, obj + 1, scribble + 1)
            for video in self.session.scorer.videos.values()
            for obj in range(video.num_objects)
            for scribble in range(video.num_scribbles)
        ]
        write_rounds(report, metric, rows, self.session.max_nb_interactions, self.folder / "rounds.csv")
        plot_curve(metric, self.summary, self.folder / "curve.png")
        self.log_dict(figures(metric, self.summary))

    def _save_pictures(self, request: Request) -> None:
        name = Path(request.video.name, f"{request.scribble:03d}", f"{request.round:02d}")
        if self.save_masks:
            folder = self.folder / "masks" / name
            folder.mkdir(parents=True)
            for index, labels in enumerate(self._masks):
                write_labels(folder / f"{index:05d}.png", labels)
        if self.save_overlays:
            folder = self.folder / "overlays" / name
            folder.mkdir(parents=True)
            for index, (frame, labels) in enumerate(zip(self._frames, self._masks, strict=True)):
                picture = overlay(frame, labels, request.strokes if index == request.frame else ())
                cv2.imwrite(str(folder / f"{index:05d}.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def report_folders(folder: str | Path, settings: SessionSettings) -> dict[Metric, Path]:
    """Where the report of each metric goes.

    Raises:
        UserError: there is a report already.
    """
    several = len(settings.metrics) > 1
    folders = {metric: Path(folder, metric) if several else Path(folder) for metric in settings.metrics}
    for place in folders.values():
        if (place / "report.csv").exists():
            raise UserError(
                f"{place} already holds a report.csv; choose another folder with hydra.run.dir=..."
            )
    return folders


def evaluate(
    segmenter: Segmenter,
    videos: Sequence[Video],
    settings: SessionSettings,
    folder: str | Path,
    trainer: pl.Trainer,
    save_masks: bool = False,
    save_overlays: bool = False,
) -> dict[str, Mapping[str, Any]]:
    """Run the DAVIS interactive session, once for each metric of the settings.

    Args:
        segmenter: what is evaluated.
        videos: the sequences.
        settings: of the session.
        folder: where report.csv, summary.json, rounds.csv, curve.png and pictures go; with several metrics
            each has a folder of its own in there, named after it.
        trainer: whose test loop runs it.
        save_masks: see :class:`SessionModule`.
        save_overlays: see :class:`SessionModule`.

    Returns:
        the official summary of each metric.

    Raises:
        UserError: the folder already holds a report (before any work is done).
    """
    summaries: dict[str, Mapping[str, Any]] = {}
    for metric, place in report_folders(folder, settings).items():
        session = Session(videos, metric, settings, place)
        module = SessionModule(segmenter, session, save_masks, save_overlays)
        requests = DataLoader(SessionRequests(session), batch_size=None)
        trainer.test(module, requests, verbose=False)
        summaries[metric] = module.summary
    return summaries
