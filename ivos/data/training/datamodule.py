"""What Lightning trains and validates on."""

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
    """Mini-sequences to train on, and whole clips to validate on.

    Of videos on disk mini-sequences read the frames they need; small sets are decoded once and held in
    memory, which is faster and gives the same mini-sequences.

    Args:
        train: the videos to train on, or a mixture of sets.
        val: the videos to validate on; None: no validation.
        samples: makes mini-sequences of videos: :class:`MiniSequences` with all but its videos given.
        batch_size: mini-sequences of a batch.
        num_batches: of an epoch.
        val_clips: validate on that many of the videos, spread over all of them; None: on all.
        val_frames: validate on that many frames in a row of each; None: on all of them.
        num_workers: processes that make mini-sequences; 0: none but the one that trains; None: as many as the
            machine has cores for. It changes none.
        memory_mib: a set whose decoded frames and masks take no more than this is held in memory.
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
        """See that there can be mini-sequences, with nothing decoded.

        Raises:
            DataError: there are none, or an argument of theirs is wrong.
        """
        parts = (
            {name: part.videos for name, part in self.train.parts.items()}
            if (isinstance(self.train, Mixture))
            else {"": self.train}
        )
        mini_sequences.log.disabled = True  # what is left out is said when they are made
        try:
            for name, videos in parts.items():
                with _named(name):
                    self.samples(videos)
        finally:
            mini_sequences.log.disabled = False

    def setup(self, stage: str) -> None:
        """See which mini-sequences there can be; decode the sets that are held in memory."""
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
        """Return the mini-sequences of the lowest numbers as a batch, the same for all processes."""
        assert self._train is not None
        return collate([self._train[number] for number in range(count)])

    @property
    def loader_processes(self) -> int:
        """Number of processes that make mini-sequences: ``num_workers``, or by the machine's cores."""
        if self.num_workers is not None:
            return self.num_workers
        return workers_for(self._on_gpu, self.trainer.num_devices if self.trainer else 1)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def train_dataloader(self) -> NumberedLoader:
        """Batches of mini-sequences."""
        assert self._train is not None
        rank, world_size = self._place()
        num_workers = self.loader_processes
        if num_workers:
            # Its processes are many, and OpenCV would start a thread for each core in each of them. They are
            # forked, which OpenCV's threads do not survive: it is to be said here, where those can end.
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
        """How far the loader is.

        Lightning restores loaders itself, but not one that it made early to count a schedule's steps.
        """
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the loader to come go on from there."""
        self._batches_done = state_dict.get("batches_done", 0)

    def val_dataloader(self) -> "DataLoader[Clip | None] | list[Any]":
        """Clips, one by one; several processes take turns, and no clip comes twice.

        Process r of n takes clips r, r + n, r + 2n, ... All take as many turns: the last turn of those that
        have a clip less is None.
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
        """Which of how many processes this is."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of which set of a mixture an error is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error.headline}" if name else error.headline, error.problems) from None


class _Clips(Dataset[Clip]):
    """Clips to validate on, decoded when they are asked for.

    Args:
        videos: on disk.
        num_frames: that many in a row of each, from the first frame that shows most of the objects, or
            earlier where the video ends before; None: all.
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
