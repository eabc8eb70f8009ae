"""The correlation and the local transfer as plain sums, against which all other implementations are tested.

The functions compute one shifted product per displacement. They are slow but simple, differentiable by
autograd, and support float64.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def shifts(x: Tensor, radius: int, dilation: int) -> Iterator[Tensor]:
    """Yield x(y + dy, x + dx) for dy, dx in dilation * {-radius..radius}, where dx varies fastest.

    Args:
        x: Maps [..., h, w], which are padded with zeros.
        radius: Number of displacements to each side.
        dilation: Distance in pixels between neighbouring displacements.

    Yields:
        (2 * radius + 1)^2 views of the shape of `x`.
    """
    height, width = x.shape[-2:]
    reach = radius * dilation
    padded = F.pad(x, (reach, reach, reach, reach))
    for dy in range(0, 2 * reach + 1, dilation):
        for dx in range(0, 2 * reach + 1, dilation):
            yield padded[..., dy : dy + height, dx : dx + width]


def correlation(target: Tensor, reference: Tensor, radius: int = 4, dilation: int = 2) -> Tensor:
    """Return the mean over channels of target(y, x) * reference(y + dy, x + dx).

    See `ivos.kernels.correlation`.
    """
    return torch.stack([(target * shifted).mean(1) for shifted in shifts(reference, radius, dilation)], 1)


def local_transfer(
    target: Tensor,
    reference: Tensor,
    mask: Tensor,
    radius: int = 4,
    dilation: int = 2,
    normalize: str = "displacements",
) -> Tensor:
    """Move the mask along the softmax of the correlation; see `ivos.kernels.local_transfer`."""
    volume = correlation(target, reference, radius, dilation)
    weights = volume.softmax(2 if normalize == "rows" else 1)
    moved = torch.zeros_like(mask)
    for d, shifted in enumerate(shifts(mask, radius, dilation)):
        moved = moved + weights[:, d, None] * shifted
    return moved
