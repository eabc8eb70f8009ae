"""Video in DAVIS layout, any folder of it: checked before any work, then read sequence by sequence.

::

    ROOT/ImageSets/2017/val.txt            names of the sequences, one a line
    ROOT/JPEGImages/480p/bear/00000.jpg    frames
    ROOT/Annotations/480p/bear/00000.png   masks, object numbers as palette indices; 255 is void
    ROOT/Scribbles/bear/001.json           strokes of a first round (optional; 002.json, ... others)
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Sequence as ListLike
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.errors import UserError
from ivos.interaction import ScribbleError, Scribbles, read_scribbles

VOID = 255
# A greyscale file has no palette that would tell object numbers from grey levels; the darkest grey that
# the DAVIS colour of object 1 can turn into is 38.
MAX_GREY_LABEL = 32
_LABEL_MODES = ("P", "L", "1")
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises
_SHOWN = 20

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class DataError(UserError):
    """Data that cannot be used.

    Args:
        headline: what is wrong, in a sentence.
        problems: the offending files with their faults; the message shows the first twenty, one a line.
    """

    def __init__(self, headline: str, problems: Iterable[str] = ()) -> None:
        self.headline = headline
        self.problems = tuple(problems)
        super().__init__(headline, self.problems)

    def __str__(self) -> str:
        lines = [self.headline, *self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"... and {len(self.problems) - _SHOWN} more ({len(self.problems)} in all)")
        return "\n  ".join(lines)


@dataclass(frozen=True)
class Sequence:
    """The files of one video.

    Attributes:
        name: its name in ImageSets.
        frames: T JPEG files, in order.
        annotations: T mask files, one for each frame.
        scribbles: files with the strokes of a first round; empty where a robot is to draw them.
        size: width and height of all frames and masks, in pixels.
        num_objects: N, the highest label (but 255) of the first frame.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    scribbles: tuple[Path, ...]
    size: tuple[int, int]
    num_objects: int

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def num_scribbles(self) -> int:
        """How many evaluations start on this video: one for each scribble file, or one without any."""
        return len(self.scribbles) or 1

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
        return self._stack(self.annotations, read_mask, ())

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
                raise DataError(
                    f"{path}: is {_by(image.shape[1::-1])} now, was {_by(self.size)} when checked"
                )
            target[:] = image
        return stack


class DavisFolder(ListLike[Sequence]):
    """The sequences of a subset of a folder in DAVIS layout: an immutable list, ordered by name.

    Every file of the selected sequences is decoded and checked when the folder is opened, so that nothing
    fails half-way through a long run. It costs about 3 ms of processor time per 854x480 frame with its mask,
    spread over threads: on one core 6 s for the 1999 frames of DAVIS 2017 val, 18 s for all 6208 of trainval.

    Args:
        root: the folder with ImageSets, JPEGImages, Annotations and (optionally) Scribbles.
        subset: the name of a list in ImageSets; "trainval" is train and val where it has no list of its own.
        sequences: names to keep of the subset; None for all of them.
        year: the folder of the lists in ImageSets.
        resolution: the folder of the frames in JPEGImages and of the masks in Annotations.

    Raises:
        DataError: all that is wrong with the folder, every offending file named.
    """

    def __init__(
        self,
        root: str | Path,
        subset: str = "val",
        sequences: ListLike[str] | None = None,
        year: str = "2017",
        resolution: str = "480p",
    ) -> None:
        self.root = Path(root)
        self.subset = subset
        self._frames = self.root / "JPEGImages" / resolution
        self._masks = self.root / "Annotations" / resolution
        self._check_layout(self.root / "ImageSets" / str(year))
        names = self._select(self.root / "ImageSets" / str(year), sequences)
        self._sequences = self._open(names)

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

    def _check_layout(self, lists: Path) -> None:
        missing = [folder for folder in (lists, self._frames, self._masks) if not folder.is_dir()]
        if missing:
            raise DataError(
                f"{self.root} is not a folder in DAVIS layout "
                "(ImageSets/YEAR/SUBSET.txt, JPEGImages/RESOLUTION/SEQUENCE/*.jpg, "
                "Annotations/RESOLUTION/SEQUENCE/*.png); missing:",
                [f"{folder.relative_to(self.root)}{_instead(folder)}" for folder in missing],
            )

    def _select(self, lists: Path, sequences: ListLike[str] | None) -> list[str]:
        subsets = {path.stem: [path] for path in sorted(lists.glob("*.txt"))}
        if "train" in subsets and "val" in subsets:
            subsets.setdefault("trainval", subsets["train"] + subsets["val"])
        if self.subset not in subsets:
            raise DataError(f"{lists} has no subset {self.subset!r}; it has: {_listing(subsets)}")
        names = {name for path in subsets[self.subset] for name in path.read_text().split()}
        if not names:
            raise DataError(f"subset {self.subset!r} of {self.root} lists no sequence")
        if sequences is None:
            return sorted(names)
        wanted = {sequences} if isinstance(sequences, str) else set(map(str, sequences))
        unknown = sorted(wanted - names)
        if unknown or not wanted:
            what = f"no sequence {_listing(unknown)}" if unknown else "no sequence selected"
            raise DataError(f"subset {self.subset!r} of {self.root}: {what}; it has: {_listing(names)}")
        return sorted(wanted)

    def _open(self, names: list[str]) -> tuple[Sequence, ...]:
        files = {
            name: (_files(self._frames / name, ".jpg"), _files(self._masks / name, ".png")) for name in names
        }
        frames = _in_threads(_inspect_frame, [path for pair in files.values() for path in pair[0]])
        masks = _in_threads(_inspect_mask, [path for pair in files.values() for path in pair[1]])
        opened, problems = [], []
        for name, pair in files.items():
            sequence, found = self._check_sequence(name, *pair, frames, masks)
            problems += [problem.removeprefix(f"{self.root}{os.sep}") for problem in found]
            opened += [] if sequence is None else [sequence]
        if problems:
            raise DataError(f"{self.root}, subset {self.subset!r}: unusable data", problems)
        return tuple(opened)

    def _check_sequence(
        self,
        name: str,
        frames: list[Path],
        masks: list[Path],
        frame_facts: "dict[Path, _Facts]",
        mask_facts: "dict[Path, _Facts]",
    ) -> tuple[Sequence | None, list[str]]:
        """The sequence (None where it cannot be used) and its problems, each led by the file's path."""
        problems = [] if frames else [f"{self._frames / name}: no frames (*.jpg)"]
        problems += [] if masks else [f"{self._masks / name}: no masks (*.png)"]
        problems += _unpaired(frames, masks) if frames and masks else []
        facts = {path: frame_facts[path] for path in frames} | {path: mask_facts[path] for path in masks}
        problems += [f"{path}: {fact.problem}" for path, fact in facts.items() if fact.problem]
        size = _common_size([fact for fact in facts.values() if not fact.problem])
        problems += [
            f"{path}: is {_by(fact.size)}, the sequence's frames are {_by(size)}"
            for path, fact in facts.items()
            if not fact.problem and fact.size != size
        ]
        num_objects, found = _check_labels(masks, mask_facts)
        scribbles = _files(self.root / "Scribbles" / name, ".json")
        problems += found + _check_scribbles(scribbles, name, len(frames) or None, num_objects)
        if problems or num_objects is None:
            return None, problems
        return Sequence(name, tuple(frames), tuple(masks), tuple(scribbles), size, num_objects), []


class _Facts(NamedTuple):
    """What a look at an image file found out."""

    size: tuple[int, int] = (0, 0)
    labels: frozenset[int] = frozenset()
    problem: str = ""


def read_frame(path: Path) -> NDArray[np.uint8]:
    """A picture file as uint8 [h, w, 3] RGB, its orientation tag ignored as DAVIS tools do.

    Raises:
        DataError: the file is missing or no picture.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(f"{path}: missing or unreadable")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The labels of a mask file (palette indices, or grey levels where it has no palette), uint8 [h, w].

    Raises:
        DataError: the file is missing, truncated, or holds colours instead of labels.
    """
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
    except _UNREADABLE as error:
        raise DataError(f"{path}: unreadable ({_reason(error)})") from error
    if mode not in _LABEL_MODES:
        raise DataError(f"{path}: {_not_labels(mode)}")
    return pixels.astype(np.uint8)


def _inspect_frame(path: Path) -> _Facts:
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft(None, (1, 1))  # an eighth of the size: reads the whole file, computes little
            image.load()
    except _UNREADABLE as error:
        return _Facts(problem=f"unreadable ({_reason(error)})")
    return _Facts(size)


def _inspect_mask(path: Path) -> _Facts:
    try:
        with Image.open(path) as image:
            image.verify()  # the check sums, which decoding passes over
        with Image.open(path) as image:
            mode, size, counts = image.mode, image.size, image.histogram()
    except _UNREADABLE as error:
        return _Facts(problem=f"unreadable ({_reason(error)})")
    if mode not in _LABEL_MODES:
        return _Facts(problem=_not_labels(mode))
    labels = {label for label, count in enumerate(counts) if count}
    if mode == "1":  # pixels are 0 and 1, but the histogram counts them at 0 and 255
        labels = {min(label, 1) for label in labels}
    highest = max(labels - {VOID}, default=0)
    if mode == "L" and highest > MAX_GREY_LABEL:
        return _Facts(problem=f"a greyscale mask with the value {highest}: a grey level, no object number")
    return _Facts(size, frozenset(labels))


def _check_labels(masks: list[Path], facts: dict[Path, _Facts]) -> tuple[int | None, list[str]]:
    """The number of objects in the first frame (None if unknown), and the masks that do not fit it."""
    if not masks or facts[masks[0]].problem:
        return None, []
    first = facts[masks[0]]
    objects = first.labels - {0, VOID}
    if not objects:
        return None, [f"{masks[0]}: no object in the first frame"]
    problems = []
    for path in masks[1:]:
        extra = facts[path].labels - first.labels - {0, VOID}
        if extra:
            problems.append(f"{path}: has label {_listing(extra)}, which the first frame lacks")
    return max(objects), problems


def _check_scribbles(
    files: list[Path], name: str, num_frames: int | None, num_objects: int | None
) -> list[str]:
    """The problems of a sequence's scribble files, which must be 001.json, 002.json, ..."""
    numbered = [path for path in files if re.fullmatch(r"\d+", path.stem)]
    problems = [f"{path}: not named by a number (001.json)" for path in files if path not in numbered]
    for number, path in enumerate(numbered, start=1):
        if int(path.stem) != number:
            missing = path.with_name(f"{number:03d}.json")
            problems.append(f"{missing}: missing, but {path.name} is there")
            break
    for path in numbered:
        try:
            frames = read_scribbles(path, name, num_frames, num_objects)["scribbles"]
        except ScribbleError as error:
            problems.append(str(error))
            continue
        annotated = sum(bool(strokes) for strokes in frames)
        if annotated != 1:
            problems.append(f"{path}: strokes on {annotated} frames; a first round has them on one")
    return problems


def _unpaired(frames: list[Path], masks: list[Path]) -> list[str]:
    frame_stems, mask_stems = {path.stem for path in frames}, {path.stem for path in masks}
    return [f"{path}: frame without a mask" for path in frames if path.stem not in mask_stems] + [
        f"{path}: mask without a frame" for path in masks if path.stem not in frame_stems
    ]


def _common_size(facts: list[_Facts]) -> tuple[int, int]:
    """The size that most files have, frames before masks, so that the odd ones out are complained about."""
    sizes = Counter(fact.size for fact in facts)
    return sizes.most_common(1)[0][0] if sizes else (0, 0)


def _files(folder: Path, suffix: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix == suffix and not p.name.startswith("."))


def _in_threads(function: Callable[[_In], _Out], items: list[_In]) -> dict[_In, _Out]:
    with ThreadPoolExecutor() as pool:  # decoding lets go of the interpreter lock
        return dict(zip(items, pool.map(function, items), strict=True))


def _not_labels(mode: str) -> str:
    return f"a {mode} image, not a mask with a palette: object numbers cannot be told from its colours"


def _reason(error: Exception) -> str:
    """The error's words without the path that some carry."""
    strerror = getattr(error, "strerror", None)
    return strerror or re.sub(r" file '.*'", " file", str(error))


def _instead(folder: Path) -> str:
    """What lies beside a missing folder, as a hint."""
    if not folder.parent.is_dir():
        return ""
    there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
    return f" (there is: {_listing(there)})" if there else ""


def _listing(names: Iterable[object]) -> str:
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"
