"""The samples of training, which are mini-sequences, and batches of them."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class MiniSequence(TypedDict):
    """A mini-sequence of T frames with N >= 1 objects; the first frame is annotated, and N may vary."""

    name: str  # names of the clip, its frames and objects, for messages
    frames: NDArray[np.uint8]  # RGB [T, H, W, 3]
    masks: NDArray[np.uint8]  # [N, T, H, W]: 1 on the object, 0 elsewhere, 255 void (ignored by the loss)
    interaction: NDArray[np.float32]  # A-Net's interaction channels on the first frame [N, 3, H, W]


class Batch(TypedDict):
    """Batch of B mini-sequences, whose M objects are concatenated along one axis."""

    names: list[str]  # names of the B mini-sequences
    frames: Tensor  # uint8 RGB [B, T, 3, H, W]
    masks: Tensor  # uint8 [M, T, 1, H, W]
    interaction: Tensor  # float32 [M, 3, H, W]
    image: Tensor  # int64 [M]: index of the mini-sequence to which each object belongs


def collate(mini_sequences: Sequence[MiniSequence]) -> Batch:
    """Combine mini-sequences of equal size and length to a batch."""
    frames = torch.from_numpy(np.stack([each["frames"] for each in mini_sequences]))
    counts = torch.tensor([len(each["masks"]) for each in mini_sequences])
    return {
        "names": [each["name"] for each in mini_sequences],
        "frames": frames.permute(0, 1, 4, 2, 3).contiguous(),
        "masks": torch.from_numpy(np.concatenate([each["masks"] for each in mini_sequences]))[:, :, None],
        "interaction": torch.from_numpy(np.concatenate([each["interaction"] for each in mini_sequences])),
        "image": torch.repeat_interleave(torch.arange(len(mini_sequences)), counts),
    }
