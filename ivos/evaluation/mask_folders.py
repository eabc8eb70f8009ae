"""Folders of masks in the layouts of DAVIS and SA-V: listing, checking and reading of their files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.runtime.errors import listing
from ivos.video.files import DataError, by, natural_order
from ivos.video.labels import VOID
from ivos.video.names import read_list
from ivos.video.palette import labels_of_colours

Mask = NDArray[np.uint8]
FLAT = 0
"""Key of the files of a folder in DAVIS layout, whose masks contain the labels of all objects."""


@dataclass
class MaskFolder:
    """The mask files of one sequence.

    Attributes:
        folder: Folder of the sequence.
        files: Files by object label and frame name. The DAVIS layout (``00000.png``) has the single key
            :data:`FLAT`; the SA-V layout (``000/00000.png``) has a key for each object, whose label is the
            number of its folder plus one.
        problems: Problems of the folder, as messages for the user.
    """

    folder: Path
    files: dict[int, dict[str, Path]]
    problems: list[str]

    @classmethod
    def of(cls, folder: Path) -> "MaskFolder":
        """List the files of a sequence's folder without reading them."""
        flat = {path.stem: path for path in folder.glob("*.png") if not path.name.startswith(".")}
        objects = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if flat and objects:
            return cls(folder, {}, [f"{folder}: has masks and folders of objects; remove one of the two"])
        found: dict[int, dict[str, Path]] = {FLAT: flat} if flat else {}
        problems: list[str] = []
        for place in objects:
            if not place.name.isdigit() or not 0 <= int(place.name) < VOID:
                problems.append(f"{place}: not named by an object's number (000, 001, ...)")
                continue
            found[int(place.name) + 1] = {path.stem: path for path in place.glob("*.png")}
        return cls(folder, found, problems)

    @property
    def per_object(self) -> bool:
        """Whether the folder is in SA-V layout, with a folder of masks for each object."""
        return FLAT not in self.files and bool(self.files)

    def frames(self, label: int) -> list[str]:
        """Return the names of the frames that have a mask of an object, in order."""
        return sorted(self.files.get(label if self.per_object else FLAT, {}), key=natural_order)

    def read(self, wanted: Mapping[int, Iterable[str]]) -> dict[int, dict[str, Mask]]:
        """Read masks; problems are added to :attr:`problems`.

        Args:
            wanted: Names of frames by the keys of :attr:`files`; names without a file are ignored.

        Returns:
            Masks uint8 [h, w], by key and frame name.
        """
        return {key: self._read_files(key, names) for key, names in wanted.items() if key in self.files}

    def _read_files(self, key: int, names: Iterable[str]) -> dict[str, Mask]:
        masks: dict[str, Mask] = {}
        for name in names:
            if (path := self.files[key].get(name)) is None:
                continue
            try:
                with Image.open(path) as image:
                    mode, pixels = image.mode, np.asarray(image)
            except (OSError, SyntaxError, ValueError) as error:
                self.problems.append(f"{path}: unreadable ({getattr(error, 'strerror', None) or error})")
                continue
            if mode in ("P", "L", "1"):
                masks[name] = pixels.astype(np.uint8)
            elif mode not in ("RGB", "RGBA"):
                self.problems.append(f"{path}: a {mode} image, not labels with a palette")
            elif (labels := labels_of_colours(pixels)) is not None:
                masks[name] = labels
            else:
                self.problems.append(
                    f"{path}: a {mode} image with colours outside of DAVIS' palette; save labels instead"
                )
        return masks


def labels_in(mask: Mask) -> set[int]:
    """Return the labels in a mask [h, w] by a histogram, which is faster than np.unique."""
    return set(cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel().nonzero()[0].tolist())


def missing_files(
    truth: MaskFolder, predictions: MaskFolder, counted: Mapping[int, Sequence[str]]
) -> list[str]:
    """Return messages about missing predictions on scored frames.

    Args:
        truth: The ground truth.
        predictions: The predictions, in either layout.
        counted: The scored frames, by object label.
    """
    needed = sorted({name for names in counted.values() for name in names}, key=natural_order)
    if not predictions.per_object:
        there = predictions.files.get(FLAT, {})
        if lacking := [name for name in needed if name not in there]:
            return [
                f"{predictions.folder}: {len(there)} frames, but {len(needed)} ground-truth frames are "
                f"scored; missing: {listing(lacking)}"
            ]
        return []
    problems = []
    for label, names in counted.items():
        if absent := [name for name in names if name not in predictions.files.get(label, {})]:
            problems.append(f"{predictions.folder / f'{label - 1:03d}'}: missing: {listing(absent)}")
    return problems


def wrong_sizes(truth: Mapping[Path, Mask], predictions: Mapping[Path, Mask]) -> list[str]:
    """Return messages about masks whose size differs from that of most ground-truth masks."""
    sizes = [mask.shape for mask in truth.values()]
    size = max(set(sizes), key=sizes.count)
    return [
        f"{path}: is {by(mask.shape[::-1])}, the ground truth is {by(size[::-1])}"
        for path, mask in [*truth.items(), *predictions.items()]
        if mask.shape != size
    ]


def truth_folder(root: Path, subset: str) -> Path:
    """Return the folder of sequences in a ground truth, which may be the root of a data set.

    Args:
        root: A folder of sequences, or a folder that contains ``Annotations``, as in DAVIS and YouTube-VOS.
        subset: Name of the subset, which is a folder in YouTube-VOS, MOSE and LVOS (``valid/Annotations``).

    Raises:
        DataError: The masks have several resolutions, none of which is ``480p``.
    """
    for place in (root / "Annotations", root / subset / "Annotations"):
        if place.is_dir():
            root = place
            break
    inside = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    nested = [path for path in inside if any(path.glob("*/*.png")) and not any(path.glob("*.png"))]
    nested = [path for path in nested if not all(each.name.isdigit() for each in path.iterdir())]
    if not nested:
        return root
    if (root / "480p") in nested:
        return root / "480p"
    if len(nested) == 1 and len(inside) == 1:
        return nested[0]
    raise DataError(f"{root}: name one of its folders: {listing(sorted(path.name for path in nested))}")


def listed_sequences(truth: Path, subset: str | None) -> tuple[Path, list[str]] | None:
    """Return the sequences of a subset, if the data set of a ground truth has lists of its subsets.

    Args:
        truth: Folder of sequences; the folder ``ImageSets`` is searched in its two parent folders.
        subset: Name of the subset; None means ``val`` if that list exists.

    Returns:
        Path of the list and the names in it; None if the data set has no lists.

    Raises:
        DataError: The data set has lists, but not of this subset.
    """
    for root in (truth.parent, truth.parent.parent):
        sets = root / "ImageSets"
        if not sets.is_dir():
            continue
        places = [sets / "2017", sets]
        for place in places:
            file = place / f"{subset or 'val'}.txt"
            if file.is_file():
                return file, sorted(set(read_list(file)))
        known = sorted({path.stem for place in places for path in place.glob("*.txt")})
        if subset is not None and known:
            raise DataError(f"--subset {subset}: {sets} has no list of it; it has: {listing(known)}")
    return None
