"""Padding to the sizes that the networks take."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Rows and columns to add around a frame by reflection, the edge not repeated."""

    height: int
    width: int
    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def to_multiple_of_32(cls, height: int, width: int) -> "Padding":
        """To the next multiple of 32 *above* the size, the smaller half at the top and left, as released."""
        rows, columns = 32 - height % 32, 32 - width % 32
        return cls(height, width, rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height + self.top + self.bottom, self.width + self.left + self.right

    def pad(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """[..., h, w] -> [..., H, W]; frames smaller than the padding are reflected again and again."""
        sides = [(0, 0)] * (array.ndim - 2) + [(self.top, self.bottom), (self.left, self.right)]
        return np.pad(array, sides, mode="reflect")

    def crop(self, tensor: Tensor) -> Tensor:
        """[..., H, W] -> [..., h, w]."""
        return tensor[..., self.top : self.top + self.height, self.left : self.left + self.width]
