"""Fusion of T-Net's masks with masks carried by optical flow, by OpenCV on a CPU or by PyTorch on a GPU."""

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ivos.engine.optical_flow import Floats, OpticalFlow, one_hot

# Weight of T-Net's result; the masks that optical flow carries from three frames have weights of at most 1.
_TNET_WEIGHT = 0.15


class FlowFusion(Protocol):
    """Interface for the fusion of T-Net's masks with masks carried by optical flow.

    Both are represented as layers: one map with values in [0, 1] for each object of a frame, as an array or a
    tensor, depending on the implementation.
    """

    def layers(self, labels: Tensor, num_objects: int) -> Any:
        """Convert labels uint8 [h, w] to layers."""

    def fused(self, target: int, carried: Mapping[int, Any], own: Tensor) -> Any:
        """Return the fused layers of a frame.

        Args:
            target: Index of the frame.
            carried: Layers of other frames by frame index, which optical flow carries to the target.
            own: T-Net's probabilities in the frame with a threshold of 0.5, float32 [N, h, w].
        """

    def tensor(self, layers: Any) -> Tensor:
        """Convert layers to a tensor [N, h, w]."""


def flow_fusion(flow: OpticalFlow, device: torch.device) -> FlowFusion:
    """Return the fusion for probabilities on a device."""
    return FusionByOpenCV(flow) if device.type == "cpu" else FusionByTensors(flow, device)


class FusionByOpenCV:
    """Fuses layers [h, w, N] in CPU memory.

    Args:
        flow: Optical flow of the video.
    """

    def __init__(self, flow: OpticalFlow) -> None:
        self.flow = flow

    def layers(self, labels: Tensor, num_objects: int) -> Floats:
        """Convert labels uint8 [h, w] to layers."""
        return one_hot(labels.numpy(), num_objects).astype(np.float32)

    def fused(self, target: int, carried: Mapping[int, Floats], own: Tensor) -> Floats:
        """Return the fused layers of a frame; see :meth:`FlowFusion.fused`."""
        total, weights = self.flow.carry(target, carried)
        mean = (total + _TNET_WEIGHT * own.permute(1, 2, 0).numpy()) / (weights + _TNET_WEIGHT)[..., None]
        return self.flow.refine(target, np.asarray(mean, np.float32))

    def tensor(self, layers: Floats) -> Tensor:
        """Convert layers to a tensor [N, h, w]."""
        return torch.from_numpy(layers).permute(2, 0, 1)


class FusionByTensors:
    """Fuses layers [N, h, w] on a device.

    Only the flows and the colours of frames are copied to the device, and nothing is copied back. The results
    differ from those of :class:`FusionByOpenCV` by less than 0.01, because OpenCV rounds positions to 1/32 of
    a pixel.

    Args:
        flow: Optical flow of the video.
        device: Device of the probabilities.
    """

    def __init__(self, flow: OpticalFlow, device: torch.device) -> None:
        self.flow, self.device = flow, device
        # Two alternating directions each need the colours of a target and of three reference frames.
        self._colours = functools.lru_cache(maxsize=8)(self._colours_of)

    def _colours_of(self, frame: int) -> Tensor:
        """Return a frame's colours (Lab) [3, h, w]."""
        return torch.from_numpy(self.flow.colours(frame)).to(self.device, non_blocking=True).permute(2, 0, 1)

    def layers(self, labels: Tensor, num_objects: int) -> Tensor:
        """Convert labels uint8 [h, w] to layers."""
        return (labels == torch.arange(1, num_objects + 1, device=self.device)[:, None, None]).float()

    def fused(self, target: int, carried: Mapping[int, Tensor], own: Tensor) -> Tensor:
        """Return the fused layers of a frame; see :meth:`FlowFusion.fused`."""
        total, weights = self.carry(target, carried)
        return self.refine(target, (total + _TNET_WEIGHT * own) / (weights + _TNET_WEIGHT))

    def tensor(self, layers: Tensor) -> Tensor:
        """Return the layers, which are a tensor [N, h, w] already."""
        return layers

    def carry(self, target: int, references: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Carry layers of reference frames to the target frame; see :meth:`OpticalFlow.carry`.

        Returns:
            The weighted sum of the carried layers [N, h, w], and the sum of the weights [h, w].
        """
        flow, frames = self.flow, list(references)
        pairs = [pair for frame in frames for pair in ((target, frame), (frame, target))]
        flows = torch.from_numpy(np.stack([flow.between(*pair) for pair in pairs]))
        there, back = flows.to(self.device, non_blocking=True).unflatten(0, (-1, 2)).unbind(1)  # [K, h, w, 2]
        colours = torch.stack([self._colours(frame) for frame in frames])
        layers = torch.stack([references[frame] for frame in frames])
        both = torch.cat([back.permute(0, 3, 1, 2), colours, layers], dim=1)
        returned, colour, moved = _warped(both, there).split([2, 3, layers.shape[1]], dim=1)
        mismatch = torch.linalg.vector_norm(there.permute(0, 3, 1, 2) + returned, dim=1, keepdim=True)
        difference = (colour - self._colours(target)).abs().sum(1, keepdim=True)
        doubt = _box(difference / flow.colour_scale + mismatch / flow.flow_scale, 3)
        least = torch.tensor([1e-6 / abs(target - frame) for frame in frames])
        least = least.to(self.device, non_blocking=True)  # a blocking copy would wait for pending work
        weights = torch.exp(-doubt) + least[:, None, None, None]  # [K, 1, h, w]
        return (weights * moved).sum(0), weights.sum((0, 1)) + 1e-9

    def refine(self, target: int, layers: Tensor) -> Tensor:
        """Align the outlines of layers [N, h, w] with image edges; see :meth:`OpticalFlow.refine`."""
        radius = self.flow.band
        if not radius:
            return layers
        guide = self._colours(target) / 100
        mean = _box(guide, radius)
        products = _box((guide[:, None] * guide).flatten(0, 1), radius).unflatten(0, (3, 3))
        unit = self.flow.softness * torch.eye(3, device=self.device)[..., None, None]
        inverse = _inverse(products - mean[:, None] * mean + unit)
        mean_of_layers = _box(layers, radius)
        covariance = _box((guide * layers[:, None]).flatten(0, 1), radius).unflatten(0, (-1, 3))
        covariance = covariance - mean * mean_of_layers[:, None]
        slope = (inverse * covariance[:, None]).sum(2)  # [N, 3, h, w]
        offset = mean_of_layers - (slope * mean).sum(1)
        smooth = _box(slope.flatten(0, 1), radius).unflatten(0, (-1, 3))
        return ((smooth * guide).sum(1) + _box(offset, radius)).clamp(0, 1)


def _warped(maps: Tensor, flow: Tensor) -> Tensor:
    """Warp maps [K, C, h, w] backward by flows [K, h, w, 2], which are (x, y) in pixels."""
    height, width = flow.shape[1:3]
    rows = torch.linspace(-1, 1, height, device=flow.device)
    columns = torch.linspace(-1, 1, width, device=flow.device)
    here = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    moved = torch.stack([flow[..., 0] * (2 / (width - 1)), flow[..., 1] * (2 / (height - 1))], dim=-1)
    # Clamped positions give the result of padding_mode="border", which Apple GPUs lack before PyTorch 2.13.
    return F.grid_sample(maps, (here + moved).clamp(-1, 1), align_corners=True)


def _box(maps: Tensor, radius: int) -> Tensor:
    """Apply a box filter to maps [C, h, w] or [K, C, h, w], with reflection at the borders."""
    padded = F.pad(maps, (radius,) * 4, mode="reflect")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _inverse(matrices: Tensor) -> Tensor:
    """Return the inverses of symmetric matrices [3, 3, h, w] by their adjugates."""
    first, second, third = matrices
    rows = [torch.linalg.cross(*pair, dim=0) for pair in ((second, third), (third, first), (first, second))]
    return torch.stack(rows) / (first * rows[0]).sum(0)
