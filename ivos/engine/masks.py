"""From probabilities to labels: the one place that knows the released system's threshold."""

import torch
from torch import Tensor

THRESHOLD = 0.8
"""A pixel goes to its most probable object where that probability exceeds this, else to the background."""


def to_labels(probabilities: Tensor) -> Tensor:
    """Give each pixel to its most probable object, the lowest number on a tie, or to the background.

    Args:
        probabilities: of the objects [N, ..., h, w].

    Returns:
        labels uint8 [..., h, w], 0 for the background, 1..N.
    """
    best, label = probabilities.max(dim=0)
    return torch.where(best > THRESHOLD, label + 1, 0).to(torch.uint8)
