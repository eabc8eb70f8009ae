"""SA-V: its val and test as they unpack, its train as :mod:`ivos.data.tools.extract_sav_train` unpacks it.

::

    ROOT/sav_val/sav_val.txt                             names of the videos, one a line
    ROOT/sav_val/JPEGImages_24fps/VIDEO/00000.jpg        every frame
    ROOT/sav_val/Annotations_6fps/VIDEO/000/00000.png    masks of object 000, of every fourth frame

A folder for each object, since objects may overlap: a person and the hand. Frames with masks are used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivos.data.datasets.paths import folder_of, require
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import (
    DataError,
    FileInfo,
    files_in,
    listing,
    natural_order,
    pictures_in,
    read_cutout,
)
from ivos.video.index import Index, inspect_files
from ivos.video.labels import VOID
from ivos.video.names import keep, select
from ivos.video.video import Video, VideoSet, check_files, usable

FRAMES, MASKS = "JPEGImages_24fps", "Annotations_6fps"


@dataclass(frozen=True)
class ObjectFolders(Video):
    """A video whose masks are in a folder for each object; ``annotations`` name one object's.

    Where all objects are asked for at once, a pixel that several claim goes to the one of fewest pixels on
    that frame; of objects alike, to the last. By itself (:meth:`read_object`) an object is whole.
    """

    def read_object(self, path: Path, number: int) -> NDArray[np.uint8]:
        """See :meth:`Video.read_object`; there is no void."""
        file = path.parents[1] / f"{self.labels_in_files[number - 1] - 1:03d}" / path.name
        begun = self.annotations.index(path) >= (self.begins[number - 1] if self.begins else 0)
        if not begun:
            return np.zeros(self.size[::-1], np.uint8)
        return (read_cutout(file) > 0).view(np.uint8)

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        masks = [self.read_object(path, n) > 0 for n in range(1, self.num_objects + 1)]
        labels = np.zeros(masks[0].shape, np.uint8)
        for index in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
            if masks[index].shape != labels.shape:
                raise DataError(f"{path}: objects' masks are of different sizes")
            labels[masks[index]] = index + 1
        return labels


@accept_former_keywords(subset="split")
class SAV(VideoSet):
    """The annotated frames of the videos of SA-V: an immutable list, ordered by name.

    An object's masks begin with its first file; before it the set does not say where the object is
    (``Video.known``). From there on it has to have one for each frame that any object has one for.

    Args:
        root: the folder with ``sav_SUBSET``, or that one itself; None: the default place, ``data/SA-V``.
        split: ``val``, ``test``, or ``train`` as :mod:`ivos.data.tools.extract_sav_train` writes it.
        videos: names to keep; None for all.
        index: see :func:`ivos.video.index.inspect_files`.
        skip_faulty: leave videos with faults out, with a word, instead of refusing the set.

    Raises:
        DataError: all that is wrong with the set, every offending file named.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "val",
        videos: Sequence[str] | None = None,
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        self.root, self.split = folder_of("SA-V", root, "data.sav_root"), split
        inside = self.root / f"sav_{split}"
        self._folder = self.root if (self.root / MASKS).is_dir() else inside
        command = "uv run -m ivos.data.tools.extract_sav_train"
        hint = f"; of its mp4 files {command} makes it" if split == "train" else ""
        layout = f"SA-V as it unpacks (sav_{split}/{FRAMES}, sav_{split}/{MASKS})"
        require(self.root, (self._folder / FRAMES, self._folder / MASKS), layout, hint)
        names = keep(select(self._folder, f"sav_{split}"), videos, f"SA-V, {split}")
        self._videos = self._open(names, index, skip_faulty)

    def _open(self, names: Sequence[str], index: Index, skip_faulty: bool) -> tuple[Video, ...]:
        frames = {name: pictures_in(self._folder / FRAMES / name) for name in names}
        masks = {name: self._masks(name) for name in names}
        wanted = {name: {path.stem for each in masks[name].values() for path in each} for name in names}
        used = [path for name in names for path in frames[name] if path.stem in wanted[name]]
        mask_files = [path for each in masks.values() for paths in each.values() for path in paths]
        inspected = inspect_files(used, mask_files, self.root, index, cutouts=True)
        found = (self._check(name, frames[name], masks[name], inspected) for name in names)
        return usable(found, self.root, self.split, skip_faulty)

    def _masks(self, name: str) -> dict[str, list[Path]]:
        """Return the files of each object's folder, by its name."""
        place = self._folder / MASKS / name
        folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        return {path.name: files_in(path, ".png") for path in folders if path.name[0] != "."}

    def _check(
        self,
        name: str,
        frames: Sequence[Path],
        masks: Mapping[str, list[Path]],
        inspected: Mapping[Path, FileInfo],
    ) -> Video | list[str]:
        """Return the video, or its problems, each of which begins with a path."""
        place = self._folder / MASKS / name
        problems = [] if frames else [f"{self._folder / FRAMES / name}: no frames (*.jpg, *.png, ...)"]
        problems += [f"{place / each}: no masks (*.png)" for each, files in masks.items() if not files]
        strange = [each for each in masks if each != f"{int(each) if each.isdigit() else -1:03d}"]
        if strange or len(masks) >= VOID:
            problems.append(f"{place}: folders {listing(strange or masks)}; objects are 000, 001, ... 253")
        if problems or not masks:
            return problems or [f"{place}: no folder of an object (000)"]
        stems = sorted({path.stem for files in masks.values() for path in files}, key=natural_order)
        begins = tuple(stems.index(files[0].stem) for files in masks.values())
        there = {path.stem: path for path in frames}
        problems = [f"{place}/*/{stem}.png: masks without a frame" for stem in stems if stem not in there]
        for (each, files), begin in zip(masks.items(), begins, strict=True):
            lacking = sorted(set(stems[begin:]) - {path.stem for path in files})
            if lacking:
                problems.append(
                    f"{place / each}: missing, where other objects have masks: {listing(lacking)}"
                )
        of_all = [path for files in masks.values() for path in files]
        used = [there[stem] for stem in stems if stem in there]
        size, found = check_files(used, of_all, inspected)
        if problems or found:
            return problems + found
        areas = np.zeros((len(stems), len(masks)), np.int64)
        for n, (files, begin) in enumerate(zip(masks.values(), begins, strict=True)):
            areas[begin:, n] = [sum(a for label, a in inspected[path].areas if label) for path in files]
        first = [next(path for files in masks.values() for path in files if path.stem == s) for s in stems]
        labels = tuple(int(each) + 1 for each in masks)
        late = begins if any(begins) else ()
        rest = areas, late, labels
        return ObjectFolders(name, tuple(used), tuple(first), (), size, len(masks), *rest)
