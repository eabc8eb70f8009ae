"""Joint training of both networks over the rounds of a session."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ivos.data.batches import Batch
from ivos.engine.thresholding import THRESHOLD
from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet, MemoryATNet
from ivos.runtime.errors import UserError
from ivos.training.losses import local_transfer_loss, mean
from ivos.training.propagation import Propagation
from ivos.training.stages.base import Stage
from ivos.training.stages.rounds import simulate_rounds


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
        masks, objects = batch["masks"], list[Tensor]()
        error, similarity = list[Tensor](), list[Tensor]()

        def annotate(frame: int, interaction: Tensor) -> Tensor:
            logits, converted = sequences.annotate(frame, interaction)
            objects.append(converted)
            return logits

        def propagate(
            frame: int, targets: Sequence[int], known: dict[int, Tensor]
        ) -> Iterator[tuple[int, Tensor]]:
            annotated = list(known)
            steps = sequences.propagate(frame, known[frame], targets, annotated, objects)
            for target, logits, local in steps:
                error.append(local_transfer_loss(local, masks[:, target]))
                if self.global_weight:
                    similarity.append(sequences.global_error(target, annotated))
                yield target, logits

        found = simulate_rounds(self, batch, self.rounds, self.user, THRESHOLD, annotate, propagate)
        metrics = found.metrics | {
            "cross_entropy": mean(found.annotation + found.propagation),
            "local_error": mean(error),
        }
        if self.global_weight:
            metrics["global_error"] = mean(similarity)
        loss = found.total() + self.local_weight * mean(error)
        return loss + self.global_weight * mean(similarity), metrics
