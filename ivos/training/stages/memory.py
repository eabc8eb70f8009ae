"""The stages of the networks on a frozen encoder: A-Net on single frames, T-Net on sequences, and both."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ivos.training.stages.rounds import simulate_rounds
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

    def _features_by_frame(self, frames: Tensor) -> list[MemoryFeatures]:
        """Return the features of each of the T frames of sequences uint8 [B, T, 3, H, W]."""
        parts = vars(self._features(frames.flatten(0, 1))).values()
        by_frame = [part.unflatten(0, frames.shape[:2]) for part in parts]
        return [MemoryFeatures(*(part[:, t] for part in by_frame)) for t in range(frames.shape[1])]

    def _annotate(self, images: Tensor, features: MemoryFeatures, interaction: Tensor) -> Tensor:
        """Run A-Net as the engine does: first at half the size for objects without a previous mask.

        Args:
            images: Normalised image of each object [M, 3, H, W].
            features: Features of these images.
            interaction: Previous mask, positive and negative strokes of each object [M, 3, H, W].

        Returns:
            Logits [M, 1, H, W].
        """
        with torch.no_grad():
            interaction = self.memory_network.with_coarse_masks(images, interaction)
        half = self.memory_network.anet(features, interaction)
        return twice_as_large(half.float())

    def _propagate(
        self,
        features: list[MemoryFeatures],
        image: Tensor,
        annotated: Mapping[int, Tensor],
        source: int,
        targets: Iterable[int],
    ) -> Iterator[tuple[int, Tensor]]:
        """Run T-Net from frame to frame; the gradient does not pass through the masks.

        Args:
            features: Features of the B images of each frame.
            image: Index of each object's image [M].
            annotated: Masks of the annotated frames, float32 [M, 1, H, W] in [0, 1], by frame.
            source: Annotated frame to start from.
            targets: Indices of the frames to propagate to, in order.

        Yields:
            Index of the target frame, and its logits [M, 1, H, W].
        """
        tnet, samples = self.memory_network.tnet, len(features[0].key)
        places, number = _places(image, samples)

        def padded(mask: Tensor) -> Tensor:
            half = F.avg_pool2d(mask, 2)
            return half.new_zeros(samples * number, *half.shape[1:]).index_copy(0, places, half)

        def remember(frame: int, mask: Tensor) -> MemoryFrame:
            return tnet.remember(features[frame], mask, others_of(mask, samples))

        memory = [remember(frame, padded(mask)) for frame, mask in annotated.items()]
        mask, recent = padded(annotated[source]), list[MemoryFrame]()
        for target in targets:
            logits, _ = tnet(features[target], features[source], mask, memory, recent)
            yield target, twice_as_large(logits[places].float())
            source, mask = target, logits.detach().float().sigmoid()
            recent = [*recent, remember(target, mask)][-RECENT:]


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
        frames, image = batch["frames"][:, 0], batch["image"]
        features = _of_objects(self._features(frames), image)
        images = self.network.normalise(frames).index_select(0, image)
        masks, interaction = batch["masks"][:, 0], batch["interaction"]
        chance = np.random.default_rng([self.seed, self.number]).random()  # equal in all processes
        if chance < self.feedback_prob:
            rngs = self.randomness(batch)
            for _ in range(self.feedback_rounds):
                with torch.no_grad():
                    predicted = self._annotate(images, features, interaction) > 0
                interaction = self.users.correct(self.user, predicted, masks, interaction, rngs)
        logits = self._annotate(images, features, interaction)
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
        features = self._features_by_frame(batch["frames"])
        annotated, targets = {0: self._first_masks(batch)}, range(1, len(features))
        losses, quality = [], []
        for target, logits in self._propagate(features, batch["image"], annotated, 0, targets):
            truth = batch["masks"][:, target]
            losses.append(self.loss(logits, truth))
            quality.append(iou(logits > 0, truth).mean())
        return mean(losses), {"iou": mean(quality)}

    def _first_masks(self, batch: Batch) -> Tensor:
        """Return the masks of the first frames, partly deformed, float32 [M, 1, H, W] in [0, 1]."""
        masks = batch["masks"][:, 0]
        first = (masks[:, 0] == 1).cpu().numpy().astype(np.uint8)  # one copy from a GPU for all objects
        for index, rng in enumerate(self.randomness(batch)):
            if rng.random() < self.deformed_prob:
                first[index] = self.user.deformation(first[index], rng)
        return torch.from_numpy(first[:, None]).to(masks.device).float()


class MemoryJointStage(_FrozenEncoderStage):
    """Joint training of both networks on a frozen encoder over several rounds on a mini-sequence.

    In each round a simulated user corrects the frame with the lowest mean IoU in the batch of all processes,
    A-Net predicts its masks, and T-Net propagates them in both directions with the memory of all rounds, as
    in the engine. The gradient passes neither through the masks nor from round to round.

    Args:
        network: See :class:`Stage`.
        rounds: Number of rounds on each mini-sequence.
        user: Simulated user of all rounds after the first; None uses one who keeps all negative strokes.
        options: See :class:`Stage`.
    """

    def __init__(
        self,
        network: ATNet,
        rounds: Annotated[int, whole(1)] = 2,
        user: SimulatedUser | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, ("anet.", "tnet."), **options)
        self.rounds = rounds
        self.user = user or SimulatedUser(negatives_everywhere=True)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of both networks, averaged over frames and rounds."""
        frames, image = batch["frames"], batch["image"]
        features = self._features_by_frame(frames)

        def annotate(frame: int, interaction: Tensor) -> Tensor:
            images = self.network.normalise(frames[:, frame]).index_select(0, image)
            return self._annotate(images, _of_objects(features[frame], image), interaction)

        def propagate(
            frame: int, targets: Sequence[int], known: dict[int, Tensor]
        ) -> Iterator[tuple[int, Tensor]]:
            return self._propagate(features, image, known, frame, targets)

        found = simulate_rounds(self, batch, self.rounds, self.user, 0.5, annotate, propagate)
        return found.total(), found.metrics


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
