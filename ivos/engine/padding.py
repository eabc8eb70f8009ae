"""Padding to the sizes that the networks take."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
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

    def pad_tensor(self, tensor: Tensor) -> Tensor:
        """As :meth:`pad`, where the tensor is: of any type, which PyTorch's own reflection is not."""
        rows, columns = _reflected(self, tensor.device)
        return tensor[..., rows, columns]

    def crop(self, tensor: Tensor) -> Tensor:
        """[..., H, W] -> [..., h, w]."""
        return tensor[..., self.top : self.top + self.height, self.left : self.left + self.width]


@functools.lru_cache(maxsize=64)
def _reflected(padding: Padding, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each row [H, 1] and each column [W] of the padded frame comes from."""
    rows = np.pad(np.arange(padding.height), (padding.top, padding.bottom), mode="reflect")
    columns = np.pad(np.arange(padding.width), (padding.left, padding.right), mode="reflect")
    return torch.from_numpy(rows).to(device)[:, None], torch.from_numpy(columns).to(device)
