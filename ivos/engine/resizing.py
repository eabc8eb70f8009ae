"""Resizing between the frames' own size and a smaller working size of the networks."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as nnf

from ivos.runtime.errors import UserError


def check_short_side(short_side: Any) -> None:
    """Check the shorter side of the working size.

    Raises:
        UserError: The value is neither None nor a whole number of at least 32.
    """
    if short_side is None:
        return
    if isinstance(short_side, bool) or not isinstance(short_side, int) or short_side < 32:
        raise UserError(f"segmenter.short_side: a whole number of at least 32, or null, got {short_side!r}")


@dataclass(frozen=True)
class Resizing:
    """Conversion between the frames' own size and the networks' smaller working size.

    Strokes have relative coordinates, so that they need no conversion.

    Attributes:
        full_size: Height and width of the given frames, in pixels.
        working_size: Height and width of the networks' input before padding, in pixels.
    """

    full_size: tuple[int, int]
    working_size: tuple[int, int]

    @classmethod
    def to_short_side(cls, height: int, width: int, short_side: int | None) -> "Resizing | None":
        """Return the resizing of frames to a shorter side in pixels; None if the frames are not larger."""
        if short_side is None or min(height, width) <= short_side:
            return None
        factor = short_side / min(height, width)
        h, w = (max(short_side, round(factor * side)) for side in (height, width))
        return cls((height, width), (h, w))

    def reduced(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return frames [T, h, w, 3] at the working size, by area interpolation."""
        size = self.working_size[::-1]
        small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
        return np.stack(small).astype(np.uint8)

    def reduced_labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return labels [h, w] at the working size, by nearest-neighbour interpolation."""
        size = self.working_size[::-1]
        return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

    def enlarged(self, probabilities: Tensor) -> Tensor:
        """Enlarge probabilities [N, h, w] from the working size to the frames' own size, bilinearly.

        The result is on the device of the input, so that only labels have to be copied from a GPU.
        """
        if probabilities.device.type != "cpu":
            size = self.full_size
            return nnf.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]
        size = self.full_size[::-1]
        each = [cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in probabilities.numpy()]
        return torch.from_numpy(np.stack(each))
