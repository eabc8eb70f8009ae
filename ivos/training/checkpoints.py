"""Checkpoint files: atomic writing, a backup of the last one, and a checkpoint after a signal."""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback

from ivos.runtime import signals
from ivos.runtime.errors import UserError
from ivos.runtime.files import replacing
from ivos.training.distributed import gather

LAST, PREVIOUS = "last.ckpt", "last.previous.ckpt"
_NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "ivos")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and keeps the previous ``last.ckpt``.

    A checkpoint is written to a temporary file in the same folder, flushed to disk and renamed. Lightning
    itself writes to ``TMPDIR`` first, and copies the file if that is on another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: The file cannot be written; an earlier file of that name is unchanged.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as aside:
                torch.save(checkpoint, aside)
                if path.name == LAST and path.exists():
                    _keep(path)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{path}: cannot be written ({reason}); solve this problem, then go on with resume=true"
            ) from error


def _keep(path: Path) -> None:
    """Copy or link the last checkpoint to the name of the previous checkpoint."""
    with replacing(path.with_name(PREVIOUS)) as aside:
        try:
            os.link(path, aside)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, aside)


def check_last(path: Path) -> None:
    """Check that a run can be resumed from a checkpoint, before anything is loaded.

    Args:
        path: The file ``last.ckpt``.

    Raises:
        UserError: The file is damaged or is not a stage's checkpoint; the message suggests the previous one.
    """
    if not (fault := fault_of(path)):
        return
    previous, remedy = path.with_name(PREVIOUS), "delete it to restart the stage from its beginning"
    if previous.exists() and not fault_of(previous):
        remedy = f"the previous checkpoint is intact: mv {previous} {path}"
    raise UserError(f"{path}: the run cannot be resumed from it ({fault}); {remedy}")


def fault_of(path: Path) -> str:
    """Return a short description of what is wrong with a training checkpoint; empty if it is valid."""
    try:
        if damaged := zipfile.ZipFile(path).testzip():  # PyTorch itself does not verify checksums
            return f"damaged: {damaged}"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file can cause any kind of error
        return f"damaged or not a checkpoint: {_line(error)}"
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        return f"not a checkpoint of a training run: it lacks {', '.join(missing)}"
    about = content["ivos"]
    if not isinstance(about, dict) or not isinstance(about.get("network"), dict):
        return "it lacks the configuration of the network"
    return ""


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


class SaveOnSignal(Callback):
    """Finishes the current step after a signal, writes ``last.ckpt`` and ends the program.

    No checkpoint is written at the end of an epoch or during a validation, because the resumed run would skip
    that validation. Such a run resumes from its last checkpoint and reaches the same weights.

    Args:
        path: The file ``last.ckpt``.
        every: Number of batches between exchanges of received signals in a run of several processes; each
            exchange waits for the device.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self.path, self.every = path, every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's signal handler, which would end the program with status 0."""
        launcher = trainer.strategy.launcher
        signals.take_over(getattr(launcher, "kill", None))
        signals.wait(True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if a signal was received, unless gradients are still being accumulated."""
        several = trainer.world_size > 1
        last = batch_idx + 1 == trainer.num_training_batches
        if several and (batch_idx + 1) % self.every and not last:
            return
        number = signals.received() or 0
        if several:
            number = int(gather(torch.tensor([number], device=pl_module.device)).max())
        if not number:
            return
        if not last and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(self.path)
        elif not last:
            return
        signals.note(number)  # the signal may have reached another process only
        signals.stop()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """End immediately on a signal from now on, because a validation may take long."""
        signals.wait(False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the current step on a signal from now on."""
        signals.wait(True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End immediately on a signal from now on."""
        signals.wait(False)
