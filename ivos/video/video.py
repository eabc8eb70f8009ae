"""Videos on disk: which files they have, and the frames that are asked for."""

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
from ivos.video.labels import VOID, known_pairs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """The files of one video; an image with its mask is a video of one frame.

    Attributes:
        name: unique in its data set.
        frames: T picture files, in order.
        annotations: T mask files, one for each frame.
        scribbles: files with the strokes of a first round; empty where a robot is to draw them.
        size: width and height of all frames and masks, in pixels.
        num_objects: N; objects are numbered 1..N without gaps.
        areas: pixels of each object on each frame, int64 [T, N].
        begins: the frame that each object's masks begin on (N of them; empty: all on frame 0). Before it the
            set does not say where the object is; see :attr:`known`.
        file_labels: the label that each object has in the mask files (N of them; empty: its number).
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
        """The label that each object has in the mask files, N of them."""
        return self.file_labels or tuple(range(1, self.num_objects + 1))

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def num_scribbles(self) -> int:
        """How many evaluations start on this video: one for each scribble file, or one without any."""
        return len(self.scribbles) or 1

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which objects the masks tell of on which frames [T, N]; see :func:`known_pairs`.

        Where it is False, the masks' background is no statement about the object: it is neither learned from
        nor scored.
        """
        return known_pairs(self.begins, self.num_frames, self.num_objects)

    def load(self, frames: range | None = None) -> Clip:
        """All frames, or some in a row, decoded.

        Raises:
            DataError: a file has become unreadable, or changed its size or its labels since the check.
        """
        frames = frames or range(self.num_frames)
        begins = tuple(max(0, begin - frames.start) for begin in self.begins)
        return Clip(self.name, *self.read(frames), self.num_objects, begins)

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames uint8 [n, h, w, 3] RGB and labels uint8 [n, h, w] of the frames of these numbers.

        Raises:
            DataError: a file has become unreadable, or changed its size or its labels since the check.
        """
        chosen = list(frames)
        return (
            self._stack([self.frames[t] for t in chosen], read_frame, (3,)),
            self._stack([self.annotations[t] for t in chosen], self._read_labels, ()),
        )

    def load_frames(self) -> NDArray[np.uint8]:
        """The frames, uint8 [T, h, w, 3] RGB; greyscale ones get three equal channels.

        Raises:
            DataError: a file has become unreadable, or changed its size or its labels since the check.
        """
        return self._stack(self.frames, read_frame, (3,))

    def load_annotations(self) -> NDArray[np.uint8]:
        """The masks, uint8 [T, h, w]: 0 background, 1..N objects, 255 void.

        Raises:
            DataError: a file has become unreadable, or changed its size or its labels since the check.
        """
        return self._stack(self.annotations, self._read_labels, ())

    def read_object(self, path: Path, number: int) -> NDArray[np.uint8]:
        """One object alone of one of the mask files, uint8 [h, w]: 1 where it is, 255 void, else 0."""
        labels = self._read_file(path)
        return np.where(labels == VOID, VOID, labels == self.labels_in_files[number - 1]).astype(np.uint8)

    def _read_file(self, path: Path) -> NDArray[np.uint8]:
        """The labels as they are in a file."""
        return read_labels(path)

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        """The labels of a file as numbers of objects."""
        labels = self._read_file(path)
        if self.labels_in_files == tuple(range(1, self.num_objects + 1)):
            return labels
        unknown = VOID - 1
        numbers = np.full(VOID + 1, unknown, np.uint8)
        numbers[[0, VOID]] = 0, VOID
        numbers[list(self.file_labels)] = np.arange(1, self.num_objects + 1)
        numbered = numbers[labels]
        if (numbered == unknown).any() and self.num_objects < unknown:
            raise DataError(f"{path}: has labels now that it had not when checked")
        return numbered

    def _stack(
        self, files: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]], channels: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        width, height = self.size
        stack = np.empty((len(files), height, width, *channels), np.uint8)
        for target, path in zip(stack, files, strict=True):
            image = read(path)
            if image.shape != target.shape:
                raise DataError(f"{path}: is {by(image.shape[1::-1])} now, was {by(self.size)} when checked")
            target[:] = image
        return stack


class VideoSet(Sequence[Video]):
    """The videos of a data set: an immutable list, ordered by name.

    Attributes:
        root: the set's folder.
        split: which part of the set this is.
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
    """The size of a video, and which of its files are unreadable or of another size."""
    seen = {path: inspected[path] for path in (*frames, *masks)}
    problems = [f"{path}: {info.problem}" for path, info in seen.items() if info.problem]
    size = _common_size([info for info in seen.values() if not info.problem])
    problems += [
        f"{path}: is {by(info.size)}, the video's frames are {by(size)}"
        for path, info in seen.items()
        if not info.problem and info.size != size
    ]
    return size, problems


def areas_of(
    masks: Sequence[Path], inspected: Mapping[Path, FileInfo], file_labels: Sequence[int]
) -> NDArray[np.int64]:
    """Pixels of each object, which has this label in the files, on each mask [T, N]."""
    counts = [dict(inspected[path].areas) for path in masks]
    areas = [[count.get(label, 0) for label in file_labels] for count in counts]
    return np.array(areas, np.int64).reshape(len(masks), len(file_labels))


def _common_size(seen: list[FileInfo]) -> tuple[int, int]:
    """The size that most files have, frames before masks, so that the odd ones out are complained about."""
    sizes = Counter(info.size for info in seen)
    return sizes.most_common(1)[0][0] if sizes else (0, 0)


def usable(
    found: Iterable[Video | list[str]], root: Path, split: str, skip_faulty: bool = False
) -> tuple[Video, ...]:
    """The videos of a set that can be used, out of what a look at each has found.

    Args:
        found: of each video, itself, or its problems, each led by a path.
        root: of the set; problems are shown without it.
        split: the part of the set, as it is shown.
        skip_faulty: leave faulty videos out, with a word, if others are left.

    Raises:
        DataError: with all the problems.
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
