"""Differentiable propagation with A-Net and T-Net on a batch of mini-sequences, frame by frame."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ivos.data.batches import Batch
from ivos.networks import ATNet, FrameFeatures, affinity
from ivos.training.losses import global_transfer_loss

Result = TypeVar("Result")


class Propagation:
    """Propagation of masks in a batch, with T-Net's features computed once for each image.

    The batch has B samples of T frames with M objects in total (see :class:`ivos.data.batches.Batch`). The
    features of each frame are indexed by the sample of each object, once per frame. Of source frames only the
    local features are indexed, because the local transfer uses nothing else.

    Args:
        network: A-Net and T-Net.
        batch: The samples.
        detach_mask: Whether the gradient stops at the mask that is passed from frame to frame.
        checkpointing: Whether the activations of the networks are recomputed in the backward pass instead of
            stored.
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
        # Unbind once, because indexing for each frame would create a gradient of the full size each time.
        by_frame = [one.unflatten(0, self.images.shape[:2]).unbind(1) for one in vars(features).values()]
        self._of_images = [FrameFeatures(*frame) for frame in zip(*by_frame, strict=True)]
        self._of_objects: dict[int, FrameFeatures] = {}

    def features(self, frame: int) -> FrameFeatures:
        """Return T-Net's features of a target frame for every object, [M, ...]."""
        if frame not in self._of_objects:
            of_objects = map(self._looked_up, vars(self._of_images[frame]).values())
            self._of_objects[frame] = FrameFeatures(*of_objects)
        return self._of_objects[frame]

    def source(self, frame: int) -> FrameFeatures:
        """Return T-Net's features of a source frame; only `local` is [M, ...], the others are [B, ...]."""
        if frame in self._of_objects:
            return self._of_objects[frame]
        of_images = self._of_images[frame]
        return dataclasses.replace(of_images, local=self._looked_up(of_images.local))

    def _looked_up(self, of_images: Tensor) -> Tensor:
        """Index features of images [B, ...] by the image of each object, to [M, ...]."""
        image = self.batch["image"]
        return of_images if len(image) == len(of_images) else of_images.index_select(0, image)

    def annotate(self, frame: int, interaction: Tensor) -> tuple[Tensor, Tensor]:
        """Run A-Net on a frame.

        Args:
            frame: Index of the frame.
            interaction: Interaction channels of the frame [M, 3, H, W].

        Returns:
            The logits [M, 1, H, W] and the object features [M, 32w, H/16, W/16].
        """
        return self._run(self.network.anet, self._looked_up(self.images[:, frame]), interaction)

    def propagate(
        self, source: int, mask: Tensor, targets: Iterable[int], annotated: list[int], objects: list[Tensor]
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Run T-Net from frame to frame.

        Args:
            source: Index of the frame to start from.
            mask: Probabilities in that frame [M, 1, H, W].
            targets: Indices of the frames to propagate to, in order.
            annotated: Indices of the annotated frames.
            objects: Object features of the annotated frames, each [M, 32w, H/16, W/16].

        Yields:
            Index of the target frame, its logits [M, 1, H, W] and its local transfer [M, 1, H/4, W/4].
        """
        memory = torch.stack([self._looked_up(self._of_images[frame].r5) for frame in annotated], dim=1)
        values = torch.stack(objects, dim=1)
        for target in targets:
            logits, local = self._run(
                self.network.tnet, self.features(target), self.source(source), mask, memory, values
            )
            source, mask = target, logits.sigmoid()
            if self.detach_mask:
                mask = mask.detach()
            yield target, logits, local

    def global_error(self, target: int, annotated: list[int]) -> Tensor:
        """Return the loss of the global transfer to a target frame, averaged over the annotated frames."""
        image, masks = self.batch["image"], self.batch["masks"]
        keys = [of_images.r5 for of_images in self._of_images]
        with torch.autocast(masks.device.type, enabled=False):
            errors = [
                global_transfer_loss(
                    affinity(keys[frame], keys[target])[image], masks[:, frame], masks[:, target]
                )
                for frame in annotated
            ]
        return torch.stack(errors).mean()

    def _run(self, function: Callable[..., Result], *inputs: Any) -> Result:
        return run(function, *inputs, network=self.network, checkpointing=self.checkpointing)


def run(function: Callable[..., Result], *inputs: Any, network: nn.Module, checkpointing: bool) -> Result:
    """Call a part of a network, optionally with activation checkpointing.

    Args:
        function: Part of the network to call.
        inputs: Arguments of the part.
        network: Network whose batch-norm statistics must not be updated by the recomputation.
        checkpointing: Whether activations are recomputed in the backward pass.
    """
    if checkpointing and torch.is_grad_enabled():
        result: Result = checkpoint(
            function,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), keep_statistics(network)),
        )
        return result
    return function(*inputs)


@contextlib.contextmanager
def keep_statistics(network: nn.Module) -> Iterator[None]:
    """Return a context in which batch norms in training mode do not update their running statistics."""
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
