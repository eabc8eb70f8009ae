"""A batch of mini-sequences run through A-Net and T-Net, frame by frame, with gradients."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ivos.interaction.samples import Batch
from ivos.networks import ATNet, FrameFeatures

Result = TypeVar("Result")


class Sequences:
    """The frames of a batch as T-Net sees them: each image's features are computed once.

    B samples of T frames with M objects in all (see :class:`Batch`). Of every image there is one set of
    features; an object looks up those of its sample.

    Args:
        network: A-Net and T-Net.
        batch: the samples.
        detach_mask: cut the gradient at the mask that goes from frame to frame.
        checkpointing: keep no activations inside T-Net's steps and compute them again in the backward pass.
    """

    def __init__(
        self, network: ATNet, batch: Batch, detach_mask: bool = False, checkpointing: bool = False
    ) -> None:
        self.network = network
        self.batch = batch
        self.detach_mask = detach_mask
        self.checkpointing = checkpointing
        self.num_frames = batch["frames"].shape[1]
        self.images = network.normalise(batch["frames"])
        features = self._run(network.tnet.features, self.images.flatten(0, 1))
        self._features = {
            field.name: getattr(features, field.name).unflatten(0, self.images.shape[:2])
            for field in dataclasses.fields(features)
        }

    def features(self, frame: int) -> FrameFeatures:
        """T-Net's features of one frame, for every object [M, ...]."""
        image = self.batch["image"]
        return FrameFeatures(**{name: value[image, frame] for name, value in self._features.items()})

    def annotate(self, frame: int, interaction: Tensor) -> tuple[Tensor, Tensor]:
        """A-Net on a frame: logits [M, 1, H, W] and object features [M, 32w, H/16, W/16]."""
        return self._run(self.network.anet, self.images[self.batch["image"], frame], interaction)

    def propagate(
        self, source: int, mask: Tensor, targets: Iterable[int], annotated: list[int], objects: list[Tensor]
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """T-Net from frame to frame.

        Args:
            source: the frame to start from.
            mask: its probabilities [M, 1, H, W].
            targets: the frames to visit, in order.
            annotated: the annotated frames.
            objects: their object features, each [M, 32w, H/16, W/16].

        Yields:
            the target, its logits [M, 1, H, W] and its local transfer [M, 1, H/4, W/4].
        """
        r5, image = self._features["r5"], self.batch["image"]
        memory = torch.stack([r5[image, frame] for frame in annotated], dim=1)
        values = torch.stack(objects, dim=1)
        for target in targets:
            logits, local = self._run(
                self.network.tnet, self.features(target), self.features(source), mask, memory, values
            )
            source, mask = target, logits.sigmoid()
            if self.detach_mask:
                mask = mask.detach()
            yield target, logits, local

    def _run(self, function: Callable[..., Result], *inputs: Any) -> Result:
        return run(function, *inputs, network=self.network, checkpointing=self.checkpointing)


def run(function: Callable[..., Result], *inputs: Any, network: nn.Module, checkpointing: bool) -> Result:
    """Call a part of a network, with or without keeping its activations for the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        result: Result = checkpoint(
            function,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), statistics_kept(network)),
        )
        return result
    return function(*inputs)


@contextlib.contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch norms use the batch's statistics, but do not add them to the running ones a second time."""
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]
    numbers = {
        name: buffer for name, buffer in network.named_buffers() if name.endswith("num_batches_tracked")
    }
    kept = {name: buffer.clone() for name, buffer in numbers.items()}
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for name, buffer in numbers.items():
            buffer.copy_(kept[name])
