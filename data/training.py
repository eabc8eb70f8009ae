"""Training data: mini-sequences cut out of videos, with the strokes of a simulated user."""

import logging
import os
from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListLike
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from data.davis import VOID, DataError, DavisFolder, Sequence
from ivos.interaction.samples import Batch, Clip, Sample, collate
from ivos.interaction.simulate import SimulatedUser

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for newer versions

import albumentations as A

log = logging.getLogger(__name__)
_ATTEMPTS = 8


class MiniSequences(Dataset[Sample]):
    """Samples by number, without end: a function of (seed, number), whoever asks and in whatever order.

    A sample is an annotated frame that shows an object and some of the frames that follow it, forward or
    backward. A square around a pixel of an object is cut out of all of them and enlarged or reduced; where it
    reaches beyond the frame the image is black and the mask void (255). Objects that are not on the annotated
    frame are left out; one that vanishes later has empty masks from there on.

    Args:
        clips: the videos.
        num_frames: T, frames of a sample (1: single frames, for A-Net).
        window: the frames that follow are drawn from this many after the annotated one; a shorter video
            offers what it has. At least T - 1.
        crop: side of a sample, in pixels, a multiple of 32.
        zoom: smallest and largest enlargement.
        max_objects: of a sample; which ones is drawn.
        min_area: pixels of an object that can be annotated.
        user: draws the strokes.
        augment: albumentations that leave the size as it is, applied alike to all frames and masks.
        seed: see above.

    Raises:
        DataError: no clip can be used, or an argument cannot.
    """

    def __init__(
        self,
        clips: ListLike[Clip],
        num_frames: int = 5,
        window: int = 7,
        crop: int = 384,
        zoom: tuple[float, float] = (1.0, 1.0),
        max_objects: int = 1,
        min_area: int = 32,
        user: SimulatedUser | None = None,
        augment: ListLike[A.BasicTransform] = (),
        seed: int = 0,
    ) -> None:
        if crop % 32 or crop <= 0:
            raise DataError(f"crop: a multiple of 32 is needed, got {crop}")
        if not 1 <= num_frames <= window + 1:
            raise DataError(f"num_frames={num_frames}: with window={window}, 1 to {window + 1} are possible")
        if not 0 < zoom[0] <= zoom[1]:
            raise DataError(f"zoom: above 0 and in order, got {list(zoom)}")
        self.num_frames, self.window, self.crop, self.zoom = num_frames, window, crop, zoom
        self.max_objects, self.min_area, self.seed = max_objects, min_area, seed
        self.user = user or SimulatedUser()
        self.resize, self.augment = A.Resize(crop, crop), A.Compose(list(augment))
        usable = [(clip, starts) for clip in clips if len(starts := self._starts(clip))]
        if not usable:
            raise DataError(
                f"no clip to train on: of {len(clips)}, none has {num_frames} frames in a row that begin "
                f"with an object of at least {min_area} pixels (num_frames, min_area)"
            )
        if len(usable) < len(clips):
            left_out = [clip.name for clip in clips if not len(self._starts(clip))]
            log.warning(
                "%d of %d clips are left out, being shorter than %d frames or without objects: %s",
                len(left_out), len(clips), num_frames, ", ".join(left_out[:5]),
            )  # fmt: skip
        self.clips = [clip for clip, _ in usable]
        self.starts = [starts for _, starts in usable]

    def _starts(self, clip: Clip) -> NDArray[np.int64]:
        """What a sample can begin with: rows (frame, 1 forward or -1 backward)."""
        last = len(clip.labels) - 1
        rows = [
            (t, direction)
            for t, labels in enumerate(clip.labels)
            if (_areas(labels, clip.num_objects) >= self.min_area).any()
            for direction, room in ((1, last - t), (-1, t))
            if room >= self.num_frames - 1 and (self.num_frames > 1 or direction == 1)
        ]
        return np.array(rows, np.int64).reshape(-1, 2)

    def __getitem__(self, number: int) -> Sample:
        """Sample of this number; see the class."""
        rng = np.random.default_rng([self.seed, number])
        index = int(rng.integers(len(self.clips)))
        clip = self.clips[index]
        start, direction = self.starts[index][rng.integers(len(self.starts[index]))].tolist()
        chosen = self._frames(start, direction, len(clip.frames), rng)
        visible = 1 + np.flatnonzero(_areas(clip.labels[start], clip.num_objects) >= self.min_area)
        for _ in range(_ATTEMPTS):  # the augmentation may push the objects out of the picture
            objects = rng.permutation(visible)[: self.max_objects]
            frames, labels = self._view(clip, chosen, int(objects[0]), rng)
            left = [label for label in objects if (labels[0] == label).any()]
            if left:
                break
        objects = np.array(left or objects[:1])
        masks = np.stack([np.where(labels == VOID, VOID, labels == label) for label in objects])
        masks = masks.astype(np.uint8)
        return {
            "name": f"{clip.name}, frames {chosen}, objects {objects.tolist()}",
            "frames": frames,
            "masks": masks,
            "interaction": np.stack([self.user(mask[0], rng) for mask in masks]),
        }

    def _frames(self, start: int, direction: int, length: int, rng: np.random.Generator) -> list[int]:
        room = length - 1 - start if direction > 0 else start
        steps = rng.permutation(min(self.window, room))[: self.num_frames - 1] + 1
        return [start, *(start + direction * step for step in sorted(steps.tolist()))]

    def _view(
        self, clip: Clip, chosen: list[int], label: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames [T, S, S, 3] and labels [T, S, S] around an object of the first one, augmented."""
        frames, labels = clip.frames[chosen], clip.labels[chosen]
        side = max(1, round(self.crop / float(np.exp(rng.uniform(*np.log(self.zoom))))))
        pixels = np.argwhere(labels[0] == label)
        corner = [
            _corner(int(pixel), side, size, rng)
            for pixel, size in zip(pixels[rng.integers(len(pixels))], labels.shape[1:], strict=True)
        ]
        frames, labels = _cut(frames, corner, side, 0), _cut(labels, corner, side, VOID)
        resized = self.resize(images=frames, masks=labels)
        self.augment.set_random_seed(int(rng.integers(2**31)))
        result = self.augment(images=resized["images"], masks=resized["masks"])
        return np.ascontiguousarray(result["images"]), np.ascontiguousarray(result["masks"])


def _areas(labels: NDArray[np.uint8], num_objects: int) -> NDArray[np.int64]:
    """Pixels of each object [N] in labels [h, w]."""
    return np.bincount(labels.ravel(), minlength=256)[1 : num_objects + 1]


def _corner(pixel: int, side: int, size: int, rng: np.random.Generator) -> int:
    """Where a square that holds a pixel begins: inside the frame if it fits, around all of it if not."""
    if side >= size:
        return int(rng.integers(size - side, 1))
    return int(rng.integers(max(0, pixel - side + 1), min(pixel, size - side) + 1))


def _cut(stack: NDArray[np.uint8], corner: ListLike[int], side: int, fill: int) -> NDArray[np.uint8]:
    """[T, h, w, ...] -> [T, side, side, ...] from corner (row, column), which may lie outside."""
    result = np.full((len(stack), side, side, *stack.shape[3:]), fill, np.uint8)
    top, left = max(-corner[0], 0), max(-corner[1], 0)
    part = stack[:, max(corner[0], 0) : corner[0] + side, max(corner[1], 0) : corner[1] + side]
    result[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    return result


class NumberedLoader(DataLoader[Sample]):
    """Batches by number: goes on where it was when a checkpoint was written, within an epoch too.

    Args:
        samples: the samples, by number.
        batch_size: samples of a batch.
        num_batches: of an epoch.
        rank: which of several processes this is.
        world_size: how many there are; they take turns.
        options: see :class:`torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        samples: Dataset[Sample],
        batch_size: int,
        num_batches: int,
        rank: int = 0,
        world_size: int = 1,
        **options: Any,
    ) -> None:
        numbers = _Numbers(batch_size, num_batches, rank, world_size)
        super().__init__(samples, batch_sampler=numbers, collate_fn=collate, **options)  # type: ignore[arg-type]
        self.numbers = numbers

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            self.numbers.done += 1
            yield batch  # type: ignore[misc]

    def state_dict(self) -> dict[str, int]:
        """How far it is."""
        return {"batches_done": self.numbers.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.numbers.done = state["batches_done"]


class _Numbers:
    """The numbers of the samples of each batch that is left of an epoch."""

    def __init__(self, batch_size: int, num_batches: int, rank: int, world_size: int) -> None:
        self.batch_size, self.num_batches = batch_size, num_batches
        self.rank, self.world_size = rank, world_size
        self.done = 0  # batches handed out in all epochs

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        start = self.done
        for batch in range(start, (start // self.num_batches + 1) * self.num_batches):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


class TrainingData(pl.LightningDataModule):
    """Mini-sequences to train on, and whole clips to validate on.

    The videos are decoded once and held in memory (four bytes for each pixel of each frame).

    Args:
        train: the videos to train on, or several sets of them.
        val: the videos to validate on; None: no validation.
        samples: makes the samples from the clips: :class:`MiniSequences` with all but its clips given.
        batch_size: samples of a batch.
        num_batches: of an epoch.
        val_clips: validate on that many of the videos, spread over all of them; None: on all.
        num_workers: processes that make samples; 0: none but the one that trains. It changes no sample.
    """

    def __init__(
        self,
        train: DavisFolder | ListLike[DavisFolder],
        val: DavisFolder | None,
        samples: Callable[[ListLike[Clip]], MiniSequences],
        batch_size: int,
        num_batches: int,
        val_clips: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.train = [train] if isinstance(train, DavisFolder) else list(train)
        self.val, self.samples = val, samples
        self.batch_size, self.num_batches, self.val_clips = batch_size, num_batches, val_clips
        self.num_workers = num_workers
        self._train: MiniSequences | None = None
        self._loader: NumberedLoader | None = None
        self._batches_done = 0
        self._val: list[Clip] = []

    def setup(self, stage: str) -> None:
        """Decode the videos."""
        if self._train is not None:
            return
        self._train = self.samples([load_clip(sequence) for folder in self.train for sequence in folder])
        if self.val is not None:
            count = min(self.val_clips or len(self.val), len(self.val))
            picks = np.linspace(0, len(self.val) - 1, count).round().astype(int)
            self._val = [load_clip(self.val[int(i)]) for i in picks]

    def train_dataloader(self) -> NumberedLoader:
        """Batches of mini-sequences."""
        assert self._train is not None
        trainer = self.trainer
        self._loader = NumberedLoader(
            self._train,
            self.batch_size,
            self.num_batches,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            num_workers=self.num_workers,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
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
        """Clips, one by one; processes take turns. All of them take as many turns: some end with None."""
        if not self._val:
            return []
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        padded = [*self._val, *([None] * (-len(self._val) % processes))]
        return DataLoader(padded[rank::processes], batch_size=None)  # type: ignore[arg-type]


def load_clip(sequence: Sequence) -> Clip:
    """A video of a DAVIS folder, decoded."""
    return Clip(sequence.name, sequence.load_frames(), sequence.load_annotations(), sequence.num_objects)
