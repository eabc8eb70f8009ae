"""Videos on disk: which files they have, and the frames that are asked for."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as ListLike
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from data.files import DataError, Facts, by, listing, read_frame, read_labels
from ivos.interaction import Scribbles, read_scribbles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sequence:
    """The files of one video; an image with its mask is a video of one frame.

    Attributes:
        name: unique in its data set.
        frames: T picture files, in order.
        annotations: T mask files, one for each frame.
        scribbles: files with the strokes of a first round; empty where a robot is to draw them.
        size: width and height of all frames and masks, in pixels.
        num_objects: N, the highest object number.
        areas: pixels of each object on each frame, int64 [T, N].
        begins: the frame that each object's masks begin on (N of them; empty: all on frame 0). Before it the
            set does not say where the object is.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    scribbles: tuple[Path, ...]
    size: tuple[int, int]
    num_objects: int
    areas: NDArray[np.int64] = field(compare=False, repr=False)
    begins: tuple[int, ...] = ()

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def num_scribbles(self) -> int:
        """How many evaluations start on this video: one for each scribble file, or one without any."""
        return len(self.scribbles) or 1

    def read(self, frames: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames uint8 [n, h, w, 3] RGB and labels uint8 [n, h, w] of the frames of these numbers.

        Raises:
            DataError: a file has become unreadable or changed its size since the check.
        """
        chosen = list(frames)
        return (
            self._stack([self.frames[t] for t in chosen], read_frame, (3,)),
            self._stack([self.annotations[t] for t in chosen], read_labels, ()),
        )

    def load_frames(self) -> NDArray[np.uint8]:
        """The frames, uint8 [T, h, w, 3] RGB; greyscale ones get three equal channels.

        Raises:
            DataError: a file has become unreadable or changed its size since the check.
        """
        return self._stack(self.frames, read_frame, (3,))

    def load_annotations(self) -> NDArray[np.uint8]:
        """The masks, uint8 [T, h, w]: 0 background, 1..N objects, 255 void.

        Raises:
            DataError: a file has become unreadable or changed its size since the check.
        """
        return self._stack(self.annotations, read_labels, ())

    def load_scribbles(self, index: int) -> Scribbles:
        """The strokes of scribble file ``index``, counted from 1 as in its name.

        Raises:
            IndexError: there is no such file.
            ScribbleError: the file has become unusable since the check.
        """
        if not 1 <= index <= len(self.scribbles):
            raise IndexError(f"{self.name} has {len(self.scribbles)} scribble files, no number {index}")
        return read_scribbles(self.scribbles[index - 1], self.name, self.num_frames, self.num_objects)

    def _stack(
        self, files: ListLike[Path], read: Callable[[Path], NDArray[np.uint8]], channels: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        width, height = self.size
        stack = np.empty((len(files), height, width, *channels), np.uint8)
        for target, path in zip(stack, files, strict=True):
            image = read(path)
            if image.shape != target.shape:
                raise DataError(f"{path}: is {by(image.shape[1::-1])} now, was {by(self.size)} when checked")
            target[:] = image
        return stack


class VideoSet(ListLike[Sequence]):
    """The videos of a data set: an immutable list, ordered by name.

    Attributes:
        root: the set's folder.
        subset: which part of the set this is.
    """

    root: Path
    subset: str
    _sequences: tuple[Sequence, ...]

    @overload
    def __getitem__(self, index: int) -> Sequence: ...
    @overload
    def __getitem__(self, index: slice) -> ListLike[Sequence]: ...
    def __getitem__(self, index: int | slice) -> Sequence | ListLike[Sequence]:
        return self._sequences[index]

    def __len__(self) -> int:
        return len(self._sequences)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, {self.subset!r}): {len(self)} sequences"


def read_list(path: Path) -> list[str]:
    """The names in a list, one a line."""
    return path.read_text().split()


def select(lists: Path, subset: str, what: str = "sequence") -> list[str]:
    """The names in ``SUBSET.txt`` of a folder; "trainval" is train and val where it has no list of its own.

    Raises:
        DataError: there is no such list, or it is empty.
    """
    subsets = {path.stem: [path] for path in sorted(lists.glob("*.txt"))}
    if "train" in subsets and "val" in subsets:
        subsets.setdefault("trainval", subsets["train"] + subsets["val"])
    if subset not in subsets:
        raise DataError(f"{lists} has no subset {subset!r}; it has: {listing(subsets) or 'no lists (*.txt)'}")
    names = {name for path in subsets[subset] for name in read_list(path)}
    if not names:
        raise DataError(f"{lists}: subset {subset!r} lists no {what}")
    return sorted(names)


def keep(names: ListLike[str], wanted: ListLike[str] | str | None, where: str) -> list[str]:
    """Those of the names that are wanted (None: all).

    Raises:
        DataError: one that is wanted is not among them, or none is wanted.
    """
    if wanted is None:
        return list(names)
    chosen = {wanted} if isinstance(wanted, str) else set(map(str, wanted))
    unknown = sorted(chosen - set(names))
    if unknown or not chosen:
        what = f"no sequence {listing(unknown)}" if unknown else "no sequence selected"
        raise DataError(f"{where}: {what}; it has: {listing(names)}")
    return sorted(chosen)


def check_files(
    frames: ListLike[Path], masks: ListLike[Path], facts: Mapping[Path, Facts]
) -> tuple[tuple[int, int], list[str]]:
    """The size of a video, and which of its files are unreadable or of another size."""
    seen = {path: facts[path] for path in (*frames, *masks)}
    problems = [f"{path}: {fact.problem}" for path, fact in seen.items() if fact.problem]
    size = _common_size([fact for fact in seen.values() if not fact.problem])
    problems += [
        f"{path}: is {by(fact.size)}, the sequence's frames are {by(size)}"
        for path, fact in seen.items()
        if not fact.problem and fact.size != size
    ]
    return size, problems


def areas_of(masks: ListLike[Path], facts: Mapping[Path, Facts], num_objects: int) -> NDArray[np.int64]:
    """Pixels of each object on each mask [T, N]."""
    areas = np.zeros((len(masks), num_objects), np.int64)
    for row, path in zip(areas, masks, strict=True):
        for label, count in facts[path].areas:
            if 1 <= label <= num_objects:
                row[label - 1] = count
    return areas


def _common_size(facts: list[Facts]) -> tuple[int, int]:
    """The size that most files have, frames before masks, so that the odd ones out are complained about."""
    sizes = Counter(fact.size for fact in facts)
    return sizes.most_common(1)[0][0] if sizes else (0, 0)


def usable(
    found: Iterable[Sequence | list[str]], root: Path, subset: str, skip_faulty: bool = False
) -> tuple[Sequence, ...]:
    """The videos of a set that can be used, out of what a look at each has found.

    Args:
        found: of each video, itself, or its problems, each led by a path.
        root: of the set; problems are shown without it.
        subset: the part of the set, as it is shown.
        skip_faulty: leave faulty videos out, with a word, if others are left.

    Raises:
        DataError: with all the problems.
    """
    opened: list[Sequence] = []
    faulty: list[list[str]] = []
    for each in found:
        if isinstance(each, Sequence):
            opened.append(each)
        else:
            faulty.append([problem.removeprefix(f"{root}{os.sep}") for problem in each])
    if faulty and (not skip_faulty or not opened):
        raise DataError(f"{root}, {subset}: unusable data", chain.from_iterable(faulty))
    if faulty:
        log.warning(
            "%s, %s: %d of %d are faulty and left out (skip_faulty), for example %s",
            root, subset, len(faulty), len(faulty) + len(opened), faulty[0][0],
        )  # fmt: skip
    return tuple(opened)
