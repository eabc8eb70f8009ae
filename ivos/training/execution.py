"""Execution options of training: memory format, compilation, activation checkpointing, fused optimisers.

These options change the results of a training step by rounding errors only.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from ivos.networks import ATNet, MemoryATNet
from ivos.training.propagation import run


class Execution(Callback):
    """Callback that sets the execution options of a stage's networks and resets them after the stage.

    Args:
        channels_last: Whether weights and images use the channels-last memory format, in which some
            convolutions are faster.
        compile: Whether the networks (of a network on a frozen encoder: its two decoders) are compiled by
            ``torch.compile``; validation uses the compile option of the engine instead.
        checkpointing: Whether activations are recomputed in the backward pass instead of stored, which needs
            less memory and more time.
    """

    def __init__(
        self, channels_last: bool = False, compile: bool = False, checkpointing: bool = False
    ) -> None:
        self.channels_last, self.compile, self.checkpointing = channels_last, compile, checkpointing
        self._replaced: dict[Any, dict[str, Any]] = {}  # replacements of methods by name, for each module

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Set the memory format, before optimisers are created and parameters broadcast, and compile."""
        network = pl_module.network
        pl_module.checkpointing = self.checkpointing
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        self._replaced = self._replacements(network)

    def _replacements(self, network: ATNet) -> dict[Any, dict[str, Any]]:
        """Return the methods that replace those of the network's parts during training.

        The stages of the paper's network recompute activations themselves, because its batch norms must not
        count the recomputation. A network on a frozen encoder stores activations in its decoders only.
        """
        methods: dict[Any, list[str]] = {network.anet: ["forward"], network.tnet: ["forward", "features"]}
        recompute = False
        if isinstance(network, MemoryATNet):
            methods = {network.anet.decoder: ["forward"], network.tnet.decoder: ["forward"]}
            recompute = self.checkpointing
        if not (self.compile or recompute):
            return {}

        def replacement(part: Any, name: str) -> Any:
            method = getattr(part, name)
            if self.compile:
                method = torch.compile(method)
            return functools.partial(run, method, network=part, checkpointing=True) if recompute else method

        return {part: {name: replacement(part, name) for name in names} for part, names in methods.items()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Replace the methods of the network's parts."""
        for part, methods in self._replaced.items():
            vars(part).update(methods)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the methods of the network's parts."""
        for part, methods in self._replaced.items():
            for name in methods:
                vars(part).pop(name, None)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the methods of the network's parts, because the engine copies the network."""
        self.on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Replace the methods of the network's parts again after a validation."""
        self.on_train_start(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Restore the network's methods and memory format."""
        self.on_train_end(trainer, pl_module)
        self._replaced = {}
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
