"""Joint training of both networks over the rounds of a session."""

from typing import Any

import torch
from torch import Tensor

from ivos.data.batches import Batch
from ivos.engine import plan_round
from ivos.engine.thresholding import THRESHOLD
from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet, MemoryATNet
from ivos.runtime.errors import UserError
from ivos.training import distributed
from ivos.training.losses import iou, local_transfer_loss, mean
from ivos.training.propagation import Propagation
from ivos.training.stages.base import Stage


class JointStage(Stage):
    """Joint training of both networks over several rounds on a mini-sequence (not in the paper).

    In each round a simulated user corrects the frame with the lowest mean IoU in the batch of all processes,
    A-Net predicts its masks, and T-Net propagates them in both directions with the memory of all rounds, as
    in the engine. Between rounds, the gradient passes through the memory but not through the masks.

    Args:
        network: See :class:`Stage`.
        rounds: Number of rounds on each mini-sequence.
        local_weight: Weight of the local transfer's mean squared error.
        mask_gradient: Whether the gradient passes through the mask that is passed from frame to frame.
        user: Simulated user of all rounds after the first.
        global_weight: See :class:`ivos.training.stages.TNetStage`.
        options: See :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        rounds: int = 3,
        local_weight: float = 0.1,
        mask_gradient: bool = True,
        user: SimulatedUser | None = None,
        global_weight: float = 0.0,
        **options: Any,
    ) -> None:
        if isinstance(network, MemoryATNet):
            raise UserError(
                "this stage trains the paper's network; for one on a frozen encoder choose "
                "experiment=finetune_memory, or stage@stages.joint=memory_joint"
            )
        converter = ("anet.converter.",) if network.tnet.use_global else ()  # otherwise unused
        super().__init__(network, ("anet.encoder.", "anet.decoder.", *converter, "tnet."), **options)
        self.rounds, self.user = rounds, user or SimulatedUser()
        self.local_weight, self.mask_gradient = local_weight, mask_gradient
        self.global_weight = global_weight

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of both networks and of the local transfer, averaged over frames and rounds."""
        sequences = Propagation(self.network, batch, not self.mask_gradient, self.checkpointing)
        masks, interaction, frame = batch["masks"], batch["interaction"], 0
        rngs = self.randomness(batch)
        state = torch.zeros(masks.shape, device=masks.device)  # blended probabilities [M, T, 1, H, W]
        annotated: list[int] = []
        objects: list[Tensor] = []
        annotation, propagation, error, similarity, metrics = [], [], [], [], {}
        for number in range(1, min(self.rounds, sequences.num_frames) + 1):
            if annotated:
                frame = worst_frame(state > THRESHOLD, masks, annotated)
                channels = torch.zeros_like(interaction)  # the frame has no strokes yet
                faulty = state[:, frame] > THRESHOLD
                interaction = self.users.correct(self.user, faulty, masks[:, frame], channels, rngs)
            plan = plan_round(frame, annotated, sequences.num_frames)
            logits, converted = sequences.annotate(frame, interaction)
            annotated.append(frame)
            objects.append(converted)
            annotation.append(self.loss(logits, masks[:, frame]))
            state[:, frame] = mask = logits.detach().float().sigmoid()
            for targets in (plan.backward, plan.forward):
                for target, logits, local in sequences.propagate(frame, mask, targets, annotated, objects):
                    propagation.append(self.loss(logits, masks[:, target]))
                    error.append(local_transfer_loss(local, masks[:, target]))
                    if self.global_weight:
                        similarity.append(sequences.global_error(target, annotated))
                    new = logits.detach().float().sigmoid()
                    plan.blend(target, state[:, target], new)
            metrics[f"iou_round_{number}"] = iou(state.flatten(0, 1) > 0.5, masks.flatten(0, 1)).mean()
        metrics |= {"cross_entropy": mean(annotation + propagation), "local_error": mean(error)}
        if self.global_weight:
            metrics["global_error"] = mean(similarity)
        loss = mean(annotation) + mean(propagation) + self.local_weight * mean(error)
        return loss + self.global_weight * mean(similarity), metrics


def worst_frame(predicted: Tensor, masks: Tensor, annotated: list[int]) -> int:
    """Return the frame with the lowest mean IoU over all processes that has not been annotated yet.

    Args:
        predicted: Predicted masks of this process, bool [M, T, 1, H, W].
        masks: True masks of this process, uint8 [M, T, 1, H, W].
        annotated: Frames annotated so far.
    """
    quality = iou(predicted.flatten(0, 1), masks.flatten(0, 1))
    total = distributed.gather(quality.view(masks.shape[:2]).sum(0)).sum(0)
    total[annotated] = torch.inf
    return int(total.argmin())
