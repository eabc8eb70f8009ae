"""Adoption: labels that a user gives for a frame as a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class AdoptedLabels:
    """Labels that a user has given for a frame.

    Attributes:
        labels: Labels uint8 [h, w] at the frame's own size: 0 is the background, others are object numbers.
        objects: Numbers of the objects that the labels describe. Other objects keep their masks where the
            labels show none of the described objects.
    """

    labels: NDArray[np.uint8]
    objects: tuple[int, ...]

    def over(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the current labels [h, w] with the masks of the described objects replaced."""
        others = np.where(np.isin(current, self.objects), 0, current)
        return np.where(self.labels > 0, self.labels, others).astype(np.uint8)

    def merged(self, earlier: "AdoptedLabels | None") -> "AdoptedLabels":
        """Return these labels combined with labels adopted earlier for the same frame."""
        if earlier is None:
            return self
        return AdoptedLabels(self.over(earlier.labels), tuple(sorted({*self.objects, *earlier.objects})))

    def applied(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return probabilities [N, ...] that reproduce the adopted labels exactly.

        Args:
            probabilities: Probabilities of all objects before the adoption.
            labels: The adopted labels at the size of the probabilities.
        """
        new = torch.where(labels > 0, torch.zeros_like(probabilities), probabilities)
        for number in self.objects:
            new[number - 1] = labels == number
        return new


def check_adoption(
    frame: int,
    labels: NDArray[np.uint8],
    objects: Sequence[int] | None,
    shape: tuple[int, ...],
    num_objects: int,
) -> AdoptedLabels:
    """Check the arguments of ``adopt`` and return a copy of them.

    Args:
        frame: Index of the frame.
        labels: Labels of the frame.
        objects: Numbers of the objects that the labels describe; None for all objects.
        shape: Number of frames, height and width of the video.
        num_objects: Number of objects N.

    Raises:
        ValueError: An argument is invalid; the message names it.
    """
    if not 0 <= frame < shape[0]:
        raise ValueError(f"frame: the video has frames 0 to {shape[0] - 1}, got {frame}")
    if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.shape != shape[1:]:
        got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, np.ndarray) else type(labels)
        raise ValueError(f"labels: uint8 {list(shape[1:])} is needed, got {got}")
    described = tuple(range(1, num_objects + 1)) if objects is None else tuple(sorted(set(objects)))
    if not described or not set(described) <= set(range(1, num_objects + 1)):
        raise ValueError(f"objects: numbers from 1 to {num_objects} are needed, got {list(described)}")
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *described})
    if unknown:
        raise ValueError(f"labels: they contain {unknown}, but describe only the objects {list(described)}")
    return AdoptedLabels(labels.copy(), described)
