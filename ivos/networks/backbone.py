"""SE-ResNet with output stride 16, the encoder of A-Net and of T-Net."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Pyramid(NamedTuple):
    """Feature maps of an encoder for images of H x W pixels; ``w`` is the encoder width (64 in the paper)."""

    r2: Tensor  # [B, 4w, H/4, W/4]
    r3: Tensor  # [B, 8w, H/8, W/8]
    r4: Tensor  # [B, 16w, H/16, W/16]
    r5: Tensor  # [B, 32w, H/16, W/16]


class SEBottleneck(nn.Module):
    """ResNet bottleneck block with squeeze-and-excitation before the residual sum.

    The expansion is 4, and the stride is applied by the 3x3 convolution.

    Args:
        in_channels: Number of input channels.
        planes: Number of channels of the 3x3 convolution; the output has 4 x planes.
        stride: Stride of the 3x3 convolution and of the shortcut.
        dilation: Dilation of the 3x3 convolution.
        project: Whether the shortcut is a 1x1 convolution with batch norm instead of the identity.
    """

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, dilation: int = 1, project: bool = False
    ) -> None:
        super().__init__()
        out_channels, squeezed = 4 * planes, max(1, planes // 4)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.squeeze = nn.Conv2d(out_channels, squeezed, 1, bias=False)
        self.excite = nn.Conv2d(squeezed, out_channels, 1, bias=False)
        self.shortcut = nn.Sequential()
        if project:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, h, w] to [B, 4 planes, h/stride, w/stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        scale = self.excite(F.relu(self.squeeze(out.mean((2, 3), keepdim=True)))).sigmoid()
        return F.relu(out * scale + self.shortcut(x))


class Backbone(nn.Module):
    """SE-ResNet encoder with stages at strides 4, 8, 16 and 16.

    The blocks of the last stage have the dilations 2, 4, 8, ... (multi-grid).

    Args:
        in_channels: Number of input channels (3 for T-Net, 6 for A-Net).
        width: Number of channels of the stem (64 in ResNet).
        depths: Number of bottleneck blocks in each stage; (3, 4, 6, 3) is ResNet-50.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        if len(depths) != 4:
            raise ValueError(f"depths: four stages are needed, got {list(depths)}")
        self.stem = nn.Conv2d(in_channels, width, 7, stride=2, padding=3)
        self.stem_bn = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        channels = width
        for index, depth in enumerate(depths):
            planes = width * 2**index
            blocks = nn.Sequential()
            for block in range(depth):
                stride = (1, 2, 2, 1)[index] if block == 0 else 1
                dilation = 2 ** (block + 1) if index == 3 else 1
                blocks.append(SEBottleneck(channels, planes, stride, dilation, project=block == 0))
                channels = 4 * planes
            self.stages.append(blocks)

    def forward(self, x: Tensor) -> Pyramid:
        """Compute the four feature maps of images [B, in_channels, H, W], H and W multiples of 16."""
        x = self.pool(F.relu(self.stem_bn(self.stem(x))))  # 1/4
        r2 = self.stages[0](x)  # 1/4
        r3 = self.stages[1](r2)  # 1/8
        r4 = self.stages[2](r3)  # 1/16
        return Pyramid(r2, r3, r4, self.stages[3](r4))
