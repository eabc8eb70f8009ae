"""The stages of the networks on a frozen encoder: A-Net on single frames, then T-Net on mini-sequences."""

from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ivos.data.batches import Batch
from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet, MemoryATNet, MemoryFeatures, MemoryFrame
from ivos.networks.memory import RECENT, others_of, twice_as_large
from ivos.runtime.errors import UserError
from ivos.runtime.options import Share, whole
from ivos.training.losses import iou, mean
from ivos.training.stages.base import Stage
from ivos.video.clip import Clip


class _FrozenEncoderStage(Stage):
    """Base class of the stages of networks on a frozen encoder."""

    def __init__(self, network: ATNet, trains: tuple[str, ...], **options: Any) -> None:
        if not isinstance(network, MemoryATNet):
            raise UserError(
                "this stage trains a network on a frozen encoder (model=memory); for the paper's network "
                "choose stage@stages.anet=anet and stage@stages.tnet=tnet"
            )
        super().__init__(network, trains, **options)
        self.memory_network = network

    @torch.no_grad()
    def _features(self, frames: Tensor) -> MemoryFeatures:
        """Return the features of frames uint8 [B, 3, H, W]."""
        return self.memory_network.features(self.network.normalise(frames))


def _of_objects(features: MemoryFeatures, image: Tensor) -> MemoryFeatures:
    """Index features of images [B, ...] by the image of each object, to [M, ...]."""
    return MemoryFeatures(*(one.index_select(0, image) for one in vars(features).values()))


class StrokeANetStage(_FrozenEncoderStage):
    """Training of A-Net on a frozen encoder, which predicts masks from strokes, on single frames.

    Args:
        network: See :class:`Stage`.
        feedback_rounds: Number of feedback rounds before the prediction that is trained; in each, the network
            predicts masks and a simulated user corrects them.
        feedback_prob: Share of the batches with feedback rounds.
        user: Simulated user of the feedback rounds; None uses one who keeps all negative strokes.
        options: See :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        feedback_rounds: Annotated[int, whole(0)] = 1,
        feedback_prob: Share = 0.45,
        user: SimulatedUser | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, ("anet.",), **options)
        self.feedback_rounds, self.feedback_prob = feedback_rounds, feedback_prob
        self.user = user or SimulatedUser(negatives_everywhere=True)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on the annotated frame."""
        features = _of_objects(self._features(batch["frames"][:, 0]), batch["image"])
        masks, interaction = batch["masks"][:, 0], batch["interaction"]
        chance = np.random.default_rng([self.seed, self.number]).random()  # equal in all processes
        if chance < self.feedback_prob:
            rngs = self.randomness(batch)
            for _ in range(self.feedback_rounds):
                with torch.no_grad():
                    predicted = twice_as_large(self.network.anet(features, interaction).float()) > 0
                interaction = self.users.correct(self.user, predicted, masks, interaction, rngs)
        logits = twice_as_large(self.network.anet(features, interaction).float())
        return self.loss(logits, masks), {"iou": iou(logits > 0, masks).mean()}

    def validation_clip(self, clip: Clip) -> Clip:
        """Return a clip of only the frame annotated first, because this stage trains no propagation."""
        return clip.only(clip.first_frame)


class MemoryTNetStage(_FrozenEncoderStage):
    """Training of T-Net with a memory of frames on mini-sequences.

    The mask of the first frame is propagated frame by frame. It is the true mask, deformed for some of the
    objects to imitate A-Net's errors. A-Net itself is not used, so that the two stages can be trained in any
    order.

    Args:
        network: See :class:`Stage`.
        user: Simulated user whose method ``deformation`` deforms the first masks.
        deformed_prob: Share of the objects whose first mask is deformed.
        options: See :class:`Stage`.
    """

    def __init__(
        self, network: ATNet, user: SimulatedUser | None = None, deformed_prob: float = 0.5, **options: Any
    ) -> None:
        super().__init__(network, ("tnet.",), **options)
        self.user, self.deformed_prob = user or SimulatedUser(), deformed_prob

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss over the frames that follow the annotated one."""
        frames, tnet = batch["frames"], self.memory_network.tnet
        samples, length = frames.shape[:2]
        features = vars(self._features(frames.flatten(0, 1))).values()
        by_frame = [
            MemoryFeatures(*(one.unflatten(0, (samples, length))[:, t] for one in features))
            for t in range(length)
        ]
        places, number = _places(batch["image"], samples)
        first = F.avg_pool2d(self._first_masks(batch), 2)
        mask = first.new_zeros(samples * number, *first.shape[1:]).index_copy(0, places, first)
        annotated = [tnet.remember(by_frame[0], mask, others_of(mask, samples))]
        recent: list[MemoryFrame] = []
        losses, quality = [], []
        for target in range(1, length):
            logits, _ = tnet(by_frame[target], by_frame[target - 1], mask, annotated, recent)
            full, truth = twice_as_large(logits[places].float()), batch["masks"][:, target]
            losses.append(self.loss(full, truth))
            quality.append(iou(full > 0, truth).mean())
            mask = logits.detach().float().sigmoid()
            newest = tnet.remember(by_frame[target], mask, others_of(mask, samples))
            recent = [*recent, newest][-RECENT:]
        return mean(losses), {"iou": mean(quality)}

    def _first_masks(self, batch: Batch) -> Tensor:
        """Return the masks of the first frames, partly deformed, float32 [M, 1, H, W] in [0, 1]."""
        first = (batch["masks"][:, 0] == 1).float()
        for index, rng in enumerate(self.randomness(batch)):
            if rng.random() < self.deformed_prob:
                faulty = self.user.deformation(first[index, 0].cpu().numpy().astype(np.uint8), rng)
                first[index, 0] = torch.from_numpy(faulty).to(first)
        return first


def _places(image: Tensor, samples: int) -> tuple[Tensor, int]:
    """Return each object's index in a batch padded to the same number of objects per sample, and that number.

    Args:
        image: Index of each object's sample [M].
        samples: Number of samples.
    """
    counts = torch.bincount(image, minlength=samples)
    number = int(counts.max())
    before = torch.cumsum(counts, 0) - counts
    return image * number + torch.arange(len(image), device=image.device) - before[image], number
