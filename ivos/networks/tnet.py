"""T-Net, which propagates masks to a frame from the annotated frames and from the previous frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivos.kernels import local_transfer
from ivos.networks.backbone import Backbone
from ivos.networks.decoder import Decoder, add_image, resize

Normalize = Literal["displacements", "rows"]


@dataclass(frozen=True)
class FrameFeatures:
    """T-Net's features of B images, shared by all objects and all rounds; w is the encoder's width."""

    r5: Tensor  # features that the global transfer matches, [B, 32w, H/16, W/16]
    local: Tensor  # projected r2, which the local transfer matches, [B, 4w, H/4, W/4]
    fused: Tensor  # image part of the 1x1 convolution before the decoder, [B, 32w, H/16, W/16]
    skip3: Tensor  # skip feature [B, decoder width, H/8, W/8]
    skip2: Tensor  # skip feature [B, decoder width, H/4, W/4]


def affinity(annotated: Tensor, target: Tensor) -> Tensor:
    """Return how much each position of an annotated frame contributes to each position of the target frame.

    The computation uses float32 even for half-precision features and under autocast, because the dot products
    reach thousands, where consecutive bfloat16 numbers are 8 to 16 apart.

    Args:
        annotated: Image feature [B, C, h, w] of an annotated frame.
        target: Image feature [B, C, h, w] of the target frame.

    Returns:
        Softmax of the dot products over the target's positions (the last dimension), [B, h w, h w]; float64
        for float64 features, else float32.
    """
    with torch.autocast(annotated.device.type, enabled=False):
        first, second = (x if x.dtype == torch.float64 else x.float() for x in (annotated, target))
        return torch.softmax(first.flatten(2).transpose(1, 2) @ second.flatten(2), dim=2)


def readout(values: Tensor, weights: Tensor) -> Tensor:
    """Transfer features [B N, D, h, w] of N objects in each of B images by affinities [B, h w, h w]."""
    per_image = values.flatten(2).unflatten(0, (len(weights), -1)).flatten(1, 2)  # [B, N D, h w]
    return (per_image @ weights.to(per_image.dtype)).view(values.shape)


def global_transfer(annotated: Tensor, objects: Tensor, target: Tensor) -> Tensor:
    """Transfer object features from the annotated frames to the target frame by the similarity of positions.

    Each position of an annotated frame distributes its object feature over the target's positions by the
    weights of :func:`affinity`. The results of the K annotated frames are averaged.

    Args:
        annotated: Image features [B, K, C, h, w] of the K annotated frames.
        objects: Object features [B N, K, D, h, w] of N objects in the annotated frames.
        target: Image feature [B, C, h, w] of the target frame.

    Returns:
        The transferred object features [B N, D, h, w].
    """
    frames = annotated.shape[1]
    moved = [readout(objects[:, k], affinity(annotated[:, k], target)) for k in range(frames)]
    return torch.stack(moved).mean(0) if frames > 1 else moved[0]


class TNet(nn.Module):
    """Transfer network (Heo et al., ECCV 2020).

    Args:
        width: Number of channels w of the encoder's stem (64 in the paper).
        depths: Number of bottleneck blocks in each encoder stage.
        decoder_width: Number of channels of the decoder (256 in the paper).
        normalize: Axis of the local transfer's softmax: the ``displacements``, as in the paper, or the
            image's ``rows``, as in the authors' released code and weights.
        use_global: False replaces the global transfer by zeros (an ablation).
        use_local: False leaves the local transfer out of the decoder (an ablation).
    """

    def __init__(
        self,
        width: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        decoder_width: int = 256,
        normalize: Normalize = "displacements",
        use_global: bool = True,
        use_local: bool = True,
    ) -> None:
        super().__init__()
        self.normalize: Normalize = normalize
        self.use_global = use_global
        self.use_local = use_local
        self.encoder = Backbone(3, width, depths)
        self.local_projection = nn.Conv2d(4 * width, 4 * width, 1)
        self.fuse = nn.Conv2d(64 * width, 32 * width, 1)  # input: image r5 and global transfer, concatenated
        self.decoder = Decoder(width, decoder_width)

    def features(self, image: Tensor) -> FrameFeatures:
        """Return the features of images, which do not depend on objects or rounds.

        Args:
            image: Normalised RGB [B, 3, H, W], H and W multiples of 32.
        """
        r2, r3, _, r5 = self.encoder(image)
        image_half = self.fuse.weight[:, : r5.shape[1]]
        return FrameFeatures(
            r5=r5,
            local=self.local_projection(r2),
            fused=F.conv2d(r5, image_half, self.fuse.bias),
            skip3=self.decoder.refine3.skip(r3),
            skip2=self.decoder.refine2.skip(r2),
        )

    def local(self, target: FrameFeatures, previous: FrameFeatures, mask: Tensor) -> Tensor:
        """Return the local transfer [B N, 1, H/4, W/4] of the previous frame's probabilities.

        Args:
            target: Features of the target frame, batch size B.
            previous: Features of the previous frame, batch size B.
            mask: Probabilities in the previous frame [B N, 1, H, W].
        """
        small = resize(mask, target.local.shape[-2:])
        per_image = small.squeeze(1).unflatten(0, (len(target.local), -1))  # [B, N, H/4, W/4]
        moved = local_transfer(target.local, previous.local, per_image, normalize=self.normalize)
        return moved.flatten(0, 1).unsqueeze(1)

    def project(self, objects: Tensor) -> Tensor:
        """Apply the object part of the 1x1 convolution before the decoder to features [..., 32w, h, w].

        This part is linear, so that it can be applied before the global transfer: once for an annotated frame
        instead of once for each target frame.
        """
        weight = self.fuse.weight[:, objects.shape[-3] :]
        return F.conv2d(objects.flatten(0, -4), weight).view(objects.shape)

    def decode(self, target: FrameFeatures, moved: Tensor, local: Tensor) -> Tensor:
        """Return the logits [B N, 1, H, W] of the target frame from the results of the two transfers.

        Args:
            target: Features of the target frame, batch size B.
            moved: Global transfer of projected object features (:meth:`project`), [B N, 32w, H/16, W/16].
            local: Local transfer of the previous frame's probabilities, [B N, 1, H/4, W/4].
        """
        fused = add_image(moved, target.fused)
        logits, _, _ = self.decoder(fused, target.skip3, target.skip2, local if self.use_local else None)
        return logits

    def forward(
        self,
        target: FrameFeatures,
        previous: FrameFeatures,
        mask: Tensor,
        annotated: Tensor,
        objects: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Propagate N objects of each of B videos to the target frame.

        The N objects of a video are consecutive in the batch of B N objects.

        Args:
            target: Features of the target frame, batch size B.
            previous: Features of the previous frame in the direction of propagation; only ``local`` is used.
            mask: Probabilities in the previous frame [B N, 1, H, W].
            annotated: Feature ``r5`` of the K annotated frames, [B, K, 32w, H/16, W/16].
            objects: A-Net's object features in the annotated frames, [B N, K, 32w, H/16, W/16].

        Returns:
            Logits [B N, 1, H, W] and the local transfer [B N, 1, H/4, W/4].
        """
        local = self.local(target, previous, mask)
        if self.use_global:
            moved = global_transfer(annotated, self.project(objects), target.r5)
        else:
            moved = torch.zeros_like(objects[:, 0])
        return self.decode(target, moved, local), local
