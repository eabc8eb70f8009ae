"""J and F on tensors, on whatever device they are: equal to those on arrays.

For masks that are on a GPU, in a loop of your own. The sessions of validation and evaluation have theirs on
the CPU, where the versions on arrays are faster.
"""

import math

import torch
from torch import Tensor


def jaccard(gt: Tensor, pred: Tensor, num_objects: int) -> Tensor:
    """Intersection over union of every object on every frame; see :func:`ivos.metrics.jaccard`.

    Args:
        gt: ground-truth labels, integers [T, h, w]; 255 (void) belongs to no object.
        pred: predicted labels [T, h, w].
        num_objects: N; objects are 1..N.

    Returns:
        float64 [T, N], on the labels' device, to the last bit what NumPy gives; nothing is copied to the CPU.

    >>> gt = torch.tensor([[[0, 1, 1, 2]]])
    >>> pred = torch.tensor([[[1, 1, 1, 0]]])
    >>> [round(value, 3) for value in jaccard(gt, pred, 3)[0].tolist()]
    [0.667, 0.0, 1.0]
    """
    _check(gt, pred, num_objects)
    return torch.stack([_j_of_frame(*_masks(pair, num_objects)) for pair in zip(gt, pred, strict=True)])


def f_measure(gt: Tensor, pred: Tensor, num_objects: int) -> Tensor:
    """Boundary F of every object on every frame; see :func:`ivos.metrics.f_measure`.

    Args:
        gt: ground-truth labels, integers [T, h, w]; 255 (void) belongs to no object.
        pred: predicted labels [T, h, w].
        num_objects: N; objects are 1..N.

    Returns:
        float64 [T, N], on the labels' device, to the last bit what NumPy gives; nothing is copied to the CPU.

    >>> gt, pred = torch.zeros(2, 1, 50, 50, dtype=torch.uint8)
    >>> gt[0, 10:30, 10:30] = pred[0, 10:30, 10:31] = 1
    >>> f_measure(gt, pred, 2).tolist()
    [[1.0, 1.0]]
    """
    _check(gt, pred, num_objects)
    radius = math.ceil(0.008 * math.hypot(*gt.shape[1:]))
    return torch.stack(
        [_f_of_frame(*_masks(pair, num_objects), radius) for pair in zip(gt, pred, strict=True)]
    )


def _check(gt: Tensor, pred: Tensor, num_objects: int) -> None:
    if gt.ndim != 3 or gt.shape != pred.shape:
        raise ValueError(
            f"labels [T, h, w] of equal shape are needed, got {tuple(gt.shape)} and {tuple(pred.shape)}"
        )
    if num_objects < 1:
        raise ValueError(f"num_objects: at least 1 is needed, got {num_objects}")


def _masks(pair: tuple[Tensor, Tensor], num_objects: int) -> tuple[Tensor, Tensor]:
    """Labels [h, w] of a frame as masks, bool [N, h, w]."""
    objects = torch.arange(1, num_objects + 1, device=pair[0].device).view(-1, 1, 1)
    return pair[0] == objects, pair[1] == objects


def _count(masks: Tensor) -> Tensor:
    """Pixels of each mask [N, h, w]: float64 [N], exact."""
    return masks.sum(dim=(1, 2), dtype=torch.int32).double()


def _j_of_frame(true: Tensor, predicted: Tensor) -> Tensor:
    union, intersection = _count(true | predicted), _count(true & predicted)
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def _f_of_frame(true: Tensor, predicted: Tensor, radius: int) -> Tensor:
    true, predicted = _boundary(true), _boundary(predicted)
    num_true, num_predicted = _count(true), _count(predicted)
    precision = _count(predicted & _dilate(true, radius)) / num_predicted.clamp(min=1)
    recall = _count(true & _dilate(predicted, radius)) / num_true.clamp(min=1)
    both = precision + recall
    value = torch.where(both > 0, 2 * precision * recall / torch.where(both > 0, both, 1.0), 0.0)
    return torch.where((num_true == 0) & (num_predicted == 0), 1.0, value)


def _boundary(masks: Tensor) -> Tensor:
    """Pixels that differ from their right, lower or lower right neighbour inside the frame."""
    boundary = torch.zeros_like(masks)
    boundary[:, :, :-1] = masks[:, :, :-1] ^ masks[:, :, 1:]
    boundary[:, :-1] |= masks[:, :-1] ^ masks[:, 1:]
    boundary[:, :-1, :-1] |= masks[:, :-1, :-1] ^ masks[:, 1:, 1:]
    return boundary


def _dilate(masks: Tensor, radius: int) -> Tensor:
    """All pixels up to ``radius`` away from a mask: the rows of a disk, from the shortest on."""
    height, width = masks.shape[1:]
    dilated, row, half = torch.zeros_like(masks), masks.clone(), 0
    for dy in range(radius, -1, -1):
        while half < math.isqrt(radius**2 - dy**2):
            half += 1  # row: the masks grown by `half` to the left and to the right
            if half < width:
                row[:, :, half:] |= masks[:, :, :-half]
                row[:, :, :-half] |= masks[:, :, half:]
        if dy < height:
            dilated[:, dy:] |= row[:, : height - dy]
            dilated[:, : height - dy] |= row[:, dy:]
    return dilated
