"""Padding of frames to the sizes that the networks accept."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Rows and columns added around a frame by reflection without repeating the edge."""

    height: int
    width: int
    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def to_multiple_of_32(cls, height: int, width: int) -> "Padding":
        """Return the padding to the next multiple of 32 *above* the size, as in the released system.

        The smaller half of the padding is at the top and left.
        """
        rows, columns = 32 - height % 32, 32 - width % 32
        return cls(height, width, rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)

    @property
    def padded_size(self) -> tuple[int, int]:
        """The height and width (H, W) after padding."""
        return self.height + self.top + self.bottom, self.width + self.left + self.right

    def pad(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Pad [..., h, w] to [..., H, W]; frames smaller than the padding are reflected repeatedly."""
        sides = [(0, 0)] * (array.ndim - 2) + [(self.top, self.bottom), (self.left, self.right)]
        return np.pad(array, sides, mode="reflect")

    def pad_tensor(self, tensor: Tensor) -> Tensor:
        """Pad as :meth:`pad` does, on the tensor's device; unlike PyTorch's reflection, for any data type."""
        rows, columns = _reflected(self, tensor.device)
        return tensor[..., rows, columns]

    def crop(self, tensor: Tensor) -> Tensor:
        """Crop [..., H, W] to [..., h, w]."""
        return tensor[..., self.top : self.top + self.height, self.left : self.left + self.width]


@functools.lru_cache(maxsize=64)
def _reflected(padding: Padding, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the source index of each row [H, 1] and of each column [W] of the padded frame."""
    rows = np.pad(np.arange(padding.height), (padding.top, padding.bottom), mode="reflect")
    columns = np.pad(np.arange(padding.width), (padding.left, padding.right), mode="reflect")
    return torch.from_numpy(rows).to(device)[:, None], torch.from_numpy(columns).to(device)
