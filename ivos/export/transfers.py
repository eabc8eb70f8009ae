"""Correlation, local transfer and memory read, implemented with operations that ONNX supports.

For one image, the functions compute the same results as the operators of :mod:`ivos.kernels` and as
:func:`ivos.networks.memory.read`. The exported functions need no code of ivos.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ivos.networks.memory import RADIUS, TEMPERATURE, TOP_K

_STEPS, _DILATION = 4, 2  # the local transfer compares 9 x 9 displacements at every second pixel
_SIDE, _REACH = 2 * _STEPS + 1, _STEPS * _DILATION


def correlation(target: Tensor, reference: Tensor) -> Tensor:
    """Return the mean over channels of target(y, x) * reference(y + dy, x + dx), with zero padding.

    The pixels of a row are compared with all pixels of a reference row by one matrix product for each parity
    of the column. The nine required diagonals of the product become columns when the product is reshaped to
    rows that are longer by one element.

    Args:
        target: Features [1, C, h, w], with an even w.
        reference: Features of the same shape.

    Returns:
        [1, 81, h, w], for displacements -8, -6, ..., 8, where the displacement of the column varies fastest.
    """
    _, channels, height, width = target.shape
    half, longer = width // 2, width // 2 + 2 * _STEPS
    rows = target[0].unflatten(2, (half, 2)).permute(1, 3, 2, 0)  # [h, parity, w/2, C]
    padded = F.pad(reference, (_REACH, _REACH, _REACH, _REACH))[0]
    columns = padded.unflatten(2, (longer, 2)).permute(1, 3, 0, 2)  # [h + 16, parity, C, w/2 + 8]
    found = []
    for step in range(_SIDE):
        products = rows @ columns.narrow(0, _DILATION * step, height)  # [h, parity, w/2, w/2 + 8]
        skewed = F.pad(products.flatten(2), (0, half)).unflatten(2, (half, longer + 1))
        found.append(skewed[..., :_SIDE].permute(3, 0, 2, 1).flatten(2))
    return torch.cat(found)[None] / channels


def local_transfer(target: Tensor, reference: Tensor, mask: Tensor, normalize: str) -> Tensor:
    """Move masks along the softmax of the correlation; see :func:`ivos.kernels.local_transfer`.

    Args:
        target: Features [1, C, h, w], with an even w.
        reference: Features of the same shape.
        mask: Masks of N objects, [N, 1, h, w].
        normalize: ``displacements`` or ``rows``.

    Returns:
        [N, 1, h, w].
    """
    weights = correlation(target, reference).softmax(2 if normalize == "rows" else 1)
    shifts = torch.eye(_SIDE**2).view(_SIDE**2, 1, _SIDE, _SIDE)  # kernels that shift by each displacement
    shifted = F.conv2d(mask, shifts, padding=_REACH, dilation=_DILATION)
    return (weights * shifted).sum(1, keepdim=True)


def read(target: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Read values of memory frames at each position of a frame; see :func:`ivos.networks.memory.read`.

    Args:
        target: Keys of the frame, unit vectors [1, C, h, w].
        keys: Keys of K memory frames, [K, C, h, w].
        values: Values of N objects on K memory frames, [K, N, V, h, w].

    Returns:
        Values and the highest similarity, [N, V + 1, h, w].
    """
    height, width = target.shape[-2:]
    far_rows, far_columns = _far(height)[:, None, :, None], _far(width)[None, :, None, :]
    far = (far_rows | far_columns).flatten(2).flatten(0, 1)
    query = target[0].flatten(1).transpose(0, 1)  # [P, C]
    similarity = (query @ keys.flatten(2)).masked_fill(far, -1e4)  # [K, P, P]
    best, where = similarity.permute(1, 0, 2).flatten(1).topk(TOP_K, dim=1)  # [P, k]
    weights = (best / TEMPERATURE).softmax(1)
    flat = values.permute(1, 2, 0, 3, 4).flatten(2)  # [N, V, K P]
    found = (flat[:, :, where] * weights).sum(-1)  # [N, V, P]
    sureness = best[:, 0].expand(found.shape[0], 1, -1)
    return torch.cat([found, sureness], 1).unflatten(2, (height, width))


def _far(size: int) -> Tensor:
    """Return whether the distance of two positions along an axis exceeds the radius, bool [size, size]."""
    places = torch.arange(size)
    return (places[:, None] - places).abs() > RADIUS
