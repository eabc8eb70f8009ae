"""The files of data sets: read, looked into without being kept, and complained about."""

import os
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.runtime.errors import UserError
from ivos.video.labels import VOID

# A greyscale file has no palette that would tell object numbers from grey levels; the darkest grey that
# the DAVIS colour of object 1 can turn into is 38.
MAX_GREY_LABEL = 32
_LABEL_MODES = ("P", "L", "1")
# What Pillow raises, and a look at a PNG's chunks
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, struct.error, zlib.error)
_SHOWN = 20


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


class FileInfo(NamedTuple):
    """What a look into a picture or mask file has found out."""

    size: tuple[int, int] = (0, 0)  # (width, height)
    areas: tuple[tuple[int, int], ...] = ()  # of a mask: (label, number of its pixels), in order of label
    problem: str = ""  # why it cannot be used

    @property
    def labels(self) -> frozenset[int]:
        """All labels, 0 and 255 among them."""
        return frozenset(label for label, _ in self.areas)

    @property
    def objects(self) -> frozenset[int]:
        """The labels of objects."""
        return self.labels - {0, VOID}


def read_frame(path: Path) -> NDArray[np.uint8]:
    """A picture file as uint8 [h, w, 3] RGB, its orientation tag ignored as DAVIS tools do.

    Raises:
        DataError: the file is missing or no picture.
    """
    image = _by_opencv(path, cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: missing or unreadable")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _by_opencv(path: Path, how: int) -> NDArray[np.uint8] | None:
    """A picture as OpenCV decodes it, BGR; None where it does not."""
    try:
        return cv2.imread(str(path), how | cv2.IMREAD_IGNORE_ORIENTATION)  # type: ignore[return-value]
    except cv2.error:  # of more pixels than it takes
        return None


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The labels of a mask file (palette indices, or grey levels where it has no palette), uint8 [h, w].

    Raises:
        DataError: the file is missing, truncated, no PNG whatever its name, or holds colours, not labels.
    """
    try:
        with Image.open(path) as image:
            fault, pixels = _fault_of_mask(image), np.asarray(image)
    except _UNREADABLE as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error
    if fault:
        raise DataError(f"{path}: {fault}")
    return pixels.astype(np.uint8)


def read_cutout(path: Path) -> NDArray[np.uint8]:
    """The labels [h, w] of a mask that may be a picture, white on black, of one object.

    A file of labels, see :func:`read_mask`, is read as such. In any other PNG what is brighter than half is
    object 1.

    Raises:
        DataError: the file is missing, truncated, or no PNG whatever its name.
    """
    try:
        with Image.open(path) as image:
            fault = _fault_of_format(image)
            pixels = np.asarray(image if _holds_labels(image) else image.convert("L").point(_WHITE))
    except _UNREADABLE as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error
    if fault:
        raise DataError(f"{path}: {fault}")
    return pixels.astype(np.uint8)


_WHITE = [int(value > 127) for value in range(256)]


def _holds_labels(image: Image.Image) -> bool:
    grey = image.mode == "L" and image.getextrema()[1] > MAX_GREY_LABEL  # type: ignore[operator]
    return image.mode in _LABEL_MODES and not grey


def read_instances(path: Path) -> NDArray[np.uint8]:
    """The instances of an SBD file (``GTinst.Segmentation``), uint8 [h, w]: 1..N, 0 background, 255 void.

    Raises:
        DataError: the file is missing, truncated, no MATLAB file of version 5, or of another kind (one of
            ``cls``, for example, which has categories).
    """
    from scipy.io import loadmat  # takes a while to import, and only SBD needs it
    from scipy.io.matlab import MatReadError

    wanted = "GTinst"
    try:
        content = loadmat(path)
        struct = content.get(wanted)
        if struct is None:
            found = listing(name for name in content if not name.startswith("__")) or "nothing"
            raise DataError(f"{path}: holds {found}, not {wanted}: no mask of instances")
        if struct.dtype.names is None or "Segmentation" not in struct.dtype.names:
            raise DataError(f"{path}: {wanted} has no Segmentation")
        labels = struct["Segmentation"][0, 0]
    except DataError:
        raise
    except NotImplementedError as error:
        raise DataError(f"{path}: a MATLAB 7.3 file; SBD's are of version 5") from error
    except (MatReadError, OSError, ValueError, TypeError, LookupError, zlib.error) as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size or labels.max() > VOID:
        raise DataError(
            f"{path}: Segmentation is {labels.dtype} {list(labels.shape)}, not an image of labels"
        )
    return np.asarray(labels, np.uint8)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Labels [h, w] from either kind of file; see :func:`read_mask` and :func:`read_instances`."""
    return read_instances(path) if path.suffix == ".mat" else read_mask(path)


def inspect_file(path: Path, cutouts: bool = False) -> FileInfo:
    """Decode a file to find out all that is to be known of it; a fault is a finding, not an exception.

    Args:
        path: a picture (.jpg), a mask (.png) or instances (.mat).
        cutouts: whether masks are such as :func:`read_cutout` reads.
    """
    looks = {".jpg": _inspect_frame, ".png": _inspect_mask, ".mat": _inspect_instances}
    if cutouts:
        looks[".png"] = _inspect_cutout
    return looks[path.suffix](path)


def _inspect_frame(path: Path) -> FileInfo:
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft(None, (1, 1))  # an eighth of the size: reads the whole file, computes little
            image.load()
    except _UNREADABLE as error:
        return FileInfo(problem=f"unreadable ({reason(error)})")
    # OpenCV, which reads it later, knows other formats than Pillow, but takes half a picture for a whole one.
    reduced = cv2.IMREAD_REDUCED_COLOR_8 if min(size) >= 8 else cv2.IMREAD_COLOR
    if _by_opencv(path, reduced) is None:
        return FileInfo(problem="a picture of a kind that OpenCV cannot read; save it as JPEG")
    return FileInfo(size)


def _inspect_mask(path: Path) -> FileInfo:
    try:
        with Image.open(path) as image:
            image.verify()  # the check sums, which decoding passes over
        with Image.open(path) as image:
            fault, mode, size, counts = _fault_of_mask(image), image.mode, image.size, image.histogram()
        fault = fault or _missing_rows(path.read_bytes())
    except _UNREADABLE as error:
        return FileInfo(problem=f"unreadable ({reason(error)})")
    if fault:
        return FileInfo(problem=fault)
    if mode == "1":  # pixels are 0 and 1, but the histogram counts them at 0 and 255
        counts[1], counts[VOID] = counts[VOID], 0
    found = FileInfo(size, tuple((label, count) for label, count in enumerate(counts) if count))
    highest = max(found.objects, default=0)
    if mode == "L" and highest > MAX_GREY_LABEL:
        return FileInfo(problem=f"a greyscale mask with the value {highest}: a grey level, no object number")
    return found


def _inspect_cutout(path: Path) -> FileInfo:
    try:
        with Image.open(path) as image:
            fault, labels = _fault_of_format(image), _holds_labels(image)
    except _UNREADABLE as error:
        return FileInfo(problem=f"unreadable ({reason(error)})")
    if fault or labels:
        return FileInfo(problem=fault) if fault else _inspect_mask(path)
    try:
        pixels = read_cutout(path)
    except DataError as error:
        return FileInfo(problem=str(error).removeprefix(f"{path}: "))
    return _counted(pixels)


def _inspect_instances(path: Path) -> FileInfo:
    try:
        labels = read_instances(path)
    except DataError as error:
        return FileInfo(problem=str(error).removeprefix(f"{path}: "))
    return _counted(labels)


def _counted(labels: NDArray[np.uint8]) -> FileInfo:
    counts = np.bincount(labels.ravel(), minlength=VOID + 1)
    return FileInfo(
        labels.shape[::-1], tuple((int(label), int(counts[label])) for label in counts.nonzero()[0])
    )


class MaskedFrames(NamedTuple):
    """The files of a video of which not every frame needs to have a mask."""

    frames: list[Path]  # those with a mask
    masks: list[Path]  # theirs
    strays: list[Path]  # masks without a frame
    all_frames: frozenset[str]  # names, with and without a mask


def masked_frames(frames: Path, masks: Path) -> MaskedFrames:
    """Pair the frames (*.jpg) of a folder with the masks (*.png) of another by name; see :func:`files_in`."""
    named = {path.stem: path for path in files_in(frames, ".jpg")}
    found = files_in(masks, ".png")
    paired = [path for path in found if path.stem in named]
    strays = [path for path in found if path.stem not in named]
    return MaskedFrames([named[path.stem] for path in paired], paired, strays, frozenset(named))


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with that suffix, in order of their names; none where there is no folder.

    Hidden files are passed over, and what is no file (a pipe, which would never end).

    Raises:
        DataError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: unreadable ({reason(error)})") from error
    return sorted(path for name in names if (path := folder / name).suffix == suffix)


def listing(names: Iterable[object]) -> str:
    """The names in order, not too many of them."""
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more


def by(size: tuple[int, ...]) -> str:
    """A size as it is written: 854x480."""
    return f"{size[0]}x{size[1]}"


def _fault_of_mask(image: Image.Image) -> str:
    """Why a picture is no image of labels; empty if it is one."""
    if fault := _fault_of_format(image):
        return fault
    if image.mode not in _LABEL_MODES:
        kind = f"a {image.mode} image, not a mask with a palette"
        return f"{kind}: object numbers cannot be told from its colours"
    return ""


def _fault_of_format(image: Image.Image) -> str:
    if image.format == "PNG":
        return ""
    return f"a {image.format} file whatever its name, not PNG, the one format whose pixels are labels"


# Of an interlaced PNG: first column and row of each pass, and the steps to the next ones.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _missing_rows(content: bytes) -> str:
    """What a PNG of one channel lacks of its rows, which Pillow fills up with 0; empty if nothing."""
    width, height, bits, _, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for column, row, across, down in passes:
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        expected += rows * (1 + -(-columns * bits // 8)) if columns > 0 else 0
    stream, found, place, kind = zlib.decompressobj(), 0, 8, b""
    while found < expected and kind != b"IEND":
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if kind == b"IDAT":
            found += len(stream.decompress(content[place + 8 : place + 8 + length], expected - found))
        place += 12 + length
    return f"incomplete: {100 * found // expected} % of its rows are there" if found < expected else ""


def reason(error: Exception) -> str:
    """The error's words without the path that some carry."""
    strerror = getattr(error, "strerror", None)
    return strerror or re.sub(r" file '.*'", " file", str(error))
