"""The parts of the networks that a session runs, each with named inputs and outputs of dynamic sizes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ivos.engine.fused_layers import compose_projection, fold_batch_norm
from ivos.engine.memory_runner import ANNOTATED
from ivos.engine.thresholding import THRESHOLD, centred
from ivos.export.transfers import local_transfer, read
from ivos.networks import ATNet, MemoryATNet
from ivos.networks.decoder import add_image, resize
from ivos.networks.memory import (
    LOG_ODDS,
    RECENT,
    MemoryFeatures,
    others_of,
    stroke_map,
    twice_as_large,
)

# Size of the frame in units of 16 pixels.
_H, _W = Dim("height", min=1, max=1024), Dim("width", min=1, max=1024)
_N = Dim("objects", min=1, max=254)
_K = Dim("frames", min=1, max=4096)
_M = Dim("pixels", min=1, max=2**22)
_EXAMPLE = {_H: 6, _W: 4, _N: 3, _K: 4, _M: 5}


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        module: Module that computes the outputs, one tensor or several.
        inputs: Shapes of the inputs by name. Each size is a number, a dimension of torch.export, or a pair of
            such a dimension and its factor.
        outputs: Names of the outputs.
        whole: Names of the integer inputs; all other inputs are float32.
    """

    module: nn.Module
    inputs: Mapping[str, tuple[Any, ...]]
    outputs: tuple[str, ...]
    whole: tuple[str, ...] = ()

    def example(self, sizes: Mapping[Any, int] = _EXAMPLE) -> dict[str, Tensor]:
        """Return example inputs for the given sizes of the dimensions."""
        made = {}
        for name, shape in self.inputs.items():
            size = [one if isinstance(one, int) else _factor(one) * sizes[_root(one)] for one in shape]
            made[name] = torch.arange(size[0]) if name in self.whole else torch.rand(size)
        return made

    def other_example(self) -> dict[str, Tensor]:
        """Return example inputs of other sizes than :meth:`example` returns by default."""
        return self.example({_H: 3, _W: 8, _N: 1, _K: 1, _M: 7})

    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """Return the dynamic dimensions of each input, by axis, for torch.export."""
        return {
            name: {
                index: _factor(one) * _root(one) if _factor(one) > 1 else _root(one)
                for index, one in enumerate(shape)
                if not isinstance(one, int)
            }
            for name, shape in self.inputs.items()
        }


def _root(size: Any) -> Any:
    return size[0] if isinstance(size, tuple) else size


def _factor(size: Any) -> int:
    return size[1] if isinstance(size, tuple) else 1


def _map(channels: int, stride: int) -> tuple[Any, ...]:
    """Return the shape [channels, H / stride, W / stride] of a feature map."""
    return channels, (_H, 16 // stride), (_W, 16 // stride)


def parts_of(network: ATNet) -> dict[str, Part]:
    """Return the parts of a network by name, with copies of its weights prepared for inference."""
    copied = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    found = _memory_parts(copied) if isinstance(copied, MemoryATNet) else _paper_parts(copied)
    for part in found.values():
        part.module.eval()
    return found


def description(network: ATNet) -> dict[str, Any]:
    """Return the properties of a network that a program needs besides the exported parts."""
    found = {
        "transfer": "memory" if isinstance(network, MemoryATNet) else "paper",
        "mean": list(network.MEAN),
        "std": list(network.STD),
        "threshold": THRESHOLD,
        "negatives_everywhere": network.negatives_everywhere,
        "short_side": network.short_side,
        "flow": network.flow,
    }
    return found | ({"annotated": ANNOTATED, "recent": RECENT} if found["transfer"] == "memory" else {})


def _paper_parts(network: ATNet) -> dict[str, Part]:
    with torch.no_grad():
        fold_batch_norm(network)
        compose_projection(network)
    width, decoder = network.config["width"], network.config["decoder_width"]
    deep, local = _map(32 * width, 16), _map(4 * width, 4)
    skips = {"skip3": (1, *_map(decoder, 8)), "skip2": (1, *_map(decoder, 4))}
    names = ("r5", "local", "fused", "skip3", "skip2")
    anet = {"image": (1, *_map(3, 1)), "interaction": (_N, *_map(3, 1))}
    transfer = {"annotated": (_K, *deep), "objects": (_K, _N, *deep), "target": (1, *deep)}
    moving = {"target": (1, *local), "previous": (1, *local), "mask": (_N, *_map(1, 1))}
    decoding = {"fused": (1, *deep), "moved": (_N, *deep), **skips, "moved_mask": (_N, *_map(1, 4))}
    return {
        "anet": Part(_ANet(network), anet, ("probability", "objects")),
        "features": Part(_Features(network), {"image": (1, *_map(3, 1))}, names),
        "global_transfer": Part(_GlobalTransfer(network), transfer, ("moved",)),
        "local_transfer": Part(_LocalTransfer(network), moving, ("moved_mask",)),
        "decoder": Part(_Decoder(network), decoding, ("probability",)),
    }


class _ANet(nn.Module):
    def __init__(self, network: ATNet) -> None:
        super().__init__()
        self.anet = network.anet

    def forward(self, image: Tensor, interaction: Tensor) -> tuple[Tensor, Tensor]:
        logits, objects = self.anet(image, interaction)
        return logits.sigmoid(), objects


class _Features(nn.Module):
    def __init__(self, network: ATNet) -> None:
        super().__init__()
        self.tnet = network.tnet

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(vars(self.tnet.features(image)).values())


class _GlobalTransfer(nn.Module):
    def __init__(self, network: ATNet) -> None:
        super().__init__()
        self.used = network.tnet.use_global

    def forward(self, annotated: Tensor, objects: Tensor, target: Tensor) -> Tensor:
        if not self.used:
            return torch.zeros_like(objects[0])
        weights = (annotated.flatten(2).transpose(1, 2) @ target.flatten(2)).softmax(2)  # [K, h w, h w]
        moved = objects.flatten(3).flatten(1, 2) @ weights  # [K, N D, h w]
        return moved.mean(0).unflatten(1, objects.shape[3:]).unflatten(0, objects.shape[1:3])


class _LocalTransfer(nn.Module):
    def __init__(self, network: ATNet) -> None:
        super().__init__()
        self.normalize = network.tnet.normalize

    def forward(self, target: Tensor, previous: Tensor, mask: Tensor) -> Tensor:
        return local_transfer(target, previous, resize(mask, target.shape[-2:]), self.normalize)


class _Decoder(nn.Module):
    def __init__(self, network: ATNet) -> None:
        super().__init__()
        self.decoder, self.use_local = network.tnet.decoder, network.tnet.use_local

    def forward(
        self, fused: Tensor, moved: Tensor, skip3: Tensor, skip2: Tensor, moved_mask: Tensor
    ) -> Tensor:
        local = moved_mask if self.use_local else None
        logits: Tensor = self.decoder(add_image(moved, fused), skip3, skip2, local)[0]
        return logits.sigmoid()


_PYRAMID = ("half", "quarter", "eighth", "sixteenth")


def _memory_parts(network: MemoryATNet) -> dict[str, Part]:
    fix_padding(network.encoder)
    channels = network.encoder.channels
    sizes = zip(_PYRAMID, channels, (2, 4, 8, 16), strict=True)
    pyramid = {name: (1, *_map(count, stride)) for name, count, stride in sizes}
    with torch.no_grad():
        features = network.features(torch.zeros(1, 3, 32, 32))
    key, local = _map(features.key.shape[1], 8), _map(features.local.shape[1], 4)
    mask = _map(1, 1)
    values = network.tnet.value_out.out_channels + 4
    found = _map(values + 1, 8)
    strokes = {"key": (1, *key), "pixels": (_M,)}
    remembering = {"eighth": pyramid["eighth"], "sixteenth": pyramid["sixteenth"], "mask": (_N, *mask)}
    reading = {"target": (1, *key), "keys": (_K, *key), "values": (_K, _N, *_map(values, 8))}
    moving = {"target": (1, *local), "previous": (1, *local), "mask": (_N, *mask)}
    decoding = {"read": (_N, *found), "read_annotated": (_N, *found), "moved_mask": (_N, *_map(1, 4))}
    anet = {"interaction": (_N, *_map(3, 1)), "stroke_maps": (_N, *_map(8, 8))}
    return {
        "features": Part(_MemoryFeatures(network), {"image": (1, *_map(3, 1))}, ("key", "local", *_PYRAMID)),
        "stroke_map": Part(_StrokeMap(), strokes, ("stroke_map",), whole=("pixels",)),
        "anet": Part(_MemoryANet(network), {**pyramid, **anet}, ("probability",)),
        "remember": Part(_Remember(network), remembering, ("values",)),
        "read": Part(_Read(), reading, ("read",)),
        "local_transfer": Part(_MemoryLocalTransfer(), moving, ("moved_mask",)),
        "decoder": Part(_MemoryDecoder(network), {**pyramid, **decoding}, ("probability",)),
    }


def fix_padding(encoder: nn.Module) -> None:
    """Replace convolutions whose padding depends on the input's size by ones with fixed padding, in place.

    Models of timm that were converted from TensorFlow contain such convolutions. Their padding is the same
    for every size that is divisible by the convolution's stride, as all sizes in the encoder are.
    """
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "Conv2dSame" and isinstance(child, nn.Conv2d):
                setattr(module, name, _PaddedConv(child))


class _PaddedConv(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        rows, columns = (
            max(0, (kernel - 1) * dilation + 1 - stride)
            for kernel, dilation, stride in zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        )
        self.sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, self.sides)
        return F.conv2d(
            padded, self.weight, self.bias, self.stride, dilation=self.dilation, groups=self.groups
        )


def _half(mask: Tensor) -> Tensor:
    """Convert probabilities [N, 1, H, W] from the threshold 0.8 to the threshold 0.5, at half the size."""
    return F.avg_pool2d(centred(mask), 2)


def _whole(logits: Tensor) -> Tensor:
    """Return probabilities [N, 1, H, W], for the threshold 0.8, from logits at half the size."""
    return (twice_as_large(logits) + LOG_ODDS).sigmoid()


def _of_pyramid(*pyramid: Tensor) -> MemoryFeatures:
    """Return features made of the encoder's feature maps; the fields `key` and `local` are not used."""
    return MemoryFeatures(pyramid[0], pyramid[0], *pyramid)


class _MemoryFeatures(nn.Module):
    def __init__(self, network: MemoryATNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(vars(self.network.features(image)).values())


class _StrokeMap(nn.Module):
    def forward(self, key: Tensor, pixels: Tensor) -> Tensor:
        return stroke_map(key[0], pixels)


class _MemoryANet(nn.Module):
    def __init__(self, network: MemoryATNet) -> None:
        super().__init__()
        self.anet = network.anet

    def forward(
        self,
        half: Tensor,
        quarter: Tensor,
        eighth: Tensor,
        sixteenth: Tensor,
        interaction: Tensor,
        stroke_maps: Tensor,
    ) -> Tensor:
        features = _of_pyramid(half, quarter, eighth, sixteenth)
        return _whole(self.anet.decode(features, interaction, stroke_maps))


class _Remember(nn.Module):
    def __init__(self, network: MemoryATNet) -> None:
        super().__init__()
        self.tnet = network.tnet

    def forward(self, eighth: Tensor, sixteenth: Tensor, mask: Tensor) -> Tensor:
        half = _half(mask)
        features = _of_pyramid(eighth, eighth, eighth, sixteenth)
        return self.tnet.remember(features, half, others_of(half, 1)).values()


class _Read(nn.Module):
    def forward(self, target: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return read(target, keys, values)


class _MemoryLocalTransfer(nn.Module):
    def forward(self, target: Tensor, previous: Tensor, mask: Tensor) -> Tensor:
        return local_transfer(target, previous, F.avg_pool2d(_half(mask), 2), "displacements")


class _MemoryDecoder(nn.Module):
    def __init__(self, network: MemoryATNet) -> None:
        super().__init__()
        self.tnet = network.tnet

    def forward(
        self,
        half: Tensor,
        quarter: Tensor,
        eighth: Tensor,
        sixteenth: Tensor,
        read: Tensor,
        read_annotated: Tensor,
        moved_mask: Tensor,
    ) -> Tensor:
        features = _of_pyramid(half, quarter, eighth, sixteenth)
        return _whole(self.tnet.decode(features, read, read_annotated, moved_mask)[0])
