"""How the networks run while they are trained: memory order, compilation, memory for time, fused steps.

None of it changes what a step does, beyond the rounding of its sums.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Execution(Callback):
    """How the networks of a stage run; as it was before when the stage is over.

    Args:
        channels_last: keep weights and images in the memory order that convolutions prefer.
        compile: run the networks through ``torch.compile``; validation does not, the engine has its own.
        checkpointing: trade time for memory: no activations are kept inside the networks.
    """

    def __init__(
        self, channels_last: bool = False, compile: bool = False, checkpointing: bool = False
    ) -> None:
        self.channels_last, self.compile, self.checkpointing = channels_last, compile, checkpointing
        self._compiled: dict[Any, dict[str, Any]] = {}  # by module: what calls of its methods go to

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Before the optimisers and other processes see the parameters."""
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
        """Compiled from here on."""
        for part, methods in self._compiled.items():
            vars(part).update(methods)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """To here."""
        for part, methods in self._compiled.items():
            for name in methods:
                vars(part).pop(name, None)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The engine makes a copy of the network, to which nothing compiled for training belongs."""
        self.on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Training goes on."""
        self.on_train_start(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Leave the network as it was."""
        self.on_train_end(trainer, pl_module)
        self._compiled = {}
        pl_module.checkpointing = False
        if self.channels_last:
            pl_module.network.to(memory_format=torch.contiguous_format)


def fused(make_optimizer: Callable[..., Any], device: torch.device) -> bool:
    """Whether an optimiser can and should do its steps on a device in one kernel: on a GPU, unless told."""
    told = getattr(make_optimizer, "keywords", {})
    chosen = any(told.get(name) is not None for name in ("fused", "foreach", "differentiable"))
    return device.type == "cuda" and not chosen and "fused" in inspect.signature(make_optimizer).parameters
