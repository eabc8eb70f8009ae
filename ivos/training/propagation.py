"""A batch of mini-sequences run through A-Net and T-Net, frame by frame, with gradients."""

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
    """The frames of a batch as T-Net sees them: each image's features are computed once.

    B samples of T frames with M objects in all (see :class:`Batch`). Of every image there is one set of
    features; an object looks up those of its sample, once per frame, and of a frame that is only come from
    what the local transfer reads.

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
        # Taken apart once: looked up from the whole, every frame's gradient would be as large as the whole.
        by_frame = [one.unflatten(0, self.images.shape[:2]).unbind(1) for one in vars(features).values()]
        self._of_images = [FrameFeatures(*frame) for frame in zip(*by_frame, strict=True)]
        self._of_objects: dict[int, FrameFeatures] = {}

    def features(self, frame: int) -> FrameFeatures:
        """T-Net's features of one frame, for every object [M, ...]."""
        if frame not in self._of_objects:
            of_objects = map(self._looked_up, vars(self._of_images[frame]).values())
            self._of_objects[frame] = FrameFeatures(*of_objects)
        return self._of_objects[frame]

    def source(self, frame: int) -> FrameFeatures:
        """Those of a frame that is only come from: what is for every object is `local` alone."""
        if frame in self._of_objects:
            return self._of_objects[frame]
        of_images = self._of_images[frame]
        return dataclasses.replace(of_images, local=self._looked_up(of_images.local))

    def _looked_up(self, of_images: Tensor) -> Tensor:
        """[B, ...] -> [M, ...]; where every sample has one object they are the same."""
        image = self.batch["image"]
        return of_images if len(image) == len(of_images) else of_images.index_select(0, image)

    def annotate(self, frame: int, interaction: Tensor) -> tuple[Tensor, Tensor]:
        """A-Net on a frame: logits [M, 1, H, W] and object features [M, 32w, H/16, W/16]."""
        return self._run(self.network.anet, self._looked_up(self.images[:, frame]), interaction)

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
        """How badly the similarities alone carry the annotated frames' true masks to a frame; their mean."""
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
