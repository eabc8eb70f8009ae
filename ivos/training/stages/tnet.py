"""Training of T-Net on mini-sequences, with A-Net frozen."""

from typing import Any

from torch import Tensor

from ivos.data.batches import Batch
from ivos.networks import ATNet
from ivos.training.losses import iou, local_transfer_loss, mean
from ivos.training.propagation import Propagation
from ivos.training.stages.base import Stage

# T-Net's parts that the local transfer does not depend on: all but the encoder up to r2 and the projection.
BEYOND_LOCAL = (
    *(f"tnet.encoder.stages.{stage}." for stage in (1, 2, 3)),
    "tnet.fuse.",
    "tnet.decoder.",
)


class TNetStage(Stage):
    """Training of T-Net, which propagates the first frame's mask from frame to frame, with A-Net frozen.

    Args:
        network: See :class:`Stage`.
        local_weight: Weight of the local transfer's mean squared error.
        mask_gradient: Whether the gradient passes through the mask that is passed from frame to frame.
        train_converter: Whether A-Net's converter, whose output only T-Net uses, is trained; the statistics
            of its batch norms stay unchanged, like those of all of A-Net.
        global_weight: Weight of :func:`ivos.training.losses.global_transfer_loss` (0 in the paper).
        train_local: Whether the features that the local transfer matches are trained, that is, the encoder up
            to stride 4 and the local projection. Features initialised to follow motion
            (``init.whiten_local``) soon lose this property if the loss trains them to correct wrong masks.
        options: See :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        local_weight: float = 0.1,
        mask_gradient: bool = True,
        train_converter: bool = True,
        global_weight: float = 0.0,
        train_local: bool = True,
        **options: Any,
    ) -> None:
        converter = ("anet.converter.",) if train_converter and network.tnet.use_global else ()
        parts = ("tnet.",) if train_local else BEYOND_LOCAL
        super().__init__(network, (*parts, *converter), **options)
        self.local_weight, self.mask_gradient = local_weight, mask_gradient
        self.global_weight = global_weight

    def train(self, mode: bool = True) -> "TNetStage":
        """Set T-Net's trained parts to training mode; all of A-Net stays in evaluation mode."""
        super().train(mode)
        self.network.anet.train(False)
        return self

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the propagated masks and of the local transfer, averaged over the frames."""
        sequences = Propagation(self.network, batch, not self.mask_gradient, self.checkpointing)
        logits, objects = sequences.annotate(0, batch["interaction"])
        mask = logits.sigmoid().detach()
        targets = range(1, sequences.num_frames)
        entropy, error, quality, similarity = [], [], [], []
        for target, logits, local in sequences.propagate(0, mask, targets, [0], [objects]):
            truth = batch["masks"][:, target]
            entropy.append(self.loss(logits, truth))
            error.append(local_transfer_loss(local, truth))
            quality.append(iou(logits > 0, truth).mean())
            if self.global_weight:
                similarity.append(sequences.global_error(target, [0]))
        metrics = {"iou": mean(quality), "cross_entropy": mean(entropy), "local_error": mean(error)}
        if self.global_weight:
            metrics["global_error"] = mean(similarity)
        loss = mean(entropy) + self.local_weight * mean(error) + self.global_weight * mean(similarity)
        return loss, metrics
