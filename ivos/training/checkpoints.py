"""Checkpoint files that are written atomically, kept twice, and written when a signal ends the run."""

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

    A checkpoint is written beside its target, flushed to disk and renamed. Lightning's own implementation
    writes to ``TMPDIR`` first, and copies the file where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: it cannot be written; the file that was there before is unchanged.
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
                f"{path}: cannot be written ({reason}); see to it, then go on with resume=true"
            ) from error


def _keep(path: Path) -> None:
    """Make the last checkpoint available under the previous one's name, too."""
    with replacing(path.with_name(PREVIOUS)) as aside:
        try:
            os.link(path, aside)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, aside)


def check_last(path: Path) -> None:
    """Refuse a checkpoint from which a run cannot be resumed, before anything is loaded.

    Args:
        path: the file ``last.ckpt``.

    Raises:
        UserError: it is damaged, or is not a stage's checkpoint; the message offers the previous one.
    """
    if not (fault := fault_of(path)):
        return
    previous, offer = path.with_name(PREVIOUS), "remove it, and the stage begins anew"
    if previous.exists() and not fault_of(previous):
        offer = f"the one before it is whole: mv {previous} {path}"
    raise UserError(f"{path}: cannot be resumed from ({fault}); {offer}")


def fault_of(path: Path) -> str:
    """Return what is wrong with a training checkpoint, in a few words; empty if nothing is."""
    try:
        if spoilt := zipfile.ZipFile(path).testzip():  # PyTorch itself does not verify checksums
            return f"damaged: {spoilt}"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damage may raise anything
        return f"damaged or no checkpoint: {_line(error)}"
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        return f"not one of a training run: it lacks {', '.join(missing)}"
    about = content["ivos"]
    if not isinstance(about, dict) or not isinstance(about.get("network"), dict):
        return "it does not say of which network it is"
    return ""


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


class SaveOnSignal(Callback):
    """Finishes the current step after a signal, writes ``last.ckpt`` and ends the program.

    No checkpoint is written at the end of an epoch or during a validation, since the resumed run would skip
    that validation. The run is then resumed from the last checkpoint before it, to the same weights.

    Args:
        path: the file ``last.ckpt``.
        every: number of batches after which several processes agree on a signal, which costs a wait for the
            device.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self.path, self.every = path, every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's own signal handler, which would end the program with status 0."""
        launcher = trainer.strategy.launcher
        signals.take_over(getattr(launcher, "kill", None))
        signals.wait(True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if a signal has arrived, unless gradients are still being accumulated."""
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
        signals.note(number)  # perhaps only another process has received it
        signals.stop()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """End at once on a signal, since a validation may take long and writes no checkpoint."""
        signals.wait(False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the end of the step on a signal again."""
        signals.wait(True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End at once on a signal."""
        signals.wait(False)
