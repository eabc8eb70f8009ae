"""Videos on disk: their files, and the decoding of their frames and masks."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ivos.video.clip import Clip
from ivos.video.files import DataError, FileInfo, by, read_frame, read_labels
from ivos.video.labels import VOID, known_pairs, object_labels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """The files of one video; an image with its mask is a video of one frame.

    Attributes:
        name: A name that is unique in its data set.
        frames: T picture files, in order.
        annotations: T mask files, one for each frame.
        scribbles: Files with the strokes of a first round; empty if a robot draws them.
        size: Width and height of all frames and masks, in pixels.
        num_objects: Number of objects N; they are numbered 1..N without gaps.
        areas: Number of pixels of each object on each frame, int64 [T, N].
        begins: First annotated frame of each of the N objects; empty if all are annotated from frame 0. On
            earlier frames the position of the object is not known; see :attr:`known`.
        file_labels: Labels of the N objects in the mask files; empty if each label equals the object's
            number. Label 255 is possible for the single object of binary masks.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    scribbles: tuple[Path, ...]
    size: tuple[int, int]
    num_objects: int
    areas: NDArray[np.int64] = field(compare=False, repr=False)
    begins: tuple[int, ...] = ()
    file_labels: tuple[int, ...] = ()

    @property
    def labels_in_files(self) -> tuple[int, ...]:
        """The N labels that the objects have in the mask files."""
        return self.file_labels or tuple(range(1, self.num_objects + 1))

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The N numbers that the objects have in scribble files: their labels, with 1 for label 255."""
        return tuple(1 if label == VOID else label for label in self.labels_in_files)

    @property
    def num_frames(self) -> int:
        """The number of frames T."""
        return len(self.frames)

    @property
    def num_scribbles(self) -> int:
        """The number of evaluations of this video: one for each scribble file, or one if it has none."""
        return len(self.scribbles) or 1

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which objects are annotated on which frames, bool [T, N]; see :func:`known_pairs`.

        Where it is False, background in a mask does not mean that the object is absent. Training and scores
        leave out such a pair of frame and object.
        """
        return known_pairs(self.begins, self.num_frames, self.num_objects)

    def load(self, frames: range | None = None) -> Clip:
        """Decode all frames, or a range of frames.

        Raises:
            DataError: A file has become unreadable, or changed its size or its labels since the check.
        """
        frames = frames or range(self.num_frames)
        begins = tuple(max(0, begin - frames.start) for begin in self.begins)
        return Clip(self.name, *self.read(frames), self.num_objects, begins)

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decode the frames with the given numbers, and their masks.

        Returns:
            Frames uint8 [n, h, w, 3] RGB and labels uint8 [n, h, w].

        Raises:
            DataError: A file has become unreadable, or changed its size or its labels since the check.
        """
        chosen = list(frames)
        return (
            self._stack([self.frames[t] for t in chosen], read_frame, (3,)),
            self._stack([self.annotations[t] for t in chosen], self._read_labels, ()),
        )

    def load_frames(self) -> NDArray[np.uint8]:
        """Decode all frames, uint8 [T, h, w, 3] RGB; see :func:`ivos.video.files.read_frame`.

        Raises:
            DataError: A file has become unreadable, or changed its size since the check.
        """
        return self._stack(self.frames, read_frame, (3,))

    def load_annotations(self) -> NDArray[np.uint8]:
        """Decode all masks, uint8 [T, h, w]: 0 background, 1..N objects, 255 void.

        Raises:
            DataError: A file has become unreadable, or changed its size or its labels since the check.
        """
        return self._stack(self.annotations, self._read_labels, ())

    def read_object(self, path: Path, number: int) -> NDArray[np.uint8]:
        """Read the mask of one object from a mask file, uint8 [h, w]: 1 on the object, 255 void, else 0."""
        labels = self._read_file(path)
        label = self.labels_in_files[number - 1]
        void = (labels == VOID) & (label != VOID)
        return np.where(void, VOID, labels == label).astype(np.uint8)

    def _read_file(self, path: Path) -> NDArray[np.uint8]:
        """Read the original labels of a mask file."""
        return read_labels(path)

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        """Read the labels of a file as numbers of objects."""
        labels = self._read_file(path)
        if self.labels_in_files == tuple(range(1, self.num_objects + 1)):
            return labels
        unknown = VOID - 1
        numbers = np.full(VOID + 1, unknown, np.uint8)
        numbers[[0, VOID]] = 0, VOID
        numbers[list(self.file_labels)] = np.arange(1, self.num_objects + 1)
        numbered = numbers[labels]
        if (numbered == unknown).any() and self.num_objects < unknown:
            raise DataError(f"{path}: has labels that it did not have when it was checked")
        return numbered

    def _stack(
        self, files: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]], channels: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        width, height = self.size
        stack = np.empty((len(files), height, width, *channels), np.uint8)
        for target, path in zip(stack, files, strict=True):
            image = read(path)
            if image.shape != target.shape:
                raise DataError(
                    f"{path}: is {by(image.shape[1::-1])} now, but was {by(self.size)} when it was checked"
                )
            target[:] = image
        return stack


@dataclass(frozen=True)
class OverlappingObjects(Video):
    """A video in which each object has a mask of its own, so that objects may overlap.

    In the common labels of all objects, an overlapping pixel belongs to the object that has the fewest pixels
    on that frame, or to the last of objects with equally many. :meth:`Video.read_object` returns the complete
    mask of one object.
    """

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        masks = [self.read_object(path, n) > 0 for n in range(1, self.num_objects + 1)]
        labels = np.zeros(masks[0].shape, np.uint8)
        for index in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
            if masks[index].shape != labels.shape:
                raise DataError(f"{path}: objects' masks are of different sizes")
            labels[masks[index]] = index + 1
        return labels


@dataclass(frozen=True)
class FirstMasksVideo(Video):
    """A video of which only the masks of the frames where objects first appear have been published.

    For all other frames, ``annotations`` contains the path of the frame itself, which is read as background.
    All values of ``begins`` are beyond the last frame, so that no mask is scored.
    """

    def _read_file(self, path: Path) -> NDArray[np.uint8]:
        return np.zeros(self.size[::-1], np.uint8) if path in self.frames else read_labels(path)


class VideoSet(Sequence[Video]):
    """The videos of a data set: an immutable list, ordered by name.

    Attributes:
        root: The folder of the data set.
        split: The part of the data set.
    """

    root: Path
    split: str
    _videos: tuple[Video, ...]

    @overload
    def __getitem__(self, index: int) -> Video: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Video]: ...
    def __getitem__(self, index: int | slice) -> Video | Sequence[Video]:
        return self._videos[index]

    def __len__(self) -> int:
        return len(self._videos)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, {self.split!r}): {len(self)} videos"


def check_files(
    frames: Sequence[Path], masks: Sequence[Path], inspected: Mapping[Path, FileInfo]
) -> tuple[tuple[int, int], list[str]]:
    """Return the size of a video, and the problems of files that are unreadable or have another size."""
    seen = {path: inspected[path] for path in (*frames, *masks)}
    problems = [f"{path}: {info.problem}" for path, info in seen.items() if info.problem]
    size = _common_size([info for info in seen.values() if not info.problem])
    problems += [
        f"{path}: is {by(info.size)}, but the video's frames are {by(size)}"
        for path, info in seen.items()
        if not info.problem and info.size != size
    ]
    return size, problems


def labels_of(masks: Iterable[Path], inspected: Mapping[Path, FileInfo]) -> tuple[int, ...]:
    """Return the labels of the objects in any mask of a video; see :func:`object_labels`."""
    return object_labels(label for path in masks for label in inspected[path].labels)


def areas_of(
    masks: Sequence[Path], inspected: Mapping[Path, FileInfo], file_labels: Sequence[int]
) -> NDArray[np.int64]:
    """Return the number of pixels of each of N labels in each of T masks, int64 [T, N]."""
    counts = [dict(inspected[path].areas) for path in masks]
    areas = [[count.get(label, 0) for label in file_labels] for count in counts]
    return np.array(areas, np.int64).reshape(len(masks), len(file_labels))


def _common_size(seen: list[FileInfo]) -> tuple[int, int]:
    """Return the most frequent size; of several equally frequent sizes, the first one in the list."""
    sizes = Counter(info.size for info in seen)
    return sizes.most_common(1)[0][0] if sizes else (0, 0)


def usable(
    found: Iterable[Video | list[str]], root: Path, split: str, skip_faulty: bool = False
) -> tuple[Video, ...]:
    """Return the videos without problems, or raise an error with the problems of all videos.

    Args:
        found: Each video, or the list of its problems, each of which begins with a path.
        root: The folder of the data set; problems are shown relative to it.
        split: The part of the data set, for messages.
        skip_faulty: Whether to leave out faulty videos, with a warning, as long as others are left.

    Raises:
        DataError: A video is faulty, and `skip_faulty` is false or no video is left.
    """
    opened: list[Video] = []
    faulty: list[list[str]] = []
    for each in found:
        if isinstance(each, Video):
            opened.append(each)
        else:
            faulty.append([problem.removeprefix(f"{root}{os.sep}") for problem in each])
    if faulty and (not skip_faulty or not opened):
        raise DataError(f"{root}, {split}: unusable data", chain.from_iterable(faulty))
    if faulty:
        log.warning(
            "%s, %s: %d of %d are faulty and left out (skip_faulty), for example %s",
            root, split, len(faulty), len(faulty) + len(opened), faulty[0][0],
        )  # fmt: skip
    return tuple(opened)
