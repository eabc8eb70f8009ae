"""The execution of the networks in training: memory format, compilation, recomputation, fused optimisers.

These options change nothing in a training step beyond the rounding of its sums.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Execution(Callback):
    """Sets how the networks of a stage are executed, and restores them when the stage is over.

    Args:
        channels_last: keep weights and images in the memory format that convolutions prefer.
        compile: run the networks through ``torch.compile``; not in validation, where the engine has an
            option of its own.
        checkpointing: recompute the activations inside the networks instead of keeping them, which needs
            less memory and more time.
    """

    def __init__(
        self, channels_last: bool = False, compile: bool = False, checkpointing: bool = False
    ) -> None:
        self.channels_last, self.compile, self.checkpointing = channels_last, compile, checkpointing
        self._compiled: dict[Any, dict[str, Any]] = {}  # compiled methods, by module

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Change the memory format before optimisers are created and parameters broadcast; compile."""
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
        """Put the compiled methods in the place of the uncompiled ones."""
        for part, methods in self._compiled.items():
            vars(part).update(methods)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the uncompiled methods."""
        for part, methods in self._compiled.items():
            for name in methods:
                vars(part).pop(name, None)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the uncompiled methods, since the engine copies the network."""
        self.on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the compiled methods back after a validation."""
        self.on_train_start(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Restore the network's methods and memory format."""
        self.on_train_end(trainer, pl_module)
        self._compiled = {}
        pl_module.checkpointing = False
        if self.channels_last:
            pl_module.network.to(memory_format=torch.contiguous_format)


def fused(make_optimizer: Callable[..., Any], device: torch.device) -> bool:
    """Return whether an optimiser is to take its steps in one kernel.

    That is the default on a GPU, for optimisers that can and are not configured otherwise.
    """
    options = getattr(make_optimizer, "keywords", {})
    chosen = any(options.get(name) is not None for name in ("fused", "foreach", "differentiable"))
    return device.type == "cuda" and not chosen and "fused" in inspect.signature(make_optimizer).parameters
