"""Training stops at a loss or a gradient that is not finite, before the weights are spoilt."""

import math
from dataclasses import dataclass
from typing import NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from ivos.runtime.errors import UserError
from ivos.training import distributed

EVERY = 50  # batches from one look to the next where looking makes the CPU wait for the GPU


class NotFiniteError(UserError):
    """A loss or a gradient that is not a number, or infinite; training has stopped before the step."""

    everywhere = True  # all processes raise it, one has to say so


@dataclass
class _Batch:
    """What is known of a batch; the tensors are on the device."""

    step: int
    names: list[str]  # of this process' samples
    losses: Tensor | None = None  # of all processes [P]
    norm: Tensor | None = None  # of the gradient, where a step follows


class NonFiniteGuard:
    """Sees to it that no step is taken whose loss or gradient is not finite, and that training stops there.

    Looking at a number on a GPU means waiting for all that it has still to do. So with a fused optimiser
    (which is what a GPU has by default) it is the device that holds such a step back, and all steps after it,
    so that the weights stay as they were; the CPU looks every :data:`EVERY` batches, and before a validation,
    a checkpoint and the end. With any other optimiser, as on a CPU, it looks before every step.
    """

    def __init__(self) -> None:
        self._batch = _Batch(0, [])  # the one at work
        self._waiting: list[_Batch] = []  # to be looked at
        self._held_back: Tensor | None = None  # on the device: 1 as soon as a step had to be, else 0

    def begin(self, step: int, names: list[str]) -> None:
        """A batch of samples of these names is to come, for a step of this number."""
        self._batch = _Batch(step, names)

    def check_loss(self, losses: Tensor, module: pl.LightningModule) -> None:
        """The batch's loss in each of the processes [P].

        Raises:
            NotFiniteError: see :meth:`look`.
        """
        self._batch.losses = losses.detach()
        if _on_device(module.trainer):
            self._waiting.append(self._batch)
            self._hold_back(~torch.isfinite(losses).all())
        else:
            _judge([self._batch], module)

    def check_gradient(self, optimizer: Optimizer, module: pl.LightningModule) -> None:
        """The gradient that the optimiser is about to use, equal in all processes.

        Raises:
            NotFiniteError: see :meth:`look`.
        """
        if scales_the_loss(module.trainer):  # which expects such gradients, and leaves the step out
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        self._batch.norm = norm = torch.nn.utils.get_total_norm(gradients)
        if _on_device(module.trainer):
            self._hold_back(~torch.isfinite(norm))
            optimizer.found_inf = self._held_back  # type: ignore[attr-defined]  # PyTorch's name for it
            if len(self._waiting) >= EVERY:
                self.look(module)
        else:
            _judge([self._batch], module)

    def look(self, module: pl.LightningModule) -> None:
        """Look at the batches that nobody has looked at.

        Raises:
            NotFiniteError: in all processes, which have to come here together, if one of the losses or
                gradients is not finite.
        """
        waiting, self._waiting = self._waiting, []
        if waiting:
            _judge(waiting, module)

    def _hold_back(self, bad: Tensor) -> None:
        before = torch.zeros((), device=bad.device) if self._held_back is None else self._held_back
        self._held_back = torch.maximum(before, bad.float())


def scales_the_loss(trainer: pl.Trainer) -> bool:
    """Whether a step may be left out because the loss was scaled too high (precision 16-mixed)."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _on_device(trainer: pl.Trainer) -> bool:
    """Whether the optimisers can hold a step back by themselves."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return not scales_the_loss(trainer) and all(group.get("fused") for group in groups)


def _judge(batches: list[_Batch], module: pl.LightningModule) -> None:
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
    """Stop all processes, with one message; all of them have to come here."""
    names = distributed.gather_names(names)
    callbacks = module.trainer.checkpoint_callbacks
    written = [path for path in (getattr(each, "best_model_path", "") for each in callbacks) if path]
    raise NotFiniteError(
        f"training stopped before step {batch.step} of {type(module).__name__}: {what}\n"
        f"  batch: {'; '.join(names)}\n"
        f"  checkpoints before it: {', '.join(written) or 'none was due yet'}"
    )
