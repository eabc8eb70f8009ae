"""The decoder of A-Net and T-Net: ASPP and a refinement by skip connections."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly to (height, width) with ``align_corners=True``."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def scale_up(x: Tensor, factor: int) -> Tensor:
    """Enlarge bilinearly by a whole factor with ``align_corners=True``."""
    return resize(x, (x.shape[-2] * factor, x.shape[-1] * factor))


def add_image(x: Tensor, image: Tensor) -> Tensor:
    """Add features of B images [B, ...] to the features of the N objects in each of them [B N, ...].

    The N objects of an image are consecutive in ``x``.
    """
    return (x.unflatten(0, (image.shape[0], -1)) + image[:, None]).flatten(0, 1)


def _conv3x3(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


def _conv_bn(in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017).

    The branches are a 1x1 convolution, three dilated 3x3 convolutions and global average pooling.
    """

    def __init__(self, in_channels: int, width: int, rates: Sequence[int] = (6, 12, 18)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_conv_bn(in_channels, width)] + [_conv_bn(in_channels, width, 3, rate) for rate in rates]
        )
        self.image_pool = _conv_bn(in_channels, width)
        self.project = nn.Sequential(*_conv_bn((len(rates) + 2) * width, width), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, h, w] to [B, width, h, w]."""
        pooled = self.image_pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.project(torch.cat([branch(x) for branch in self.branches] + [pooled], dim=1))


class Refine(nn.Module):
    """Residual refinement of a coarse feature map by an encoder feature of twice its size.

    :meth:`skip` depends on the encoder feature alone, so that it runs once for all objects in an image;
    :meth:`forward` runs for each object.
    """

    def __init__(self, skip_channels: int, width: int) -> None:
        super().__init__()
        self.skip_in = _conv3x3(skip_channels, width)
        self.skip1 = _conv3x3(width, width)
        self.skip2 = _conv3x3(width, width)
        self.merge1 = _conv3x3(width, width)
        self.merge2 = _conv3x3(width, width)

    def skip(self, feature: Tensor) -> Tensor:
        """Map an encoder feature [B, skip_channels, h, w] to [B, width, h, w]."""
        s = self.skip_in(feature)
        return s + self.skip2(F.relu(self.skip1(F.relu(s))))

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Map ``skip`` [B, width, h, w] and ``coarse`` [B N, width, h/2, w/2] to [B N, width, h, w]."""
        m = add_image(scale_up(coarse, 2), skip)
        return m + self.merge2(F.relu(self.merge1(F.relu(m))))


class Head(nn.Sequential):
    """Prediction of logits at stride 4 from the refined feature and the ASPP feature.

    Both features have ``width`` channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            *(_conv3x3(2 * width, width, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5)),
            *(_conv3x3(width, width, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1)),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, refined: Tensor, pyramid: Tensor) -> Tensor:  # type: ignore[override]
        """Map ``refined`` [B, width, h, w] and ``pyramid`` [B, width, h/4, w/4] to [B, 1, h, w]."""
        return super().forward(torch.cat([refined, scale_up(pyramid, 4)], dim=1))


class Decoder(nn.Module):
    """Decoder from the deepest encoder feature and two skip features to logits at the image's size.

    Args:
        encoder_width: The encoder's ``width`` w; r5 has 32w channels, r3 has 8w and r2 has 4w.
        width: Number of channels of the decoder (256 in the paper).
    """

    def __init__(self, encoder_width: int = 64, width: int = 256) -> None:
        super().__init__()
        self.aspp = ASPP(32 * encoder_width, width)
        self.reduce = nn.ModuleList(
            [_conv3x3(32 * encoder_width, width), _conv3x3(width, width), _conv3x3(width, width)]
        )
        self.refine3 = Refine(8 * encoder_width, width)
        self.refine2 = Refine(4 * encoder_width, width)
        self.head = Head(width)

    def forward(
        self, r5: Tensor, skip3: Tensor, skip2: Tensor, local: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode N objects in each of B images.

        Args:
            r5: Feature of each object at stride 16, [B N, 32w, h, w].
            skip3: Output of ``refine3.skip`` for r3, [B, width, 2h, 2w].
            skip2: Output of ``refine2.skip`` for r2, [B, width, 4h, 4w].
            local: T-Net's local transfer [B N, 1, 4h, 4w]; None in A-Net.

        Returns:
            Logits [B N, 1, 16h, 16w], and the inputs of the head: the refined feature [B N, width, 4h, 4w]
            and the ASPP feature [B N, width, h, w].
        """
        m = r5
        for conv in self.reduce:
            m = conv(F.relu(m))
        m = self.refine3(skip3, m)  # 1/8
        if local is not None:
            m = m + 0.5 * resize(local, m.shape[-2:])
        m = self.refine2(skip2, m)  # 1/4
        if local is not None:
            m = m + 0.5 * local
        pyramid = self.aspp(r5)
        return scale_up(self.head(m, pyramid), 4), m, pyramid
