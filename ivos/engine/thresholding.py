"""From probabilities to labels: the one place that knows the released system's threshold."""

import torch
from torch import Tensor

THRESHOLD = 0.8
"""A pixel goes to its most probable object where that probability exceeds this, else to the background."""
_ODDS = THRESHOLD / (1 - THRESHOLD)


def to_labels(probabilities: Tensor) -> Tensor:
    """Give each pixel to its most probable object, the lowest number on a tie, or to the background.

    Args:
        probabilities: of the objects [N, ..., h, w].

    Returns:
        labels uint8 [..., h, w], 0 for the background, 1..N.
    """
    best, label = probabilities.max(dim=0)
    return torch.where(best > THRESHOLD, label + 1, 0).to(torch.uint8)


def centred(probabilities: Tensor) -> Tensor:
    """Probabilities as they would be if :data:`THRESHOLD` were a half; :func:`off_centre` is the way back."""
    return probabilities / (probabilities + _ODDS * (1 - probabilities))


def off_centre(probabilities: Tensor) -> Tensor:
    """Probabilities whose threshold is a half as ones whose threshold is :data:`THRESHOLD`."""
    return _ODDS * probabilities / (_ODDS * probabilities + 1 - probabilities)
