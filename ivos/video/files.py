"""Files of data sets: listing, reading of pictures and masks, and inspection before they are used."""

import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.runtime.errors import UserError, listing
from ivos.video.labels import VOID

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""The suffixes of files that are frames, in lower case; upper case is accepted too."""

# The largest value that counts as an object number in a greyscale file, which has no palette to distinguish
# object numbers from grey levels. A DAVIS mask that was converted to grey has values of at least 38.
MAX_GREY_LABEL = 32
_LABEL_MODES = ("P", "L", "1")
# The exceptions for a damaged file, raised by Pillow and by the inspection of a PNG's chunks.
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, struct.error, zlib.error)
_SHOWN = 20  # most problems that a message shows
_ORIENTATION = 0x0112  # the EXIF tag
_ORIENTED_FORMATS = ("JPEG", "WEBP")  # Pillow rotates a TIFF itself

Role = Literal["frame", "mask", "cutout", "segments"]
"""The purpose of a file: a picture (``frame``), or a mask. Masks are read by :func:`read_labels` (``mask``),
:func:`read_cutout` (``cutout``) or :func:`read_segments` (``segments``)."""


class DataError(UserError):
    """The error for data that cannot be used.

    Args:
        headline: One sentence that describes the problem.
        problems: The faulty files with their faults. The message shows the first twenty, one per line.
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
    """The result of inspecting a picture or a mask file.

    Attributes:
        size: Width and height in pixels.
        areas: For a mask, pairs (label, number of its pixels) in the order of the labels; empty for a
            picture.
        problem: The reason why the file cannot be used; empty if it can be used.
    """

    size: tuple[int, int] = (0, 0)
    areas: tuple[tuple[int, int], ...] = ()
    problem: str = ""

    @property
    def labels(self) -> frozenset[int]:
        """All labels, including 0 (background) and 255 (void)."""
        return frozenset(label for label, _ in self.areas)

    @property
    def objects(self) -> frozenset[int]:
        """The labels without 0 and 255."""
        return self.labels - {0, VOID}


def read_frame(path: Path, oriented: bool = False) -> NDArray[np.uint8]:
    """Read a picture file.

    Grey pictures get three equal channels, an alpha channel is dropped, CMYK is converted, and of 16-bit
    values the higher byte is kept.

    Args:
        path: A picture in one of the formats of :data:`PICTURE_SUFFIXES`; its own suffix is ignored.
        oriented: Whether to rotate the picture according to its EXIF orientation tag. The tools of DAVIS
            ignore the tag.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        DataError: The file is missing or is not a picture.
    """
    image = _decode_tiff(path) if _is_tiff(path) else _by_opencv(path, cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: missing or unreadable")
    if oriented and (turn := _TURNS.get(picture_info(path).orientation)) is not None:
        image = np.asarray(Image.fromarray(image).transpose(turn))
    return image


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _by_opencv(path: Path, how: int) -> NDArray[np.uint8] | None:
    """Decode a picture by OpenCV, RGB; return None if OpenCV cannot decode it."""
    try:
        image = cv2.imread(str(path), how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # the picture has more pixels than OpenCV accepts
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _is_tiff(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*")
    except OSError:
        return False


def _decode_tiff(path: Path) -> NDArray[np.uint8] | None:
    """Decode a TIFF file by Pillow, RGB.

    OpenCV is not used for TIFF, because it multiplies by the alpha channel and fails on orientation tags.

    Raises:
        DataError: The file has another number of bits than 1 to 16, or is damaged.
    """
    try:
        with Image.open(path) as image:
            if fault := _fault_of_depth(image):
                raise DataError(f"{path}: {fault}")
            if not image.mode.startswith("I;16"):
                return np.asarray(image.convert("RGB"))
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error


def _fault_of_depth(image: Image.Image) -> str:
    return "a picture of 32-bit values; save it with 8 or 16 bits" if image.mode in ("I", "F") else ""


class PictureInfo(NamedTuple):
    """Properties of a picture from the header of its file.

    Attributes:
        format: Pillow's name of the format.
        mode: Pillow's name of the colour mode.
        orientation: The EXIF orientation tag, 1 to 8; 1 for a format without the tag.
        size: Width and height as stored, before the orientation is applied.
    """

    format: str
    mode: str
    orientation: int
    size: tuple[int, int]

    @property
    def oriented_size(self) -> tuple[int, int]:
        """Width and height after the orientation is applied."""
        return self.size[::-1] if self.orientation in (5, 6, 7, 8) else self.size


def picture_info(path: Path) -> PictureInfo:
    """Read the header of a picture file.

    Raises:
        DataError: The file is not a picture in a format that Pillow supports.
    """
    try:
        with Image.open(path) as image:
            tag = image.getexif().get(_ORIENTATION, 1) if image.format in _ORIENTED_FORMATS else 1
            orientation = tag if tag in range(1, 9) else 1
            return PictureInfo(image.format or "", image.mode, orientation, image.size)
    except _UNREADABLE as error:
        raise DataError(f"{path}: not a readable picture ({reason(error)})") from error


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read the labels of a mask file: palette indices, or grey levels if the file has no palette.

    Returns:
        uint8 [h, w].

    Raises:
        DataError: The file is missing, truncated, not a PNG file (even if its name ends in .png), or has
            colours instead of labels.
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
    """Read a mask of labels, or a picture, white on black, of one object.

    A PNG of labels is read as by :func:`read_mask`. In any other PNG, pixels brighter than 127 are object 1.

    Returns:
        The labels, uint8 [h, w].

    Raises:
        DataError: The file is missing, truncated, or not a PNG file (even if its name ends in .png).
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
    """Return whether the pixels of an image can be labels, as opposed to colours or brightness."""
    grey = image.mode == "L" and image.getextrema()[1] > MAX_GREY_LABEL  # type: ignore[operator]
    return image.mode in _LABEL_MODES and not grey


def read_segments(path: Path) -> NDArray[np.int64]:
    """Read a mask whose segments are palette indices, grey levels of 8 or 16 bits, or colours.

    Returns:
        int64 [h, w]; a colour is converted to 65536 red + 256 green + blue.

    Raises:
        DataError: The file is missing, truncated, not a PNG file (even if its name ends in .png), or of
            another colour mode.
    """
    try:
        with Image.open(path) as image:
            fault = _fault_of_format(image)
            coloured = image.mode in ("RGB", "RGBA")
            if not coloured and image.mode not in (*_LABEL_MODES, "I;16", "I"):
                fault = fault or f"a {image.mode} image: neither labels nor colours of segments"
            pixels = np.asarray(image.convert("RGB") if coloured else image).astype(np.int64)
    except _UNREADABLE as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error
    if fault:
        raise DataError(f"{path}: {fault}")
    return pixels @ np.array([65536, 256, 1]) if coloured else pixels


def read_instances(path: Path) -> NDArray[np.uint8]:
    """Read the instances of an SBD file (``GTinst.Segmentation``).

    Returns:
        uint8 [h, w]: 1..N, 0 background, 255 void.

    Raises:
        DataError: The file is missing, truncated, not a MATLAB file of version 5, or has no instances (as the
            files in SBD's folder ``cls``, which have categories).
    """
    from scipy.io import loadmat  # imported here, because the import is slow and only SBD needs it
    from scipy.io.matlab import MatReadError

    wanted = "GTinst"
    try:
        content = loadmat(path)
        struct = content.get(wanted)
        if struct is None:
            found = listing(name for name in content if not name.startswith("__")) or "nothing"
            raise DataError(f"{path}: contains {found}, not {wanted}; not a mask of instances")
        if struct.dtype.names is None or "Segmentation" not in struct.dtype.names:
            raise DataError(f"{path}: {wanted} has no Segmentation")
        labels = struct["Segmentation"][0, 0]
    except DataError:
        raise
    except NotImplementedError as error:
        raise DataError(f"{path}: a MATLAB 7.3 file; the files of SBD have version 5") from error
    except (MatReadError, OSError, ValueError, TypeError, LookupError, zlib.error) as error:
        raise DataError(f"{path}: unreadable ({reason(error)})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size or labels.max() > VOID:
        raise DataError(
            f"{path}: Segmentation is {labels.dtype} {list(labels.shape)}, not an image of labels"
        )
    return np.asarray(labels, np.uint8)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read labels [h, w] from a mask (:func:`read_mask`) or an SBD file (:func:`read_instances`)."""
    return read_instances(path) if path.suffix == ".mat" else read_mask(path)


def inspect_file(path: Path, role: Role) -> FileInfo:
    """Decode a file to determine its size, its labels and its faults.

    Args:
        path: A picture, a mask (.png), or instances (.mat).
        role: The purpose of the file.

    Returns:
        The properties of the file. A fault is reported in the attribute `problem` and not raised.
    """
    if role == "frame":
        return _inspect_frame(path)
    if path.suffix == ".mat":
        return _inspect_instances(path)
    if role == "segments":
        return _inspect_segments(path)
    return _inspect_mask(path) if role == "mask" else _inspect_cutout(path)


def _inspect_frame(path: Path) -> FileInfo:
    try:
        with Image.open(path) as image:
            size, fault = image.size, _fault_of_depth(image)
            image.draft(None, (1, 1))  # decode a JPEG at 1/8 of its size: reads the whole file, but is fast
            image.load()
    except _UNREADABLE as error:
        return FileInfo(problem=f"unreadable ({reason(error)})")
    if fault or _is_tiff(path):
        return FileInfo(problem=fault) if fault else FileInfo(size)
    # The frame is later read by OpenCV, which supports other formats than Pillow, but which does not detect a
    # truncated file. Both have to accept it.
    reduced = cv2.IMREAD_REDUCED_COLOR_8 if min(size) >= 8 else cv2.IMREAD_COLOR
    if _by_opencv(path, reduced) is None:
        return FileInfo(problem="a picture of a kind that OpenCV cannot read; save it as JPEG")
    return FileInfo(size)


def _inspect_mask(path: Path) -> FileInfo:
    try:
        with Image.open(path) as image:
            image.verify()  # checks the check sums, which decoding ignores
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
        return FileInfo(
            problem=f"a greyscale mask with the value {highest}: a grey level, not an object number"
        )
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


def _inspect_segments(path: Path) -> FileInfo:
    try:
        values, counts = np.unique(read_segments(path), return_counts=True)
        with Image.open(path) as image:
            size = image.size
            image.verify()  # checks the check sums, which decoding ignores
    except DataError as error:
        return FileInfo(problem=str(error).removeprefix(f"{path}: "))
    except _UNREADABLE as error:
        return FileInfo(problem=f"unreadable ({reason(error)})")
    return FileInfo(size, tuple(zip(values.tolist(), counts.tolist(), strict=True)))


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
    """The files of a video in which some frames may have no mask.

    Attributes:
        frames: The frames that have a mask, in order.
        masks: Their masks.
        strays: Masks without a frame.
        all_frames: The names (stems) of all frames, with and without a mask.
    """

    frames: list[Path]
    masks: list[Path]
    strays: list[Path]
    all_frames: frozenset[str]


def masked_frames(frames: Path, masks: Path, key: Callable[[str], str] = str) -> MaskedFrames:
    """Pair the frames of a folder (:func:`pictures_in`) with the masks (*.png) of another by their names.

    Args:
        frames: The folder of the frames.
        masks: The folder of the masks.
        key: Function from the name (stem) of a file to the part that a frame and its mask have in common; by
            default the whole name.
    """
    named = {key(path.stem): path for path in pictures_in(frames)}
    found = files_in(masks, ".png")
    paired = [path for path in found if key(path.stem) in named]
    strays = [path for path in found if key(path.stem) not in named]
    return MaskedFrames([named[key(path.stem)] for path in paired], paired, strays, frozenset(named))


def last_number(stem: str) -> str:
    """Return the last number in a file's name without leading zeros, or the name itself without numbers."""
    numbers = re.findall(r"[0-9]+", stem)
    return str(int(numbers[-1])) if numbers else stem


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures of a folder in the natural order of their names; see :func:`files_in`.

    Raises:
        DataError: The folder cannot be read, or two pictures differ only in their suffixes.
    """
    found = files_in(folder, *PICTURE_SUFFIXES)
    for one, other in itertools.pairwise(found):
        if one.stem == other.stem:
            raise DataError(
                f"{folder}: {one.name} and {other.name} are two pictures of the same name; keep one"
            )
    return found


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """List the files of a folder that have one of the given suffixes, in the natural order of their names.

    Hidden files, and entries that are not regular files, are left out. For a folder that does not exist the
    list is empty.

    Args:
        folder: The folder.
        suffixes: The suffixes in lower case; upper case is accepted too.

    Raises:
        DataError: The folder cannot be read.
    """
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: unreadable ({reason(error)})") from error
    found = [path for name in names if (path := folder / name).suffix.lower() in suffixes]
    return sorted(found, key=lambda path: (natural_order(path.stem), path.name))


def natural_order(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Return a sort key that compares numbers within names by value, so that frame2 precedes frame10."""
    parts = re.split(r"([0-9]+)", name)  # every second part is a number
    return tuple((int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)), name


def by(size: tuple[int, ...]) -> str:
    """Format a size, (width, height), as in 854x480."""
    return f"{size[0]}x{size[1]}"


def _fault_of_mask(image: Image.Image) -> str:
    """Return why a picture is not an image of labels; empty if it is one."""
    if fault := _fault_of_format(image):
        return fault
    if image.mode not in _LABEL_MODES:
        kind = f"a {image.mode} image, not a mask with a palette"
        return f"{kind}: its colours do not identify object numbers"
    return ""


def _fault_of_format(image: Image.Image) -> str:
    if image.format == "PNG":
        return ""
    return f"a {image.format} file, not PNG, whatever its suffix; only PNG files can store labels"


# First column, first row, step of columns and step of rows of each pass of an interlaced PNG.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _missing_rows(content: bytes) -> str:
    """Return a message if a PNG of one channel lacks rows, which Pillow fills with 0; else an empty text."""
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
    return f"incomplete: only {100 * found // expected} % of its rows exist" if found < expected else ""


def reason(error: Exception) -> str:
    """Return an error's message without the path that some messages contain."""
    strerror = getattr(error, "strerror", None)
    return strerror or re.sub(r" file '.*'", " file", str(error))
