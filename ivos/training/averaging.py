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
    """A module's moving average, buffers included, whose update reads no value back from the device."""

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
            pairs = list(zip(average, current, strict=True))
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            torch._foreach_lerp_([one for one, _ in floats], [other for _, other in floats], 1 - self.decay)
            for one, other in pairs:
                if not one.is_floating_point():
                    one.copy_(one * self.decay + other * (1 - self.decay))
        self.n_averaged += 1


def _tensors(module: Any) -> list[Tensor]:
    return [tensor.detach() for tensor in itertools.chain(module.parameters(), module.buffers())]
