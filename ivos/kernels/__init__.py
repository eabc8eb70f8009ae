"""Correlation of two feature maps over a window of displacements, and the local transfer based on it.

On an NVIDIA GPU both are CUDA kernels (`correlation.cu`), which are compiled on first use; no compiler has to
be installed. On a CPU and on any other device they are matrix products in PyTorch (`ivos.kernels.cpu`). Both
implementations are tested against the plain formulation in `ivos.kernels.naive`.
"""

import torch
from torch import Tensor

from ivos.kernels import cpu, naive, ops

__all__ = ["correlation", "local_transfer", "naive"]

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def correlation(
    target: Tensor, reference: Tensor, radius: int = 4, dilation: int = 2, implementation: str | None = None
) -> Tensor:
    """Correlate each target pixel with the reference pixels around it.

    out[b, d, y, x] = mean over c of target[b, c, y, x] * reference[b, c, y + dy, x + dx], with dy and dx in
    dilation * {-radius, ..., radius}, d = (2 * radius + 1) * row(dy) + column(dx), and zeros outside of the
    reference. This is FlowNet2's correlation (pad and max displacement radius * dilation, kernel 1, stride1
    1, stride2 dilation), Dosovitskiy et al., ICCV 2015. Sums are accumulated in float64 for float64 inputs,
    else in float32. The function is differentiable once.

    Args:
        target: Features [B, C, h, w] in float16, bfloat16, float32 or float64, with any strides.
        reference: Features [B, C, h, w] of the same type and device.
        radius: Number of displacements to each side, at least 1.
        dilation: Distance in pixels between neighbouring displacements, at least 1.
        implementation: "cuda", "torch", "naive" or "auto"; None for the value of the environment variable
            IVOS_KERNEL, or "auto" if it is not set. "auto" selects CUDA on an NVIDIA GPU, else PyTorch.

    Returns:
        The correlation [B, (2 * radius + 1)^2, h, w], contiguous, of the inputs' type, or of autocast's type
        under autocast.

    Raises:
        TypeError: An argument is of the wrong type, or the tensors' types differ.
        ValueError: Shapes or devices do not match, radius or dilation is below 1, or the implementation is
            unknown.
    """
    _check(target, {"reference": reference}, radius, dilation)
    chosen = ops.requested(implementation)
    if chosen == "naive":
        target, reference = _for_naive(target, reference)
        return naive.correlation(target, reference, radius, dilation)
    return ops.correlation(target, reference, radius, dilation, chosen)


def local_transfer(
    target: Tensor,
    reference: Tensor,
    mask: Tensor,
    radius: int = 4,
    dilation: int = 2,
    normalize: str = "displacements",
    implementation: str | None = None,
) -> Tensor:
    """Move masks of the reference to the target along the softmax of their correlation.

    out[b, n, y, x] = sum over d of weight[b, d, y, x] * mask[b, n, y + dy, x + dx], with zeros outside of the
    mask. The weights are the softmax of `correlation(target, reference, radius, dilation)`; the N masks of a
    pair share them (Heo, Koh, Kim, ECCV 2020, section 3.3). The function is differentiable once in all three
    tensors.

    Args:
        target: Features [B, C, h, w] in float16, bfloat16, float32 or float64, with any strides.
        reference: Features [B, C, h, w] of the same type and device.
        mask: Masks [B, N, h, w] of the same type and device.
        radius: Number of displacements to each side, at least 1.
        dilation: Distance in pixels between neighbouring displacements, at least 1.
        normalize: "displacements" for a softmax over the displacements, as in the paper; on a GPU, the
            weights are then never stored in memory. "rows" for a softmax over the rows of the image (tensor
            dimension 2), which the authors' code uses by mistake and the released weights therefore need.
        implementation: See `correlation`.

    Returns:
        The moved masks [B, N, h, w], contiguous, of the inputs' type, or of autocast's type under autocast.

    Raises:
        TypeError: An argument is of the wrong type, or the tensors' types differ.
        ValueError: Shapes or devices do not match, radius or dilation is below 1, or `normalize` or the
            implementation is unknown.
    """
    _check(target, {"reference": reference, "mask": mask}, radius, dilation)
    if normalize not in ("displacements", "rows"):
        raise ValueError(f"normalize: must be displacements or rows, got {normalize!r}")
    chosen = ops.requested(implementation)
    if chosen == "naive":
        target, reference, mask = _for_naive(target, reference, mask)
        return naive.local_transfer(target, reference, mask, radius, dilation, normalize)
    if normalize == "displacements":
        return ops.local_transfer(target, reference, mask, radius, dilation, chosen)[0]
    volume = ops.correlation(target, reference, radius, dilation, chosen)
    weights = volume.softmax(2, dtype=cpu.accumulation_type(volume.dtype))
    moved = weights.unsqueeze(1) * cpu.unfold(mask.to(weights.dtype), radius, dilation)
    return moved.sum(2).to(volume.dtype)


def _for_naive(*tensors: Tensor) -> list[Tensor]:
    """Log the naive implementation, and cast the tensors under autocast, as the registered ops do."""
    device_type = tensors[0].device.type
    if not torch.compiler.is_compiling():
        ops.say("naive", str(tensors[0].device), tensors[0].dtype)
    if not torch.is_autocast_enabled(device_type):
        return list(tensors)
    return [ops.cast(tensor, torch.get_autocast_dtype(device_type)) for tensor in tensors]


def _check(target: Tensor, others: dict[str, Tensor], radius: int, dilation: int) -> None:
    """Check the arguments of both functions; errors name the argument."""
    for name, value in (("radius", radius), ("dilation", dilation)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: must be an int, got {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    if radius * dilation >= 2**20:
        raise ValueError(f"radius: {radius} steps of dilation {dilation} span 2^20 pixels or more")
    mixed = torch.is_autocast_enabled(target.device.type) if isinstance(target, Tensor) else False
    for name, tensor in {"target": target, **others}.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: must be a tensor, got {type(tensor).__name__}")
        if tensor.dtype not in _TYPES:
            raise TypeError(f"{name}: must be float16, bfloat16, float32 or float64, got {tensor.dtype}")
        if tensor.dim() != 4:
            raise ValueError(f"{name}: must have 4 dimensions, got shape {tuple(tensor.shape)}")
        if tensor.device != target.device:
            raise ValueError(f"{name}: is on {tensor.device}, but target is on {target.device}")
        if tensor.dtype != target.dtype and not (mixed and torch.float64 not in (tensor.dtype, target.dtype)):
            raise TypeError(f"{name}: is {tensor.dtype}, but target is {target.dtype}")
        fixed = slice(None) if name == "reference" else slice(-2, None)
        if tensor.shape[0] != target.shape[0] or tensor.shape[fixed] != target.shape[fixed]:
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)} does not match target {tuple(target.shape)}"
            )
    if target.shape[1] == 0:
        raise ValueError("target: must have at least one channel")
