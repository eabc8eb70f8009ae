"""The masks of T-Net fused with those that optical flow carries: by OpenCV on a CPU, as tensors on a GPU."""

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ivos.engine.optical_flow import Floats, OpticalFlow, one_hot

# The weight of T-Net's result beside what the optical flow carries from three frames, each of at most one.
_TNET_WEIGHT = 0.15


class FlowFusion(Protocol):
    """Fuses layers: values in [0, 1] of each object and pixel of a frame, in a form of its own."""

    def layers(self, labels: Tensor, num_objects: int) -> Any:
        """Return labels uint8 [h, w] as layers."""

    def fused(self, target: int, carried: Mapping[int, Any], own: Tensor) -> Any:
        """Return the layers of a frame.

        Args:
            target: the frame.
            carried: the layers of the frames from which optical flow carries them.
            own: T-Net's probabilities in the frame, even at a half, float32 [N, h, w].
        """

    def tensor(self, layers: Any) -> Tensor:
        """Return layers as a tensor [N, h, w]."""


def flow_fusion(flow: OpticalFlow, device: torch.device) -> FlowFusion:
    """Return the fusion for probabilities on a device."""
    return FusionByOpenCV(flow) if device.type == "cpu" else FusionByTensors(flow, device)


class FusionByOpenCV:
    """Fuses layers [h, w, N] in CPU memory.

    Args:
        flow: of the video.
    """

    def __init__(self, flow: OpticalFlow) -> None:
        self.flow = flow

    def layers(self, labels: Tensor, num_objects: int) -> Floats:
        """Return labels uint8 [h, w] as layers."""
        return one_hot(labels.numpy(), num_objects).astype(np.float32)

    def fused(self, target: int, carried: Mapping[int, Floats], own: Tensor) -> Floats:
        """Return the layers of a frame; see :meth:`FlowFusion.fused`."""
        total, weights = self.flow.carry(target, carried)
        mean = (total + _TNET_WEIGHT * own.permute(1, 2, 0).numpy()) / (weights + _TNET_WEIGHT)[..., None]
        return self.flow.refine(target, np.asarray(mean, np.float32))

    def tensor(self, layers: Floats) -> Tensor:
        """Return layers as a tensor [N, h, w]."""
        return torch.from_numpy(layers).permute(2, 0, 1)


class FusionByTensors:
    """Fuses layers [N, h, w] on a device: only flows and colours of the frames go there, nothing comes back.

    The results differ from OpenCV's by less than a hundredth, because OpenCV rounds positions to 1/32 of a
    pixel.

    Args:
        flow: of the video.
        device: where probabilities are.
    """

    def __init__(self, flow: OpticalFlow, device: torch.device) -> None:
        self.flow, self.device = flow, device
        # A step asks for those of its target and of three references; two directions take turns.
        self._colours = functools.lru_cache(maxsize=8)(self._colours_of)

    def _colours_of(self, frame: int) -> Tensor:
        """Return a frame's colours (Lab) [3, h, w]."""
        return torch.from_numpy(self.flow.colours(frame)).to(self.device, non_blocking=True).permute(2, 0, 1)

    def layers(self, labels: Tensor, num_objects: int) -> Tensor:
        """Return labels uint8 [h, w] as layers."""
        return (labels == torch.arange(1, num_objects + 1, device=self.device)[:, None, None]).float()

    def fused(self, target: int, carried: Mapping[int, Tensor], own: Tensor) -> Tensor:
        """Return the layers of a frame; see :meth:`FlowFusion.fused`."""
        total, weights = self.carry(target, carried)
        return self.refine(target, (total + _TNET_WEIGHT * own) / (weights + _TNET_WEIGHT))

    def tensor(self, layers: Tensor) -> Tensor:
        """Return layers as a tensor [N, h, w]."""
        return layers

    def carry(self, target: int, references: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the references' layers are in the target; see :meth:`OpticalFlow.carry`.

        Returns:
            the weighted sum [N, h, w], and the sum of the weights [h, w].
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
        least = least.to(self.device, non_blocking=True)  # a blocking copy would wait for the device
        weights = torch.exp(-doubt) + least[:, None, None, None]  # [K, 1, h, w]
        return (weights * moved).sum(0), weights.sum((0, 1)) + 1e-9

    def refine(self, target: int, layers: Tensor) -> Tensor:
        """Draw the outlines of layers [N, h, w] to the edges of the image; see :meth:`OpticalFlow.refine`."""
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
    """Return what is at the flow's end: of maps [K, C, h, w] along flows [K, h, w, 2] (x, y) in pixels."""
    height, width = flow.shape[1:3]
    rows = torch.linspace(-1, 1, height, device=flow.device)
    columns = torch.linspace(-1, 1, width, device=flow.device)
    here = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    moved = torch.stack([flow[..., 0] * (2 / (width - 1)), flow[..., 1] * (2 / (height - 1))], dim=-1)
    return F.grid_sample(maps, here + moved, padding_mode="border", align_corners=True)


def _box(maps: Tensor, radius: int) -> Tensor:
    """Return means of maps [C, h, w] or [K, C, h, w] over squares, the frame reflected at its edges."""
    padded = F.pad(maps, (radius,) * 4, mode="reflect")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _inverse(matrices: Tensor) -> Tensor:
    """Return the inverses of symmetric matrices [3, 3, h, w] by their adjugates."""
    first, second, third = matrices
    rows = [torch.linalg.cross(*pair, dim=0) for pair in ((second, third), (third, first), (first, second))]
    return torch.stack(rows) / (first * rows[0]).sum(0)
