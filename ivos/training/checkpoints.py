"""Checkpoints that are there whole or not at all, the last but one, and the one that a signal asks for."""

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
    """Writes a checkpoint beside its target, syncs and renames it; of ``last.ckpt`` the one before is kept.

    Lightning's own is written to ``TMPDIR`` first, and copied where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: it cannot be written; the one that was there before still is.
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
    """Give the last checkpoint the previous one's name, too."""
    with replacing(path.with_name(PREVIOUS)) as aside:
        try:
            os.link(path, aside)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, aside)


def check_last(path: Path) -> None:
    """See whether a run can go on from a checkpoint, before anything is loaded.

    Args:
        path: of ``last.ckpt``.

    Raises:
        UserError: it is damaged, or is none of a stage; the message offers the one before it.
    """
    if not (fault := fault_of(path)):
        return
    previous, offer = path.with_name(PREVIOUS), "remove it, and the stage begins anew"
    if previous.exists() and not fault_of(previous):
        offer = f"the one before it is whole: mv {previous} {path}"
    raise UserError(f"{path}: cannot be resumed from ({fault}); {offer}")


def fault_of(path: Path) -> str:
    """What is wrong with a training checkpoint, in a few words; nothing is of one that was written whole."""
    try:
        if spoilt := zipfile.ZipFile(path).testzip():  # PyTorch itself does not look at the sums
            return f"damaged: {spoilt}"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damage shows in any way
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
    """After a signal the step at hand is finished, ``last.ckpt`` written and the program ended.

    No checkpoint is written of an epoch's end or within a validation, where it would leave the validation
    out: the run goes on from the last one that was, to the same weights.

    Args:
        path: of ``last.ckpt``.
        every: several processes agree after this many batches, which costs a wait for the device.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self.path, self.every = path, every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's own handler, which ends with status 0, is replaced."""
        launcher = trainer.strategy.launcher
        signals.take_over(getattr(launcher, "kill", None))
        signals.wait(True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The moment that a run can go on from, unless gradients are still accumulated."""
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
        signals.note(number)  # another process may have had it
        signals.stop()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Nothing is written in a validation, which may take long."""
        signals.wait(False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Steps follow."""
        signals.wait(True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """No step is at hand."""
        signals.wait(False)
