"""Inference layers that replace layers of the networks and need fewer operations.

Each replacement gives the same results up to float32 rounding; the tests state the tolerances. The layers are
not meant for training.
"""

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

from ivos.kernels.registration import register_operator
from ivos.networks import ATNet, Backbone
from ivos.networks.backbone import SEBottleneck
from ivos.networks.decoder import Head

_MIN_PRODUCTS = 128 * 128  # input times output channels below which Winograd's transforms do not pay off
_SHEET = 20_000  # input pixels of small maps that are convolved together
_SHEET_PER_TAP = 3  # cost of one pixel computed by nine matrix products, in pixels of a sheet


def has_nnpack() -> bool:
    """Return whether PyTorch was built with NNPACK, and initialise it."""
    return bool(torch.backends.nnpack.is_available())  # type: ignore[no-untyped-call]


def _nnpack_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch._nnpack_spatial_convolution(x, weight, bias, 1)


def _fake_nnpack_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(len(x), len(weight), *x.shape[2:])


_winograd3x3 = register_operator("winograd3x3", _nnpack_convolution, _fake_nnpack_convolution)


class Winograd3x3(nn.Module):
    """Winograd implementation of a 3x3 convolution with stride 1 and "same" padding, for float32 on a CPU.

    The algorithm F(6x6, 3x3) (Lavin and Gray, CVPR 2016) needs 64 products for 36 outputs instead of 324. Its
    implementation is NNPACK's, which PyTorch contains but does not select for its convolutions. A convolution
    with dilation d equals d x d convolutions of the maps of every d-th pixel. These maps, and small maps of a
    batch, are arranged on one large map (a sheet) with zeros between them. If the dilation is close to the
    size of the map, nine matrix products are computed instead, one for each kernel tap, over those pixels
    that the tap reaches inside the map.

    Args:
        conv: The convolution to replace; see :meth:`fits`.

    Raises:
        RuntimeError: PyTorch was built without NNPACK.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if not has_nnpack():
            raise RuntimeError("this PyTorch has no NNPACK")
        weight, bias = conv.weight.detach().contiguous(), conv.bias
        self.weight: Tensor  # [out, in, 3, 3]
        self.bias: Tensor
        self.taps: Tensor | None  # the weight as [3, 3, out, in]
        self.register_buffer("weight", weight)
        self.register_buffer("bias", weight.new_zeros(len(weight)) if bias is None else bias.detach())
        self.dilation = conv.dilation[0]
        dilated = self.dilation > 1
        self.register_buffer("taps", weight.permute(2, 3, 0, 1).contiguous() if dilated else None)

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Return whether this layer can replace a convolution and is expected to be faster."""
        same = conv.kernel_size == (3, 3) and conv.padding == conv.dilation and conv.padding_mode == "zeros"
        plain = conv.stride == (1, 1) and conv.dilation[0] == conv.dilation[1] and conv.groups == 1
        return same and plain and conv.in_channels * conv.out_channels >= _MIN_PRODUCTS

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [B, in, h, w] to [B, out, h, w]."""
        d, (height, width) = self.dilation, x.shape[2:]
        on_sheet = d * d * (-(-height // d) + 1) * (-(-width // d) + 1)
        reached = (height + 2 * max(0, height - d)) * (width + 2 * max(0, width - d)) / 9  # mean of the taps
        if d > 1 and on_sheet > _SHEET_PER_TAP * reached:
            return self._by_taps(x)
        sheets = [self._by_sheet(images) for images in x.split(max(1, _SHEET // on_sheet))]
        return torch.cat(sheets) if len(sheets) > 1 else sheets[0]

    def _by_sheet(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        d = self.dilation
        if batch == d == 1:
            return _winograd3x3(x.contiguous(), self.weight, self.bias)
        rows, columns = -(-height // d), -(-width // d)  # size of each of the d x d maps
        whole = F.pad(x, (0, columns * d - width, 0, rows * d - height))
        maps = whole.view(batch, channels, rows, d, columns, d).permute(1, 0, 3, 2, 5, 4)
        sheet = x.new_zeros(channels, batch, d, rows + 1, d, columns + 1)
        sheet[..., :rows, :, :columns] = maps
        size = (batch * d * (rows + 1), d * (columns + 1))
        out = _winograd3x3(sheet.view(1, channels, *size), self.weight, self.bias)
        maps = out.view(-1, batch, d, rows + 1, d, columns + 1)[..., :rows, :, :columns]
        return maps.permute(1, 0, 3, 2, 5, 4).reshape(batch, -1, rows * d, columns * d)[..., :height, :width]

    def _by_taps(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        out = self.bias.view(-1, 1, 1).expand(batch, -1, height, width).clone()
        assert self.taps is not None
        for row_taps, row in zip(self.taps, (-self.dilation, 0, self.dilation), strict=True):
            rows, to_rows = _reached(height, row), _reached(height, -row)
            for tap, column in zip(row_taps, (-self.dilation, 0, self.dilation), strict=True):
                columns, to_columns = _reached(width, column), _reached(width, -column)
                seen = x[:, :, rows, columns]
                if seen.numel():
                    product = tap @ seen.flatten(2)
                    out[:, :, to_rows, to_columns] += product.view(batch, -1, *seen.shape[2:])
        return out


def _reached(size: int, offset: int) -> slice:
    """Return the positions of [0, size) that lie at `offset` from another position."""
    return slice(max(0, offset), max(0, size + min(0, offset)))


class _EnlargedConv(nn.Module):
    """Bilinear 4x enlargement (``align_corners=True``) followed by a 3x3 convolution (padding 1, no bias).

    Both operations are linear, so that the channels are mixed at the small size. Then one matrix product
    enlarges and shifts along the width, and another along the height.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        outputs, channels = weight.shape[:2]
        self.weight: Tensor  # [ky, out, kx, in] as a matrix over the input channels
        self.register_buffer("weight", weight.permute(2, 0, 3, 1).reshape(9 * outputs, channels).contiguous())
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge and convolve [B, in, h, w] to [B, out, 4h, 4w]."""
        batch, _, height, width = x.shape
        across, down = (_enlarge_and_shift(size, x) for size in (width, height))  # [3 size, 4 size]
        mixed = (self.weight @ x.flatten(2)).view(batch, 3, self.outputs, 3, height, width)  # ky, out, kx
        wide = mixed.permute(0, 2, 1, 4, 3, 5).flatten(4) @ across  # [B, out, ky, h, 4w]
        return down.T @ wide.flatten(2, 3)  # rows of (ky, h)


def _enlarge_and_shift(size: int, like: Tensor) -> Tensor:
    """Return the interpolation matrix, shifted by each of the taps -1, 0 and 1, [3 size, 4 size]."""
    unit = torch.eye(size, device=like.device, dtype=like.dtype)
    enlarge = F.interpolate(unit[None], 4 * size, mode="linear", align_corners=True)[0]
    padded = F.pad(enlarge, (1, 1))
    return torch.cat([padded[:, tap : tap + 4 * size] for tap in range(3)])


class _SplitHead(nn.Module):
    """:class:`Head` with its first convolution split into one for the refined and one for the ASPP feature.

    The convolution of the ASPP feature runs at the ASPP's size before the enlargement.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        first = head[0]
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None  # from the folded batch norm
        weight, width = first.weight.detach(), first.in_channels // 2
        self.refined = nn.Conv2d(width, first.out_channels, 3, padding=1)
        self.refined.weight = nn.Parameter(weight[:, :width], requires_grad=False)
        self.refined.bias = nn.Parameter(first.bias.detach(), requires_grad=False)
        self.pyramid = _EnlargedConv(weight[:, width:])
        self.rest = nn.Sequential(*list(head)[1:])

    def forward(self, refined: Tensor, pyramid: Tensor) -> Tensor:
        return self.rest(self.refined(refined) + self.pyramid(pyramid))


def fold_batch_norm(network: nn.Module) -> None:
    """Fold every batch norm into the preceding convolution, in place; the network must be in eval mode.

    SyncBatchNorm layers are folded as well.
    """
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
                and isinstance(module.get_submodule(b), _BatchNorm)
            ]
        else:
            continue
        for conv, norm in pairs:
            setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())


def compose_projection(network: ATNet) -> None:
    """Merge T-Net's projection of object features into A-Net's last layer, in place.

    Both are consecutive 1x1 convolutions. :meth:`ivos.networks.tnet.TNet.project` must not be called
    afterwards.
    """
    fuse, project = network.anet.converter.fuse, network.tnet.fuse.weight
    assert fuse.bias is not None
    second = project[:, -fuse.out_channels :, 0, 0].double()
    fuse.weight.copy_((second @ fuse.weight[:, :, 0, 0].double())[:, :, None, None])
    fuse.bias.copy_(second @ fuse.bias.double())


@torch.no_grad()
def fast_copy(network: ATNet, winograd: bool, dtype: torch.dtype = torch.float32) -> ATNet:
    """Return a copy of a network for inference, with folded batch norms and split heads.

    A-Net of the copy returns projected object features (:func:`compose_projection`). The conversion runs on
    the CPU, because Apple's GPUs have no float64; the copy is then moved to the network's device.

    Args:
        network: The network to copy.
        winograd: Whether 3x3 convolutions use Winograd's algorithm (:class:`Winograd3x3`).
        dtype: Data type of the weights. With a half type the copy still has to run under autocast, which
            casts the activations; the weights are cast only once.
    """
    device = network.mean.device
    fast = copy.deepcopy(network)
    fast = (fast if device.type == "cpu" else fast.cpu()).eval().requires_grad_(False)
    fold_batch_norm(fast)
    compose_projection(fast)
    for part in (fast.anet, fast.tnet):
        part.decoder.head = _SplitHead(part.decoder.head)  # type: ignore[assignment]
    if winograd:
        for module in list(fast.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Conv2d) and Winograd3x3.fits(child):
                    setattr(module, name, Winograd3x3(child))
    if dtype != torch.float32:
        fast.anet.to(dtype)
        fast.tnet.to(dtype)
    return fast.to(device)
