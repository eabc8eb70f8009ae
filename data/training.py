"""Training data: mini-sequences cut out of videos, with the strokes of a simulated user."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as ListLike
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from data.files import VOID, DataError
from data.mixture import Mixture
from data.stills import StillMotion
from data.videos import Sequence, VideoSet
from ivos.interaction.samples import Batch, Clip, Sample, Video, collate
from ivos.interaction.simulate import SimulatedUser

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for newer versions

import albumentations as A

log = logging.getLogger(__name__)
_ATTEMPTS = 8


class MiniSequences(Dataset[Sample]):
    """Samples by number, without end: a function of (seed, number), whoever asks and in whatever order.

    A sample is an annotated frame that shows an object and some of the frames that follow it, forward or
    backward; of a video that has masks on some frames alone, these are its frames. A square around a pixel of
    an object is cut out of all of them and enlarged or reduced; where it reaches beyond the frame the image
    is black and the mask void (255). Objects that are not on the annotated frame are left out; one that
    vanishes later has empty masks from there on; frames before an object's masks begin (``Video.begins``) are
    void for it.

    Args:
        videos: what samples are cut out of; only the frames that a sample needs are read.
        num_frames: T, frames of a sample (1: single frames, for A-Net).
        window: the frames that follow are drawn from this many after the annotated one; a shorter video
            offers what it has. At least T - 1.
        crop: side of a sample, in pixels, a multiple of 32.
        zoom: smallest and largest enlargement.
        short_side: the enlargement is that of frames whose shorter side is so many pixels, so that sets of
            different sizes show objects alike; None: of the frames as they are.
        max_objects: of a sample; which ones is drawn.
        min_area: pixels of an object that can be annotated.
        user: draws the strokes.
        augment: albumentations that leave the size as it is, applied alike to all frames and masks.
        stills: makes clips out of videos of a single frame where T is larger; None: they are left out.
        seed: see above.

    Raises:
        DataError: no video can be used, or an argument cannot.
    """

    def __init__(
        self,
        videos: ListLike[Video],
        num_frames: int = 5,
        window: int = 7,
        crop: int = 384,
        zoom: tuple[float, float] = (1.0, 1.0),
        short_side: int | None = None,
        max_objects: int = 1,
        min_area: int = 32,
        user: SimulatedUser | None = None,
        augment: ListLike[A.BasicTransform] = (),
        stills: StillMotion | None = None,
        seed: int = 0,
    ) -> None:
        if crop % 32 or crop <= 0:
            raise DataError(f"crop: a multiple of 32 is needed, got {crop}")
        if not 1 <= num_frames <= window + 1:
            raise DataError(f"num_frames={num_frames}: with window={window}, 1 to {window + 1} are possible")
        if not 0 < zoom[0] <= zoom[1]:
            raise DataError(f"zoom: above 0 and in order, got {list(zoom)}")
        self.num_frames, self.window, self.crop, self.zoom = num_frames, window, crop, zoom
        self.short_side, self.max_objects, self.min_area = short_side, max_objects, min_area
        self.stills, self.seed = stills, seed
        self.user = user or SimulatedUser()
        self.resize = A.Resize(crop, crop)
        self.reduce = A.Resize(crop, crop, cv2.INTER_AREA)  # linear, it would pass over pixels
        self.augment = A.Compose(list(augment))
        found = [(video, self._starts(video)) for video in videos]
        self.videos = [video for video, starts in found if len(starts)]
        self.starts = [starts for _, starts in found if len(starts)]
        self._report([video for video, starts in found if not len(starts)])

    def _report(self, left_out: list[Video]) -> None:
        """Name the videos that cannot be used; refuse to go on without any that can."""
        total = len(self.videos) + len(left_out)
        if not self.videos and self.num_frames > 1 and {len(video.areas) for video in left_out} == {1}:
            raise DataError(
                f"no clip to train on: all {total} are single images, where {self.num_frames} frames are "
                "asked for; they can feed A-Net, and T-Net if they are made to move (data.samples.stills)"
            )
        if not self.videos:
            raise DataError(
                f"no clip to train on: of {total}, none has {self.num_frames} frames in a row that begin "
                f"with an object of at least {self.min_area} pixels (num_frames, min_area)"
            )
        if left_out:
            log.warning(
                "%d of %d clips are left out, being shorter than %d frames or without objects: %s",
                len(left_out), total, self.num_frames, ", ".join(video.name for video in left_out[:5]),
            )  # fmt: skip

    def _starts(self, video: Video) -> NDArray[np.int64]:
        """What a sample can begin with: rows (frame, 1 forward or -1 backward)."""
        last = len(video.areas) - 1
        shown = np.flatnonzero((video.areas >= self.min_area).any(1)).tolist()
        if last == 0 and self.stills:
            return np.array([(t, 1) for t in shown], np.int64).reshape(-1, 2)
        rows = [
            (t, direction)
            for t in shown
            for direction, room in ((1, last - t), (-1, t))
            if room >= self.num_frames - 1 and (self.num_frames > 1 or direction == 1)
        ]
        return np.array(rows, np.int64).reshape(-1, 2)

    def __getitem__(self, number: int) -> Sample:
        """Sample of this number; see the class."""
        rng = np.random.default_rng([self.seed, number])
        index = int(rng.integers(len(self.videos)))
        video = self.videos[index]
        start, direction = self.starts[index][rng.integers(len(self.starts[index]))].tolist()
        chosen = self._frames(start, direction, len(video.areas), rng)
        visible = 1 + np.flatnonzero(video.areas[start] >= self.min_area)
        whole = video.read(chosen)
        for _ in range(_ATTEMPTS):  # the augmentation may push the objects out of the picture
            objects = rng.permutation(visible)[: self.max_objects]
            frames, labels = self._view(*whole, int(objects[0]), rng)
            left = [label for label in objects if (labels[0] == label).any()]
            if left:
                break
        objects = np.array(left or objects[:1])
        masks = np.stack([np.where(labels == VOID, VOID, labels == label) for label in objects])
        masks = masks.astype(np.uint8)
        if video.begins:
            for mask, label in zip(masks, objects, strict=True):
                mask[np.array(chosen) < video.begins[label - 1]] = VOID
        return {
            "name": f"{video.name}, frames {chosen}, objects {objects.tolist()}",
            "frames": frames,
            "masks": masks,
            "interaction": np.stack([self.user(mask[0], rng) for mask in masks]),
        }

    def _frames(self, start: int, direction: int, length: int, rng: np.random.Generator) -> list[int]:
        if length == 1:
            return [start]
        room = length - 1 - start if direction > 0 else start
        steps = rng.permutation(min(self.window, room))[: self.num_frames - 1] + 1
        return [start, *(start + direction * step for step in sorted(steps.tolist()))]

    def _view(
        self, frames: NDArray[np.uint8], labels: NDArray[np.uint8], label: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames [T, S, S, 3] and labels [T, S, S] around an object of the first one, augmented."""
        size = labels.shape[1:]
        zoom = float(np.exp(rng.uniform(*np.log(self.zoom))))
        if self.short_side:
            zoom *= self.short_side / min(size)
        side = max(1, round(self.crop / zoom))
        pixels = np.argwhere(labels[0] == label)
        corner = [
            _corner(int(pixel), side, length, rng)
            for pixel, length in zip(pixels[rng.integers(len(pixels))], size, strict=True)
        ]
        frames, labels = _cut(frames, corner, side, 0), _cut(labels, corner, side, VOID)
        resize = self.reduce if side >= 2 * self.crop else self.resize
        resized = resize(images=frames, masks=labels)
        frames, labels = resized["images"], resized["masks"]
        if len(frames) < self.num_frames and self.stills:
            frames, labels = self.stills(frames[0], labels[0], self.num_frames, rng)
        self.augment.set_random_seed(int(rng.integers(2**31)))
        result = self.augment(images=frames, masks=labels)
        return np.ascontiguousarray(result["images"]), np.ascontiguousarray(result["masks"])


class MixedSamples(Dataset[Sample]):
    """Samples by number from several sets, each as often as its weight says; a function of (seed, number).

    Args:
        parts: the samples of each set, by name.
        weights: of each set; they need not sum to 1.
        seed: see above.
    """

    def __init__(self, parts: Mapping[str, MiniSequences], weights: Mapping[str, float], seed: int) -> None:
        self.parts, self.seed = dict(parts), seed
        self.shares = np.array([weights[name] for name in parts]) / sum(weights[name] for name in parts)

    def __getitem__(self, number: int) -> Sample:
        """Sample of this number."""
        # One number more than in MiniSequences: this draw says nothing about those.
        rng = np.random.default_rng([self.seed, number, 1])
        name = list(self.parts)[int(rng.choice(len(self.shares), p=self.shares))]
        sample = self.parts[name][number]
        sample["name"] = f"{name}: {sample['name']}"
        return sample


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

    Of videos on disk samples read the frames they need; small sets are decoded once and held in memory, which
    is faster and gives the same samples.

    Args:
        train: the videos to train on, or a mixture of sets.
        val: the videos to validate on; None: no validation.
        samples: makes the samples from videos: :class:`MiniSequences` with all but its videos given.
        batch_size: samples of a batch.
        num_batches: of an epoch.
        val_clips: validate on that many of the videos, spread over all of them; None: on all.
        val_frames: validate on that many frames in a row of each; None: on all of them.
        num_workers: processes that make samples; 0: none but the one that trains. It changes no sample.
        memory_mib: a set whose decoded frames and masks take no more than this is held in memory.
    """

    def __init__(
        self,
        train: VideoSet | Mixture,
        val: VideoSet | None,
        samples: Callable[[ListLike[Video]], MiniSequences],
        batch_size: int,
        num_batches: int,
        val_clips: int | None = None,
        val_frames: int | None = None,
        num_workers: int = 0,
        memory_mib: int = 512,
    ) -> None:
        super().__init__()
        self.train, self.val, self.samples = train, val, samples
        self.batch_size, self.num_batches = batch_size, num_batches
        self.val_clips, self.val_frames = val_clips, val_frames
        self.num_workers, self.memory_mib = num_workers, memory_mib
        self._train: MiniSequences | MixedSamples | None = None
        self._loader: NumberedLoader | None = None
        self._batches_done = 0
        self._val: ListLike[Clip] | _Clips = []

    def setup(self, stage: str) -> None:
        """See which samples there can be; decode the sets that are held in memory."""
        if self._train is not None:
            return
        if isinstance(self.train, Mixture):
            parts = {name: self._samples(part.videos, name) for name, part in self.train.parts.items()}
            weights = {name: part.weight for name, part in self.train.parts.items()}
            self._train = MixedSamples(parts, weights, next(iter(parts.values())).seed)
        else:
            self._train = self._samples(self.train)
        if self.val is not None:
            shown = [i for i in range(len(self.val)) if self.val[i].num_objects]
            if not shown:
                raise DataError("data.val: no clip shows an object")
            count = min(self.val_clips or len(shown), len(shown))
            picks = np.linspace(0, len(shown) - 1, count).round().astype(int)
            clips = _Clips([self.val[shown[i]] for i in picks], self.val_frames)
            self._val = [clips[i] for i in range(count)] if self._fits(clips.sequences) else clips

    def _samples(self, videos: VideoSet, name: str = "") -> MiniSequences:
        try:
            return self.samples([load_clip(v) for v in videos] if self._fits(videos) else videos)
        except DataError as error:
            raise DataError(f"{name}: {error.headline}" if name else error.headline, error.problems) from None

    def _fits(self, videos: ListLike[Sequence]) -> bool:
        return sum(4 * v.num_frames * v.size[0] * v.size[1] for v in videos) <= self.memory_mib << 20

    def first_samples(self, count: int) -> Batch:
        """The samples of the lowest numbers as a batch, the same for all processes."""
        assert self._train is not None
        return collate([self._train[number] for number in range(count)])

    def train_dataloader(self) -> NumberedLoader:
        """Batches of mini-sequences."""
        assert self._train is not None
        trainer = self.trainer
        rank, world_size = self._place()
        if self.num_workers:
            # Its processes are many, and OpenCV would start a thread for each core in each of them. They are
            # forked, which OpenCV's threads do not survive: it is to be said here, where those can end.
            cv2.setNumThreads(1)
        self._loader = NumberedLoader(
            self._train,
            self.batch_size,
            self.num_batches,
            rank=rank,
            world_size=world_size,
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


class _Clips(Dataset[Clip]):
    """Clips to validate on, decoded when they are asked for.

    Args:
        sequences: the videos.
        num_frames: that many in a row of each, from the first frame that shows most of the objects, or
            earlier where the video ends before; None: all.
    """

    def __init__(self, sequences: list[Sequence], num_frames: int | None) -> None:
        self.sequences, self.num_frames = sequences, num_frames

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Clip:
        sequence = self.sequences[index]
        length = min(self.num_frames or sequence.num_frames, sequence.num_frames)
        first = min(int((sequence.areas > 0).sum(1).argmax()), sequence.num_frames - length)
        return load_clip(sequence, range(first, first + length))


def load_clip(sequence: Sequence, frames: range | None = None) -> Clip:
    """A video on disk, or some frames in a row of it, decoded."""
    frames = frames or range(sequence.num_frames)
    begins = tuple(max(0, begin - frames.start) for begin in sequence.begins)
    return Clip(sequence.name, *sequence.read(frames), sequence.num_objects, begins)
