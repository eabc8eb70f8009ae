"""Reader of still images with masks, such as data sets of salient objects (Cutie's ``static``).

::

    ROOT/DUTS-TR/ILSVRC2012_test_00000004.jpg, .png    an image and its mask have the same name
    ROOT/fss/ab_wheel/1.jpg, 1.png                     subfolders are read, too

A mask is either an image of labels (with a palette; 255 is void) or a white shape of one object on black.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivos.data.datasets.paths import folder_of
from ivos.runtime.errors import listing
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import PICTURE_SUFFIXES, DataError, FileInfo, read_cutout
from ivos.video.index import Index, inspect_files
from ivos.video.video import Video, VideoSet, areas_of, check_files, labels_of, usable

_SUFFIXES = set(PICTURE_SUFFIXES) - {".png"}  # PNG files are masks


@dataclass(frozen=True)
class Still(Video):
    """An image with its mask, as a video of one frame."""

    def _read_file(self, path: Path) -> NDArray[np.uint8]:
        return read_cutout(path)


@accept_former_keywords(subset="split")
class Stills(VideoSet):
    """Still images with masks, each a video of a single frame: an immutable list.

    The name of an image is its path without the suffix, with ``-`` instead of ``/``. Training makes clips of
    the images by a smooth motion (:mod:`ivos.data.synthetic.stills`).

    Args:
        root: Folder of the data set; None uses the default location, ``data/static``.
        folders: Subfolders of the root to read; None reads all.
        split: Name of the data set in messages.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether images with faults (no mask, or an empty mask) are skipped with a warning instead
            of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        folders: Sequence[str] | None = None,
        split: str = "all",
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        self.root, self.split = folder_of("static", root, "data.stills_root"), split
        wanted = [self.root / name for name in folders] if folders is not None else [self.root]
        missing = [str(folder) for folder in wanted if not folder.is_dir()]
        if missing or not wanted:
            raise DataError(f"stills: no such folder: {listing(missing) or 'none is chosen (data.folders)'}")
        pairs = {
            path: path.with_suffix(".png")
            for folder in wanted
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith(".")
        }
        if not pairs:
            raise DataError(f"{listing(map(str, wanted))}: no pictures (*.jpg, ..., each with a mask *.png)")
        masks = [path for path in pairs.values() if path.is_file()]
        inspected = inspect_files(pairs, masks, self.root, index, "cutout")
        found = (self._check(*pair, inspected) for pair in pairs.items())
        self._videos = usable(found, self.root, split, skip_faulty)

    def _check(self, image: Path, mask: Path, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        """Return the image, or a list of its problems, each of which starts with a path."""
        if mask not in inspected:
            return [f"{mask}: missing"]
        size, problems = check_files([image], [mask], inspected)
        labels = labels_of([mask], inspected)
        if not problems and not labels:
            problems.append(f"{mask}: shows no object")
        if problems:
            return problems
        name = "-".join(image.relative_to(self.root).with_suffix("").parts)
        areas = areas_of([mask], inspected, labels)
        return Still(name, (image,), (mask,), (), size, len(labels), areas, file_labels=labels)
