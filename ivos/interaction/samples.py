"""What data sets hand to the training stages: training samples, batches of them, clips to validate on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ivos.interaction.labels import areas, most_telling_frames


class Video(Protocol):
    """What samples are made of: T frames with their masks, read when they are asked for."""

    @property
    def name(self) -> str:
        """Unique in its data set."""

    @property
    def num_objects(self) -> int:
        """N, the highest object number."""

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each object on each frame [T, N]."""

    @property
    def begins(self) -> tuple[int, ...]:
        """The frame that each object's masks begin on (N of them; empty: all on frame 0).

        Before it nothing is known of the object.
        """

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames RGB [n, h, w, 3] and labels [n, h, w] of the frames of these numbers."""


@dataclass(frozen=True)
class Clip:
    """A clip held in memory, for training or for validation."""

    name: str
    frames: NDArray[np.uint8]  # RGB [T, h, w, 3]
    labels: NDArray[np.uint8]  # [T, h, w]: 0 background, 1..N, 255 void
    num_objects: int  # N
    begins: tuple[int, ...] = ()  # see Video

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each object on each frame [T, N]."""
        return areas(self.labels, self.num_objects)

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames [n, h, w, 3] and labels [n, h, w] of the frames of these numbers."""
        chosen = list(frames)
        return self.frames[chosen], self.labels[chosen]

    @property
    def first_frame(self) -> int:
        """Where a session begins."""
        return most_telling_frames(self.labels, self.num_objects)[0]

    def only(self, frame: int) -> "Clip":
        """A clip of this one frame."""
        return replace(self, frames=self.frames[frame, None], labels=self.labels[frame, None])


class Sample(TypedDict):
    """A mini-sequence of T frames, the first of them annotated, and N >= 1 of its objects (N may vary)."""

    name: str  # the clip, its frames and objects, for messages
    frames: NDArray[np.uint8]  # RGB [T, H, W, 3]
    masks: NDArray[np.uint8]  # [N, T, H, W]: 1 on the object, 0 elsewhere, 255 void (left out of the loss)
    interaction: NDArray[np.float32]  # A-Net's channels on the first frame [N, 3, H, W]


class Batch(TypedDict):
    """B samples; their objects, M in all, lie one after another."""

    names: list[str]  # B
    frames: Tensor  # uint8 RGB [B, T, 3, H, W]
    masks: Tensor  # uint8 [M, T, 1, H, W]
    interaction: Tensor  # float32 [M, 3, H, W]
    image: Tensor  # int64 [M]: which of the B samples an object belongs to


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of one size and length together."""
    frames = torch.from_numpy(np.stack([sample["frames"] for sample in samples]))
    counts = torch.tensor([len(sample["masks"]) for sample in samples])
    return {
        "names": [sample["name"] for sample in samples],
        "frames": frames.permute(0, 1, 4, 2, 3).contiguous(),
        "masks": torch.from_numpy(np.concatenate([sample["masks"] for sample in samples]))[:, :, None],
        "interaction": torch.from_numpy(np.concatenate([sample["interaction"] for sample in samples])),
        "image": torch.repeat_interleave(torch.arange(len(samples)), counts),
    }
