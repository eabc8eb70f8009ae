"""Training of A-Net on single frames."""

from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from ivos.data.batches import Batch
from ivos.engine.thresholding import THRESHOLD
from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet
from ivos.runtime.options import Share, whole
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.training.losses import iou
from ivos.training.propagation import run
from ivos.training.stages.base import Stage
from ivos.video.clip import Clip


@accept_former_keywords(loop_rounds="feedback_rounds", loop_share="feedback_prob")
class ANetStage(Stage):
    """Training of A-Net, which predicts the mask of a frame from strokes, on single frames.

    The converter is trained in T-Net's stage, because only T-Net uses its output; its batch norms update
    their statistics in this stage.

    Args:
        network: See :class:`Stage`.
        feedback_rounds: Number of feedback rounds before the prediction that is trained; in each, the network
            predicts masks and a simulated user corrects them. With 0, corrections refer to deformed true
            masks only.
        feedback_prob: Share of the batches with feedback rounds.
        user: Simulated user of the feedback rounds.
        options: See :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        feedback_rounds: Annotated[int, whole(0)] = 0,
        feedback_prob: Share = 1.0,
        user: SimulatedUser | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, ("anet.encoder.", "anet.decoder."), **options)
        self.feedback_rounds, self.feedback_prob = feedback_rounds, feedback_prob
        self.user = user or SimulatedUser()

    def train(self, mode: bool = True) -> "ANetStage":
        """Set the trained parts and the converter to training mode; the latter updates its statistics."""
        super().train(mode)
        self.network.anet.converter.train(mode and not self.freeze_batch_norm)
        return self

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on the annotated frame."""
        images = self.network.normalise(batch["frames"][:, 0])[batch["image"]]
        masks, interaction = batch["masks"][:, 0], batch["interaction"]
        chance = np.random.default_rng([self.seed, self.number]).random()  # the same in all processes
        if self.feedback_rounds and chance < self.feedback_prob:
            rngs = self.randomness(batch)
            for _ in range(self.feedback_rounds):
                interaction = self._corrected(images, masks, interaction, rngs)
        options = {"network": self.network, "checkpointing": self.checkpointing}
        logits, _ = run(self.network.anet, images, interaction, **options)  # type: ignore[arg-type]
        return self.loss(logits, masks), {"iou": iou(logits > 0, masks).mean()}

    @torch.no_grad()
    def _corrected(
        self, images: Tensor, masks: Tensor, interaction: Tensor, rngs: list[np.random.Generator]
    ) -> Tensor:
        """Return the interaction channels after the network's prediction and the user's correction of it."""
        self.network.anet.eval()
        logits, _ = self.network.anet(images, interaction)
        self.train()
        return self.users.correct(self.user, logits.sigmoid() > THRESHOLD, masks, interaction, rngs)

    def validation_clip(self, clip: Clip) -> Clip:
        """Return a clip of only the frame that is annotated first."""
        return clip.only(clip.first_frame)
