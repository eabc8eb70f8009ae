"""Labels that a frame was given as a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class AdoptedLabels:
    """Labels that a frame was given, exactly.

    Attributes:
        labels: uint8 [h, w] at the frames' own size: 0 background, else objects' numbers.
        objects: the objects that the labels describe; all others keep their state outside these objects.
    """

    labels: NDArray[np.uint8]
    objects: tuple[int, ...]

    def over(self, current: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return labels [h, w] in which these objects replace what they are in the current labels."""
        others = np.where(np.isin(current, self.objects), 0, current)
        return np.where(self.labels > 0, self.labels, others).astype(np.uint8)

    def merged(self, earlier: "AdoptedLabels | None") -> "AdoptedLabels":
        """Return these labels together with those that the same frame was given before."""
        if earlier is None:
            return self
        return AdoptedLabels(self.over(earlier.labels), tuple(sorted({*self.objects, *earlier.objects})))

    def applied(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return probabilities [N, ...] in which the objects are exactly where the labels [...] say.

        Args:
            probabilities: of all objects, before.
            labels: the adopted labels at the size of the probabilities.
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
        frame: the frame.
        labels: its labels.
        objects: the objects that the labels describe; None for all.
        shape: frames, height and width of the video.
        num_objects: N.

    Raises:
        ValueError: An argument is not possible; the message names it.
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
        raise ValueError(f"labels: {unknown} are in the labels, which describe the objects {list(described)}")
    return AdoptedLabels(labels.copy(), described)
