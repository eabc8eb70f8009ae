"""Detection of losses and gradients that are not finite, before they change the weights."""

import math
from dataclasses import dataclass
from typing import NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from ivos.runtime.errors import UserError
from ivos.training import distributed

EVERY = 50  # batches between checks on a GPU, where reading a value makes the CPU wait


class NotFiniteError(UserError):
    """A loss or gradient that is NaN or infinite; the training has stopped before the optimiser step."""

    everywhere = True  # all processes raise this error, but only one of them prints it


@dataclass
class _Batch:
    """The values of a batch to be checked; the tensors are on the device."""

    step: int
    names: list[str]  # names of this process's samples
    losses: Tensor | None = None  # loss of each process [P]
    norm: Tensor | None = None  # norm of the gradient; None while gradients are accumulated


class NonFiniteGuard:
    """Prevents optimiser steps whose loss or gradient is not finite, and stops the training.

    Reading a value from a GPU waits for all of its pending work. With a fused optimiser (the default on a
    GPU), the device itself therefore skips such a step and all later steps, so that the weights do not
    change, and the CPU checks the values only every :data:`EVERY` batches and before each validation,
    checkpoint and the end of the training. With any other optimiser the CPU checks before every step.
    """

    def __init__(self) -> None:
        self._batch = _Batch(0, [])  # the current one
        self._pending: list[_Batch] = []  # not checked yet
        self._skipping: Tensor | None = None  # on the device: 1 from the first skipped step on, else 0

    @property
    def gradient_norm(self) -> Tensor:
        """Norm of the current step's gradient, on the device; :meth:`check_gradient` computes it."""
        assert self._batch.norm is not None
        return self._batch.norm

    def begin(self, step: int, names: list[str]) -> None:
        """Record the number of the next step and the names of its samples, for an error message."""
        self._batch = _Batch(step, names)

    def check_loss(self, losses: Tensor, module: pl.LightningModule) -> None:
        """Check a batch's loss.

        Args:
            losses: Loss in each of the processes [P].
            module: The stage.

        Raises:
            NotFiniteError: See :meth:`check_pending`.
        """
        self._batch.losses = losses.detach()
        if _on_device(module.trainer):
            self._pending.append(self._batch)
            self._skip_steps(~torch.isfinite(losses).all())
        else:
            _check([self._batch], module)

    def check_gradient(self, optimizer: Optimizer, module: pl.LightningModule) -> None:
        """Check the gradient before the optimiser step; it is equal in all processes.

        Raises:
            NotFiniteError: See :meth:`check_pending`.
        """
        if scales_the_loss(module.trainer):  # the scaler itself skips steps whose gradient is not finite
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        self._batch.norm = norm = torch.nn.utils.get_total_norm(gradients)
        if _on_device(module.trainer):
            self._skip_steps(~torch.isfinite(norm))
            optimizer.found_inf = self._skipping  # type: ignore[attr-defined]  # PyTorch reads this attribute
            if len(self._pending) >= EVERY:
                self.check_pending(module)
        else:
            _check([self._batch], module)

    def check_pending(self, module: pl.LightningModule) -> None:
        """Check the batches that have not been checked yet; all processes must call this together.

        Raises:
            NotFiniteError: A loss or a gradient is not finite; all processes raise this error.
        """
        pending, self._pending = self._pending, []
        if pending:
            _check(pending, module)

    def _skip_steps(self, bad: Tensor) -> None:
        before = torch.zeros((), device=bad.device) if self._skipping is None else self._skipping
        self._skipping = torch.maximum(before, bad.float())


def scales_the_loss(trainer: pl.Trainer) -> bool:
    """Return whether a loss scaler is used (precision 16-mixed), which may skip steps."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _on_device(trainer: pl.Trainer) -> bool:
    """Return whether all optimisers are fused and can therefore skip a step on the device."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return not scales_the_loss(trainer) and all(group.get("fused") for group in groups)


def _check(batches: list[_Batch], module: pl.LightningModule) -> None:
    known = [value for batch in batches for value in (batch.losses, batch.norm) if value is not None]
    if torch.isfinite(torch.cat([value.flatten().float() for value in known])).all():
        return
    for batch in batches:
        losses = [] if batch.losses is None else batch.losses.tolist()
        for loss in losses:
            if not math.isfinite(loss):
                mine = losses[module.global_rank] if len(losses) > 1 else loss
                _stop(batch, f"the loss is {loss}", [] if math.isfinite(mine) else batch.names, module)
        if batch.norm is not None and not torch.isfinite(batch.norm):
            _stop(batch, f"the gradient's norm is {batch.norm.item()}", batch.names, module)


def _stop(batch: _Batch, what: str, names: list[str], module: pl.LightningModule) -> NoReturn:
    """Stop all processes with one message; all processes must call this."""
    names = distributed.gather_names(names)
    callbacks = module.trainer.checkpoint_callbacks
    written = [path for path in (getattr(each, "best_model_path", "") for each in callbacks) if path]
    raise NotFiniteError(
        f"training stopped before step {batch.step} of {type(module).__name__}: {what}\n"
        f"  batch: {'; '.join(names)}\n"
        f"  earlier checkpoints: {', '.join(written) or 'none'}"
    )
