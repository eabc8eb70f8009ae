"""Exponential moving average of the weights on the device of the training."""

import itertools
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage(EMAWeightAveraging):
    """Lightning's exponential moving average, without copies between devices or synchronisation in a step.

    Lightning creates the average before it moves the module to its device, so that in training on a GPU every
    step would copy all weights to the CPU. Validation and all checkpoints use the averaged weights.

    Args:
        decay: Share of the average that each update keeps, in [0, 1].
        update_every_n_steps: Optimiser steps from one update to the next.
        update_starting_at_step: The first step that is averaged; None averages from the first one on.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
    ) -> None:
        super().__init__(
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )
        self.decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average on the device that the module is going to be moved to."""
        if stage == "fit":
            self._average_model = _Average(pl_module, trainer.strategy.root_device, self.decay)


class _Average(AveragedModel):
    """A module's moving average, whose update reads no value back from the device.

    Buffers are averaged, too, except counters (such as the number of batches of a batch norm), which are
    copied: this takes one operation for all of them.
    """

    def __init__(self, module: nn.Module, device: torch.device, decay: float) -> None:
        super().__init__(module, device, use_buffers=True)
        self.n_averaged = torch.zeros((), dtype=torch.long)  # on the CPU, because the update branches on it
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards a module's parameters and buffers; the first update copies them."""
        average, current = _tensors(self.module), _tensors(model)
        if self.n_averaged == 0:
            torch._foreach_copy_(average, current)
        else:
            (floats, counters), (new_floats, new_counters) = _by_kind(average), _by_kind(current)
            torch._foreach_lerp_(floats, new_floats, 1 - self.decay)
            if counters:
                torch._foreach_copy_(counters, new_counters)
        self.n_averaged += 1


def _by_kind(tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of floating-point numbers, and the others."""
    floats = [each for each in tensors if each.is_floating_point()]
    return floats, [each for each in tensors if not each.is_floating_point()]


def _tensors(module: Any) -> list[Tensor]:
    return [tensor.detach() for tensor in itertools.chain(module.parameters(), module.buffers())]
