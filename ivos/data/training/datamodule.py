"""The Lightning data module of training and validation."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import cv2
import numpy as np
import pytorch_lightning as pl
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from ivos.data.batches import Batch, collate
from ivos.data.datasets.mixture import Mixture
from ivos.data.training import mini_sequences
from ivos.data.training.loader import NumberedLoader, workers_for
from ivos.data.training.mini_sequences import MiniSequences, MixedMiniSequences
from ivos.runtime.options import MAX_WORKERS, NULL, whole
from ivos.video.clip import Clip
from ivos.video.files import DataError
from ivos.video.video import Video, VideoSet


class TrainingData(pl.LightningDataModule):
    """Data module with mini-sequences for training and clips for validation.

    Mini-sequences read only the frames they need from disk. Small data sets are decoded once and held in
    memory, which is faster and gives the same mini-sequences.

    Args:
        train: Videos for training, or a mixture of data sets.
        val: Videos for validation; None disables validation.
        samples: Function that creates the mini-sequences from videos, such as :class:`MiniSequences` with all
            other arguments set.
        batch_size: Number of mini-sequences in a batch.
        num_batches: Number of batches in an epoch.
        val_clips: Number of videos for validation, spread evenly over the set; None uses all of them.
        val_frames: Number of consecutive frames of each video for validation; None uses all of them.
        num_workers: Number of processes that prepare mini-sequences; 0 uses the training process, None
            derives the number from the machine's cores. It has no effect on the mini-sequences.
        memory_mib: A data set whose decoded frames and masks need at most this much memory is held in memory.
    """

    def __init__(
        self,
        train: VideoSet | Mixture,
        val: VideoSet | None,
        samples: Callable[[Sequence[Video | Clip]], MiniSequences],
        batch_size: Annotated[int, whole(1)],
        num_batches: Annotated[int, whole(1)],
        val_clips: Annotated[int | None, NULL | whole(1)] = None,
        val_frames: Annotated[int | None, NULL | whole(1)] = None,
        num_workers: Annotated[int | None, NULL | whole(0, MAX_WORKERS)] = 0,
        memory_mib: Annotated[int, whole(0)] = 512,
    ) -> None:
        super().__init__()
        self.train, self.val, self.samples = train, val, samples
        self.batch_size, self.num_batches = batch_size, num_batches
        self.val_clips, self.val_frames = val_clips, val_frames
        self.num_workers, self.memory_mib = num_workers, memory_mib
        self._train: MiniSequences | MixedMiniSequences | None = None
        self._loader: NumberedLoader | None = None
        self._batches_done = 0
        self._val: Sequence[Clip] | _Clips = []

    def check(self) -> None:
        """Check that there are mini-sequences, without decoding frames.

        Raises:
            DataError: There are no mini-sequences, or an argument of them is invalid.
        """
        parts = (
            {name: part.videos for name, part in self.train.parts.items()}
            if (isinstance(self.train, Mixture))
            else {"": self.train}
        )
        mini_sequences.log.disabled = True  # skipped videos are reported later, by setup
        try:
            for name, videos in parts.items():
                with _named(name):
                    self.samples(videos)
        finally:
            mini_sequences.log.disabled = False

    def setup(self, stage: str) -> None:
        """Create the data sets of mini-sequences; decode those that are held in memory."""
        if self._train is not None:
            return
        if isinstance(self.train, Mixture):
            parts = {name: self._mini_sequences(part.videos, name) for name, part in self.train.parts.items()}
            weights = {name: part.weight for name, part in self.train.parts.items()}
            self._train = MixedMiniSequences(parts, weights, next(iter(parts.values())).seed)
        else:
            self._train = self._mini_sequences(self.train)
        if self.val is not None:
            shown = [i for i in range(len(self.val)) if self.val[i].num_objects]
            if not shown:
                raise DataError("data.val: no clip shows an object")
            count = min(self.val_clips or len(shown), len(shown))
            picks = np.linspace(0, len(shown) - 1, count).round().astype(int)
            clips = _Clips([self.val[shown[i]] for i in picks], self.val_frames)
            self._val = [clips[i] for i in range(count)] if self._fits(clips.videos) else clips

    def _mini_sequences(self, videos: VideoSet, name: str = "") -> MiniSequences:
        with _named(name):
            held: Sequence[Video | Clip] = (
                [video.load() for video in videos] if self._fits(videos) else videos
            )
            return self.samples(held)

    def _fits(self, videos: Sequence[Video]) -> bool:
        return sum(4 * v.num_frames * v.size[0] * v.size[1] for v in videos) <= self.memory_mib << 20

    def first_batch(self, count: int) -> Batch:
        """Return the mini-sequences with the lowest numbers as a batch, which is equal in all processes."""
        assert self._train is not None
        return collate([self._train[number] for number in range(count)])

    @property
    def loader_processes(self) -> int:
        """Number of processes that prepare mini-sequences: ``num_workers``, or derived from the cores."""
        if self.num_workers is not None:
            return self.num_workers
        return workers_for(self._on_gpu, self.trainer.num_devices if self.trainer else 1)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def train_dataloader(self) -> NumberedLoader:
        """Return the loader of batches of mini-sequences."""
        assert self._train is not None
        rank, world_size = self._place()
        num_workers = self.loader_processes
        if num_workers:
            # OpenCV would start one thread per core in each of the many loader processes. The limit must be
            # set here, because the processes are forked, and OpenCV's threads do not survive a fork.
            cv2.setNumThreads(1)
        self._loader = NumberedLoader(
            self._train,
            self.batch_size,
            self.num_batches,
            rank=rank,
            world_size=world_size,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self._on_gpu,
        )
        self._loader.load_state_dict({"batches_done": self._batches_done})
        return self._loader

    def state_dict(self) -> dict[str, int]:
        """Return the position of the loader.

        Lightning saves and restores the state of loaders too, but not if it created the loader early in order
        to count the steps of a schedule.
        """
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Set the position at which the next loader starts."""
        self._batches_done = state_dict.get("batches_done", 0)

    def val_dataloader(self) -> "DataLoader[Clip | None] | list[Any]":
        """Return the loader of single clips; process r of n gets the clips r, r + n, r + 2n, ...

        All processes get the same number of items: those with one clip less get None as their last item.
        """
        if not self._val:
            return []
        rank, world_size = self._place()
        share = range(rank, len(self._val), world_size)
        idle = [None] * (-(-len(self._val) // world_size) - len(share))
        parts: list[Any] = [Subset(self._val, share), idle]  # type: ignore[arg-type]
        turns: ConcatDataset[Clip | None] = ConcatDataset(parts)
        return DataLoader(turns, batch_size=None)

    def _place(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Return a context that adds the name of a mixture's data set to error messages."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error.headline}" if name else error.headline, error.problems) from None


class _Clips(Dataset[Clip]):
    """Clips for validation, which are decoded when they are read.

    Args:
        videos: Videos on disk.
        num_frames: Number of consecutive frames of each video, starting at the first frame that shows the
            largest number of objects, or earlier if the video would end before; None uses all frames.
    """

    def __init__(self, videos: list[Video], num_frames: int | None) -> None:
        self.videos, self.num_frames = videos, num_frames

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Clip:
        video = self.videos[index]
        length = min(self.num_frames or video.num_frames, video.num_frames)
        first = min(int((video.areas > 0).sum(1).argmax()), video.num_frames - length)
        return video.load(range(first, first + length))
