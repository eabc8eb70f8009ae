"""Reader of SA-V: val and test as released, train as written by :mod:`ivos.data.tools.extract_sav_train`.

::

    ROOT/sav_val/sav_val.txt                             names of the videos, one a line
    ROOT/sav_val/JPEGImages_24fps/VIDEO/00000.jpg        every frame
    ROOT/sav_val/Annotations_6fps/VIDEO/000/00000.png    masks of object 000, of every fourth frame

There is a folder for each object, because objects may overlap, such as a person and their hand. Only frames
with masks are used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivos.data.datasets.folder_set import FolderSet
from ivos.data.datasets.paths import require
from ivos.runtime.errors import listing
from ivos.video.files import FileInfo, files_in, natural_order, pictures_in, read_cutout
from ivos.video.labels import VOID
from ivos.video.names import select
from ivos.video.video import OverlappingObjects, Video, check_files

FRAMES, MASKS = "JPEGImages_24fps", "Annotations_6fps"


@dataclass(frozen=True)
class ObjectFolders(OverlappingObjects):
    """A video with one folder of masks for each object; ``annotations`` contains one mask file per frame."""

    def read_object(self, path: Path, number: int) -> NDArray[np.uint8]:
        """Return the mask of an object; see :meth:`Video.read_object`. There are no void pixels."""
        file = path.parents[1] / f"{self.labels_in_files[number - 1] - 1:03d}" / path.name
        begun = self.annotations.index(path) >= (self.begins[number - 1] if self.begins else 0)
        if not begun:
            return np.zeros(self.size[::-1], np.uint8)
        return (read_cutout(file) > 0).view(np.uint8)


@dataclass(frozen=True)
class _ObjectFiles:
    """The files of a video: frames by name, and masks by the name of the object's folder."""

    pictures: Mapping[str, Path]
    objects: Mapping[str, list[Path]]

    @property
    def masks(self) -> Iterator[Path]:
        """The masks of all objects."""
        return chain.from_iterable(self.objects.values())

    @property
    def frames(self) -> Iterator[Path]:
        """The frames on which any object has a mask."""
        wanted = {path.stem for path in self.masks}
        return (path for stem, path in self.pictures.items() if stem in wanted)


class SAV(FolderSet[_ObjectFiles]):
    """The annotated frames of the videos of SA-V: an immutable list, ordered by name.

    The position of an object is unknown before its first mask file (``Video.known``). From then on, it needs
    a mask on every frame on which any object has one.

    Args:
        root: Folder with ``sav_SPLIT``, or that folder itself; None uses the default location, ``data/SA-V``.
        split: ``val``, ``test``, or ``train`` as :mod:`ivos.data.tools.extract_sav_train` writes it.
        videos: Names of the videos to use, or a file that lists them; None uses all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether videos with faults are skipped with a warning instead of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option, default_split, role = "SA-V", "data.sav_root", "val", "cutout"

    def _locate(self) -> None:
        split = self.split
        inside = self.root / f"sav_{split}"
        self._folder = self.root if (self.root / MASKS).is_dir() else inside
        command = "uv run -m ivos.data.tools.extract_sav_train"
        hint = f"; {command} creates it from the mp4 files" if split == "train" else ""
        layout = f"SA-V as released (sav_{split}/{FRAMES}, sav_{split}/{MASKS})"
        require(self.root, (self._folder / FRAMES, self._folder / MASKS), layout, hint)

    def _names(self) -> list[str]:
        return select(self._folder, f"sav_{self.split}")

    def _files(self, name: str) -> _ObjectFiles:
        place = self._folder / MASKS / name
        folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        return _ObjectFiles(
            {path.stem: path for path in pictures_in(self._folder / FRAMES / name)},
            {path.name: files_in(path, ".png") for path in folders if path.name[0] != "."},
        )

    def _check(self, name: str, files: _ObjectFiles, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        place, there, masks = self._folder / MASKS / name, files.pictures, files.objects
        of_all = list(files.masks)
        problems = [] if there else [f"{self._folder / FRAMES / name}: no frames (*.jpg, *.png, ...)"]
        problems += [f"{place / each}: no masks (*.png)" for each, paths in masks.items() if not paths]
        strange = [each for each in masks if each != f"{int(each) if each.isdigit() else -1:03d}"]
        if strange or len(masks) >= VOID:
            problems.append(
                f"{place}: folders {listing(strange or masks)}; folders of objects are 000, 001, ... 253"
            )
        if problems or not masks:
            return problems or [f"{place}: no folder of masks of an object (000)"]
        stems = sorted({path.stem for path in of_all}, key=natural_order)
        begins = tuple(stems.index(paths[0].stem) for paths in masks.values())
        problems = [f"{place}/*/{stem}.png: masks without a frame" for stem in stems if stem not in there]
        for (each, paths), begin in zip(masks.items(), begins, strict=True):
            lacking = sorted(set(stems[begin:]) - {path.stem for path in paths})
            if lacking:
                problems.append(
                    f"{place / each}: no masks on frames on which other objects have one: {listing(lacking)}"
                )
        used = [there[stem] for stem in stems if stem in there]
        size, found = check_files(used, of_all, inspected)
        if problems or found:
            return problems + found
        areas = np.zeros((len(stems), len(masks)), np.int64)
        for n, (paths, begin) in enumerate(zip(masks.values(), begins, strict=True)):
            areas[begin:, n] = [sum(a for label, a in inspected[path].areas if label) for path in paths]
        first = [next(path for path in of_all if path.stem == s) for s in stems]
        labels = tuple(int(each) + 1 for each in masks)
        late = begins if any(begins) else ()
        rest = areas, late, labels
        return ObjectFolders(name, tuple(used), tuple(first), (), size, len(masks), *rest)
