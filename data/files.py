"""The files of data sets: read, looked into without being kept, and complained about."""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.errors import UserError
from ivos.interaction.labels import VOID

# A greyscale file has no palette that would tell object numbers from grey levels; the darkest grey that
# the DAVIS colour of object 1 can turn into is 38.
MAX_GREY_LABEL = 32
_LABEL_MODES = ("P", "L", "1")
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises
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


class Facts(NamedTuple):
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
        raise DataError(f"{path}: unreadable ({_reason(error)})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size or labels.max() > VOID:
        raise DataError(
            f"{path}: Segmentation is {labels.dtype} {list(labels.shape)}, not an image of labels"
        )
    return np.asarray(labels, np.uint8)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Labels [h, w] from either kind of file; see :func:`read_mask` and :func:`read_instances`."""
    return read_instances(path) if path.suffix == ".mat" else read_mask(path)


def look_into(path: Path) -> Facts:
    """Decode a file to find out all that is to be known of it; a fault is a fact, not an exception."""
    looks = {".jpg": _look_into_frame, ".png": _look_into_mask, ".mat": _look_into_instances}
    return looks[path.suffix](path)


def _look_into_frame(path: Path) -> Facts:
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft(None, (1, 1))  # an eighth of the size: reads the whole file, computes little
            image.load()
    except _UNREADABLE as error:
        return Facts(problem=f"unreadable ({_reason(error)})")
    return Facts(size)


def _look_into_mask(path: Path) -> Facts:
    try:
        with Image.open(path) as image:
            image.verify()  # the check sums, which decoding passes over
        with Image.open(path) as image:
            mode, size, counts = image.mode, image.size, image.histogram()
    except _UNREADABLE as error:
        return Facts(problem=f"unreadable ({_reason(error)})")
    if mode not in _LABEL_MODES:
        return Facts(problem=_not_labels(mode))
    if mode == "1":  # pixels are 0 and 1, but the histogram counts them at 0 and 255
        counts[1], counts[VOID] = counts[VOID], 0
    facts = Facts(size, tuple((label, count) for label, count in enumerate(counts) if count))
    highest = max(facts.objects, default=0)
    if mode == "L" and highest > MAX_GREY_LABEL:
        return Facts(problem=f"a greyscale mask with the value {highest}: a grey level, no object number")
    return facts


def _look_into_instances(path: Path) -> Facts:
    try:
        labels = read_instances(path)
    except DataError as error:
        return Facts(problem=str(error).removeprefix(f"{path}: "))
    counts = np.bincount(labels.ravel(), minlength=VOID + 1)
    return Facts(labels.shape[::-1], tuple((int(label), int(counts[label])) for label in counts.nonzero()[0]))


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with that suffix, in order of their names; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix == suffix and not p.name.startswith("."))


def listing(names: Iterable[object]) -> str:
    """The names in order, not too many of them."""
    ordered = sorted(names, key=str)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more


def by(size: tuple[int, ...]) -> str:
    """A size as it is written: 854x480."""
    return f"{size[0]}x{size[1]}"


def _not_labels(mode: str) -> str:
    return f"a {mode} image, not a mask with a palette: object numbers cannot be told from its colours"


def _reason(error: Exception) -> str:
    """The error's words without the path that some carry."""
    strerror = getattr(error, "strerror", None)
    return strerror or re.sub(r" file '.*'", " file", str(error))
