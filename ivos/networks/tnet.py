"""T-Net: carries masks from the annotated frames (globally) and the previous frame (locally) to a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivos.networks.backbone import Backbone
from ivos.networks.decoder import Decoder, resize
from kernels import local_transfer

Normalize = Literal["displacements", "rows"]


@dataclass(frozen=True)
class FrameFeatures:
    """Everything T-Net takes from one image alone, whatever the objects and the round (w: encoder width)."""

    r5: Tensor  # [B, 32w, H/16, W/16], matched by the global transfer
    local: Tensor  # [B, 4w, H/4, W/4], r2 projected, matched by the local transfer
    fused: Tensor  # [B, 32w, H/16, W/16], the image's half of the 1x1 convolution before the decoder
    skip3: Tensor  # [B, decoder width, H/8, W/8]
    skip2: Tensor  # [B, decoder width, H/4, W/4]


def global_transfer(annotated: Tensor, objects: Tensor, target: Tensor) -> Tensor:
    """Move object features from the annotated frames to the target frame by their similarity.

    Every annotated position spreads its object feature over the target by a softmax (over the target's
    positions) of the dot products of its image feature with theirs; the K frames are averaged.

    Args:
        annotated: image features [B or 1, K, C, h, w] of K annotated frames.
        objects: object features [B, K, D, h, w].
        target: image feature [B or 1, C, h, w].

    Returns:
        [B, D, h, w].
    """
    batch, frames, channels, height, width = objects.shape
    keys = annotated.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [b, K h w, C]
    similarity = torch.softmax(keys @ target.flatten(2), dim=2) / frames  # [b, K h w, h w]
    values = objects.permute(0, 2, 1, 3, 4).flatten(2)  # [B, D, K h w]
    if len(similarity) == 1:
        moved = values.flatten(0, 1) @ similarity[0]
    else:
        moved = values @ similarity
    return moved.view(batch, channels, height, width)


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
        """What depends on the image alone; ``image``: normalised RGB [B, 3, H, W], multiples of 32."""
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
        """Local transfer [B, 1, H/4, W/4] of the previous frame's probabilities ``mask`` [B, 1, H, W]."""
        small = resize(mask, target.local.shape[-2:])
        if len(target.local) == 1:  # one image, its objects as the masks of that image
            return local_transfer(
                target.local, previous.local, small.transpose(0, 1), normalize=self.normalize
            ).transpose(0, 1)
        return local_transfer(target.local, previous.local, small, normalize=self.normalize)

    def forward(
        self,
        target: FrameFeatures,
        previous: FrameFeatures,
        mask: Tensor,
        annotated: Tensor,
        objects: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Propagate to the target frame.

        Args:
            target: the target frame's features (batch B, or 1 for objects of one image).
            previous: features of the frame before it in the direction of propagation.
            mask: that frame's probabilities [B, 1, H, W].
            annotated: ``r5`` of the K annotated frames, [B or 1, K, 32w, H/16, W/16].
            objects: A-Net's object features on them, [B, K, 32w, H/16, W/16].

        Returns:
            logits [B, 1, H, W] and the local transfer [B, 1, H/4, W/4].
        """
        local = self.local(target, previous, mask)
        fused = target.fused
        if self.use_global:
            moved = global_transfer(annotated, objects, target.r5)
            fused = fused + F.conv2d(moved, self.fuse.weight[:, target.r5.shape[1] :])
        else:
            fused = fused.expand(len(mask), -1, -1, -1)
        logits, _ = self.decoder(fused, target.skip3, target.skip2, local if self.use_local else None)
        return logits, local
