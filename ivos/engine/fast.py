"""Layers that compute what the networks' own do, in fewer operations, for inference.

All of them are equal to what they replace up to float32 rounding (the test states how far); none of them is
meant for training.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from ivos.networks import ATNet, Backbone
from ivos.networks.backbone import SEBottleneck
from ivos.networks.decoder import Head

# Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, CVPR 2016): 36 products for 16 outputs, not 144.
_INPUT = [
    *([4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]),
    *([0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]),
]
_FILTER = [
    *([1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]),
    *([1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]),
]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
_WORKING_SET = 48 << 20  # bytes that a strip of rows may take, so that it stays in the processor's cache
_MIN_CHANNELS = 64  # below, the transforms cost more than they save


class Winograd3x3(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1 by Winograd's algorithm, for float32 on a CPU.

    The input is taken in strips of rows of 4x4 tiles; 36 matrix products per strip do the work.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        kernel = torch.tensor(_FILTER, dtype=torch.float64)
        weight = torch.einsum("ai,ocij,bj->aboc", kernel, conv.weight.double(), kernel)
        self.weight: Tensor
        self.bias: Tensor | None
        self.to_tiles: Tensor
        self.from_tiles: Tensor
        self.register_buffer("weight", weight.flatten(0, 1).to(conv.weight.dtype).contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().view(-1, 1, 1))
        for name, matrix in (("to_tiles", _INPUT), ("from_tiles", _OUTPUT)):
            square = torch.tensor(matrix, dtype=conv.weight.dtype)
            self.register_buffer(name, torch.kron(square, square))

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether this can stand for a convolution, to advantage."""
        same = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.padding_mode == "zeros"
        plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
        return same and plain and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, h, w] -> [B, out, h, w]."""
        batch, channels, height, width = x.shape
        rows, columns = -(-height // 4), -(-width // 4)
        padded = F.pad(x, (1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height))
        outputs = self.weight.shape[1]
        out = x.new_empty(batch, outputs, 4 * rows, 4 * columns)
        per_row = 36 * (channels + outputs) * columns * x.element_size()
        step = max(1, min(rows, _WORKING_SET // per_row))
        for image, result in zip(padded, out, strict=True):
            for row in range(0, rows, step):
                strip = image[:, 4 * row : 4 * (row + step) + 2]
                self._strip(strip, result[:, 4 * row : 4 * (row + step)])
        out = out[:, :, :height, :width]
        return out.contiguous() if self.bias is None else out + self.bias

    def _strip(self, strip: Tensor, result: Tensor) -> None:
        """Convolve rows [in, 4 r + 2, 4 c + 2] into [out, 4 r, 4 c]."""
        channels, height, width = strip.shape
        rows, columns = (height - 2) // 4, (width - 2) // 4
        plane, line, pixel = strip.stride()
        tiles = strip.as_strided(  # pixel i, j of every tile
            (6, 6, channels, rows, columns), (line, pixel, plane, 4 * line, 4 * pixel), strip.storage_offset()
        )
        transformed = self.to_tiles @ tiles.reshape(36, -1)
        products = torch.bmm(self.weight, transformed.view(36, channels, -1))
        pixels = (self.from_tiles @ products.view(36, -1)).view(4, 4, -1, rows, columns)
        result.view(-1, rows, 4, columns, 4).copy_(pixels.permute(2, 3, 0, 4, 1))


class SparseTaps3x3(nn.Module):
    """A dilated 3x3 convolution that keeps the size and leaves out what its padding would multiply by zero.

    With a dilation near the size of the map, that is half of the products. Each tap of the kernel is a matrix
    product over the pixels that it reaches inside the map.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight: Tensor  # [3, 3, out, in]
        self.bias: Tensor | None
        self.register_buffer("weight", conv.weight.detach().permute(2, 3, 0, 1).contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().view(-1, 1, 1))
        self.dilation = conv.dilation[0]

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether this can stand for a convolution."""
        same = conv.kernel_size == (3, 3) and conv.padding == conv.dilation and conv.padding_mode == "zeros"
        return (
            same and conv.dilation[0] == conv.dilation[1] > 1 and conv.stride == (1, 1) and conv.groups == 1
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, h, w] -> [B, out, h, w]."""
        batch, _, height, width = x.shape
        out = x.new_zeros(batch, self.weight.shape[2], height, width)
        if self.bias is not None:
            out += self.bias
        for row_weights, row in zip(self.weight, (-self.dilation, 0, self.dilation), strict=True):
            rows, to_rows = _reached(height, row), _reached(height, -row)
            for weight, column in zip(row_weights, (-self.dilation, 0, self.dilation), strict=True):
                columns, to_columns = _reached(width, column), _reached(width, -column)
                seen = x[:, :, rows, columns]
                if seen.numel():
                    product = weight @ seen.flatten(2)
                    out[:, :, to_rows, to_columns] += product.view(batch, -1, *seen.shape[2:])
        return out


def _reached(size: int, offset: int) -> slice:
    """The positions of [0, size) that lie at `offset` from another of them."""
    return slice(max(0, offset), max(0, size + min(0, offset)))


class _EnlargedConv(nn.Module):
    """A 3x3 convolution, padding 1, no bias, of an input enlarged 4 times (bilinear, aligned corners).

    Both are linear, so the channels can be mixed at the small size; then, for each row of the kernel, one
    matrix enlarges and shifts along the width, and for each column of results one along the height.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        outputs, channels = weight.shape[:2]
        self.weight: Tensor  # [ky, out, kx, in] as one matrix product over the input's channels
        self.register_buffer("weight", weight.permute(2, 0, 3, 1).reshape(9 * outputs, channels).contiguous())
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, h, w] -> [B, out, 4h, 4w]."""
        batch, _, height, width = x.shape
        across, down = (_enlarge_and_shift(size, x) for size in (width, height))  # [3 size, 4 size]
        mixed = (self.weight @ x.flatten(2)).view(batch, 3, self.outputs, 3, height, width)  # ky, out, kx
        wide = mixed.permute(0, 2, 1, 4, 3, 5).flatten(4) @ across  # [B, out, ky, h, 4w]
        return down.T @ wide.flatten(2, 3)  # rows of (ky, h)


def _enlarge_and_shift(size: int, like: Tensor) -> Tensor:
    """[3 size, 4 size]: for each of the taps -1, 0, 1 the enlarging matrix, shifted by it, zero outside."""
    unit = torch.eye(size, device=like.device, dtype=like.dtype)
    enlarge = F.interpolate(unit[None], 4 * size, mode="linear", align_corners=True)[0]
    padded = F.pad(enlarge, (1, 1))
    return torch.cat([padded[:, tap : tap + 4 * size] for tap in range(3)])


class _SplitHead(nn.Module):
    """A :class:`Head` with its first convolution in two: over the refined feature and over the ASPP's.

    The second, which is linear, works at the ASPP's small size.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        first = head[0]
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None  # the batch norm's, folded in
        weight, width = first.weight.detach(), first.in_channels // 2
        self.refined = nn.Conv2d(width, first.out_channels, 3, padding=1)
        self.refined.weight = nn.Parameter(weight[:, :width], requires_grad=False)
        self.refined.bias = nn.Parameter(first.bias.detach(), requires_grad=False)
        self.pyramid = _EnlargedConv(weight[:, width:])
        self.rest = nn.Sequential(*list(head)[1:])

    def forward(self, refined: Tensor, pyramid: Tensor) -> Tensor:
        return self.rest(self.refined(refined) + self.pyramid(pyramid))


def fold_batch_norm(network: nn.Module) -> None:
    """Take every batch norm into the convolution before it, in place; the network must be in eval mode."""
    for module in list(network.modules()):
        if isinstance(module, SEBottleneck):
            pairs = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")]
        elif isinstance(module, Backbone):
            pairs = [("stem", "stem_bn")]
        elif isinstance(module, nn.Sequential):
            names = [name for name, _ in module.named_children()]
            pairs = [
                (a, b)
                for a, b in pairwise(names)
                if isinstance(module.get_submodule(a), nn.Conv2d)
                and isinstance(module.get_submodule(b), nn.BatchNorm2d)
            ]
        else:
            continue
        for conv, norm in pairs:
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())


def compose_projection(network: ATNet) -> None:
    """Let A-Net's last layer give its object features projected for T-Net's decoder, in place.

    The two are 1x1 convolutions, one after the other; :meth:`TNet.project` is then not to be called.
    """
    fuse, project = network.anet.converter.fuse, network.tnet.fuse.weight
    assert fuse.bias is not None
    second = project[:, -fuse.out_channels :, 0, 0].double()
    fuse.weight.copy_((second @ fuse.weight[:, :, 0, 0].double())[:, :, None, None])
    fuse.bias.copy_(second @ fuse.bias.double())


@torch.no_grad()
def fast_copy(network: ATNet, winograd: bool) -> ATNet:
    """A copy for inference, whose A-Net gives the object features projected (:func:`compose_projection`).

    Batch norms are folded, the heads split; on request 3x3 convolutions run by Winograd's algorithm, or,
    where they are dilated, without the taps on their padding.
    """
    fast = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norm(fast)
    compose_projection(fast)
    for part in (fast.anet, fast.tnet):
        part.decoder.head = _SplitHead(part.decoder.head)  # type: ignore[assignment]
    if winograd:
        for module in list(fast.modules()):
            for name, child in list(module.named_children()):
                for fewer in (Winograd3x3, SparseTaps3x3):
                    if isinstance(child, nn.Conv2d) and fewer.fits(child):
                        setattr(module, name, fewer(child))
    return fast
