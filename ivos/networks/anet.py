"""A-Net, which segments one frame from strokes on it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ivos.networks.backbone import Backbone, SEBottleneck
from ivos.networks.decoder import Decoder, scale_up


class Converter(nn.Module):
    """Computes the object feature that T-Net's global transfer moves, from A-Net's decoder feature and r5."""

    def __init__(self, encoder_width: int, decoder_width: int) -> None:
        super().__init__()
        w = encoder_width
        self.blocks = nn.Sequential(
            SEBottleneck(2 * decoder_width, 4 * w, stride=2, project=True),  # 1/8, 16w
            SEBottleneck(16 * w, 8 * w, stride=2, project=True),  # 1/16, 32w
        )
        self.fuse = nn.Conv2d(64 * w, 32 * w, 1)

    def forward(self, feature: Tensor, r5: Tensor) -> Tensor:
        """Map [B, 2 decoder widths, h, w] and [B, 32w, h/4, w/4] to [B, 32w, h/4, w/4]."""
        return self.fuse(torch.cat([self.blocks(feature), r5], dim=1))


class ANet(nn.Module):
    """Annotation network (Heo et al., ECCV 2020).

    Args:
        width: Number of channels w of the encoder's stem (64 in the paper).
        depths: Number of bottleneck blocks in each encoder stage.
        decoder_width: Number of channels of the decoder (256 in the paper).
    """

    def __init__(
        self, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3), decoder_width: int = 256
    ) -> None:
        super().__init__()
        self.encoder = Backbone(6, width, depths)
        self.decoder = Decoder(width, decoder_width)
        self.converter = Converter(width, decoder_width)

    def forward(self, image: Tensor, interaction: Tensor) -> tuple[Tensor, Tensor]:
        """Segment one object in each image of a batch.

        Args:
            image: Normalised RGB [B, 3, H, W], H and W multiples of 32; a batch of 1 is shared by all B
                objects.
            interaction: Previous mask, positive and negative strokes [B, 3, H, W].

        Returns:
            Logits [B, 1, H, W] and the object feature [B, 32w, H/16, W/16].
        """
        image = image.expand(interaction.shape[0], -1, -1, -1)
        pyramid = self.encoder(torch.cat([image, interaction], dim=1))
        skip3 = self.decoder.refine3.skip(pyramid.r3)
        skip2 = self.decoder.refine2.skip(pyramid.r2)
        logits, refined, context = self.decoder(pyramid.r5, skip3, skip2)
        feature = torch.cat([refined, scale_up(context, 4)], dim=1)
        return logits, self.converter(feature, pyramid.r5)
