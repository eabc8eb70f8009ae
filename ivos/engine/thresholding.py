"""Conversion of probabilities to labels with the threshold of the released system."""

import torch
from torch import Tensor

THRESHOLD = 0.8
"""Probability above which a pixel is labelled with its most probable object; else it is background."""
_ODDS = THRESHOLD / (1 - THRESHOLD)


def to_labels(probabilities: Tensor) -> Tensor:
    """Label each pixel with its most probable object (the lowest number on a tie) or as background.

    Args:
        probabilities: Probabilities of the N objects [N, ..., h, w].

    Returns:
        Labels uint8 [..., h, w]: 0 is the background, 1..N are the objects.
    """
    best, label = probabilities.max(dim=0)
    return torch.where(best > THRESHOLD, label + 1, 0).to(torch.uint8)


def centred(probabilities: Tensor) -> Tensor:
    """Map probabilities so that :data:`THRESHOLD` becomes 0.5; :func:`off_centre` is the inverse."""
    return probabilities / (probabilities + _ODDS * (1 - probabilities))


def off_centre(probabilities: Tensor) -> Tensor:
    """Map probabilities so that 0.5 becomes :data:`THRESHOLD`; this is the inverse of :func:`centred`."""
    return _ODDS * probabilities / (_ODDS * probabilities + 1 - probabilities)
