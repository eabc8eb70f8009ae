"""T-Net, which propagates masks to a frame from the annotated frames and from its neighbour."""

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
    """Everything T-Net takes from one image alone, whatever the objects and the round (w: encoder width)."""

    r5: Tensor  # [B, 32w, H/16, W/16], matched by the global transfer
    local: Tensor  # [B, 4w, H/4, W/4], r2 projected, matched by the local transfer
    fused: Tensor  # [B, 32w, H/16, W/16], the image's half of the 1x1 convolution before the decoder
    skip3: Tensor  # [B, decoder width, H/8, W/8]
    skip2: Tensor  # [B, decoder width, H/4, W/4]


def affinity(annotated: Tensor, target: Tensor) -> Tensor:
    """Return how much each position of an annotated frame contributes to each position of the target.

    The computation is in float32 also for features of a half type and under autocast, because the dot
    products reach thousands, where consecutive numbers of bfloat16 are 8 to 16 apart.

    Args:
        annotated: image feature [B, C, h, w] of an annotated frame.
        target: image feature [B, C, h, w] of the target frame.

    Returns:
        [B, h w, h w], dot products through a softmax over the target's positions (the last dimension);
        float32, or float64 for features of that type.
    """
    with torch.autocast(annotated.device.type, enabled=False):
        first, second = (x if x.dtype == torch.float64 else x.float() for x in (annotated, target))
        return torch.softmax(first.flatten(2).transpose(1, 2) @ second.flatten(2), dim=2)


def readout(values: Tensor, weights: Tensor) -> Tensor:
    """Move features [B N, D, h, w] of the N objects on B images along a :func:`affinity` [B, h w, h w]."""
    per_image = values.flatten(2).unflatten(0, (len(weights), -1)).flatten(1, 2)  # [B, N D, h w]
    return (per_image @ weights.to(per_image.dtype)).view(values.shape)


def global_transfer(annotated: Tensor, objects: Tensor, target: Tensor) -> Tensor:
    """Move object features from the annotated frames to the target frame by their similarity.

    Every annotated position spreads its object feature over the target by a softmax (over the target's
    positions) of the dot products of its image feature with theirs; the K frames are averaged.

    Args:
        annotated: image features [B, K, C, h, w] of K annotated frames.
        objects: object features [B N, K, D, h, w] of the N objects on each of them.
        target: image feature [B, C, h, w].

    Returns:
        [B N, D, h, w].
    """
    frames = annotated.shape[1]
    moved = [readout(objects[:, k], affinity(annotated[:, k], target)) for k in range(frames)]
    return torch.stack(moved).mean(0) if frames > 1 else moved[0]


class TNet(nn.Module):
    """Transfer network (Heo et al., ECCV 2020).

    Args:
        width: channels of the encoder's stem w (64 in the paper).
        depths: bottlenecks per encoder stage.
        decoder_width: channels of the decoder (256 in the paper).
        normalize: what the local transfer's softmax runs over: the ``displacements``, as in the paper, or the
            image's ``rows``, as in the authors' released code and weights.
        use_global: False feeds the decoder zeros for the global transfer (an ablation).
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
        self.fuse = nn.Conv2d(64 * width, 32 * width, 1)  # of concat(image r5, global transfer)
        self.decoder = Decoder(width, decoder_width)

    def features(self, image: Tensor) -> FrameFeatures:
        """Return what depends on the image alone.

        Args:
            image: normalised RGB [B, 3, H, W], H and W multiples of 32.
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
            target: the target frame's features, of batch B.
            previous: features of the frame before it.
            mask: that frame's probabilities [B N, 1, H, W].
        """
        small = resize(mask, target.local.shape[-2:])
        per_image = small.squeeze(1).unflatten(0, (len(target.local), -1))  # [B, N, H/4, W/4]
        moved = local_transfer(target.local, previous.local, per_image, normalize=self.normalize)
        return moved.flatten(0, 1).unsqueeze(1)

    def project(self, objects: Tensor) -> Tensor:
        """Apply the objects' half of the 1x1 convolution before the decoder, [..., 32w, h, w] -> same.

        It is linear, so that it can be applied before the global transfer: once for an annotation instead of
        once for each frame.
        """
        weight = self.fuse.weight[:, objects.shape[-3] :]
        return F.conv2d(objects.flatten(0, -4), weight).view(objects.shape)

    def decode(self, target: FrameFeatures, moved: Tensor, local: Tensor) -> Tensor:
        """Return the logits [B N, 1, H, W] from the global transfer of projected objects and the local."""
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
        """Propagate N objects of each of B videos to the target frame; a video's objects follow each other.

        Args:
            target: the target frame's features, of batch B.
            previous: features of the frame before it in the direction of propagation, of which only
                ``local`` is used.
            mask: that frame's probabilities [B N, 1, H, W].
            annotated: ``r5`` of the K annotated frames, [B, K, 32w, H/16, W/16].
            objects: A-Net's object features on them, [B N, K, 32w, H/16, W/16].

        Returns:
            logits [B N, 1, H, W] and the local transfer [B N, 1, H/4, W/4].
        """
        local = self.local(target, previous, mask)
        if self.use_global:
            moved = global_transfer(annotated, self.project(objects), target.r5)
        else:
            moved = torch.zeros_like(objects[:, 0])
        return self.decode(target, moved, local), local
