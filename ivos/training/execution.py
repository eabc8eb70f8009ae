"""Execution options of training: memory format, compilation, activation checkpointing, fused optimisers.

These options change the results of a training step by rounding errors only.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Execution(Callback):
    """Callback that sets the execution options of a stage's networks and resets them after the stage.

    Args:
        channels_last: Whether weights and images use the channels-last memory format, in which some
            convolutions are faster.
        compile: Whether the networks are compiled by ``torch.compile``; validation uses the compile option
            of the engine instead.
        checkpointing: Whether activations are recomputed in the backward pass instead of stored, which needs
            less memory and more time.
    """

    def __init__(
        self, channels_last: bool = False, compile: bool = False, checkpointing: bool = False
    ) -> None:
        self.channels_last, self.compile, self.checkpointing = channels_last, compile, checkpointing
        self._compiled: dict[Any, dict[str, Any]] = {}  # compiled methods by name, for each module

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Set the memory format, before optimisers are created and parameters broadcast, and compile."""
        network = pl_module.network
        pl_module.checkpointing = self.checkpointing
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compile:
            methods = {network.anet: ["forward"], network.tnet: ["forward", "features"]}
            self._compiled = {
                part: {name: torch.compile(getattr(part, name)) for name in names}
                for part, names in methods.items()
            }

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Replace the networks' methods by the compiled ones."""
        for part, methods in self._compiled.items():
            vars(part).update(methods)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the uncompiled methods."""
        for part, methods in self._compiled.items():
            for name in methods:
                vars(part).pop(name, None)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the uncompiled methods, because the engine copies the network."""
        self.on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Replace the networks' methods by the compiled ones after a validation."""
        self.on_train_start(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Restore the network's methods and memory format."""
        self.on_train_end(trainer, pl_module)
        self._compiled = {}
        pl_module.checkpointing = False
        if self.channels_last:
            pl_module.network.to(memory_format=torch.contiguous_format)


def fused(make_optimizer: Callable[..., Any], device: torch.device) -> bool:
    """Return whether an optimiser uses its fused implementation, which takes a step in one kernel.

    This is the default on a GPU if the optimiser has such an implementation and no other is configured.
    """
    options = getattr(make_optimizer, "keywords", {})
    chosen = any(options.get(name) is not None for name in ("fused", "foreach", "differentiable"))
    return device.type == "cuda" and not chosen and "fused" in inspect.signature(make_optimizer).parameters
