"""Reader of SBD, the Semantic Boundaries Dataset, as released: images with instance masks.

::

    ROOT/benchmark_RELEASE/dataset/train.txt               names of the images, one a line
    ROOT/benchmark_RELEASE/dataset/img/2008_000003.jpg     images
    ROOT/benchmark_RELEASE/dataset/inst/2008_000003.mat    instances: GTinst.Segmentation; 255 is void

The categories in ``cls`` are not needed.
"""

from collections.abc import Mapping
from pathlib import Path

from ivos.data.datasets.folder_set import FolderSet, Pair
from ivos.data.datasets.paths import require
from ivos.video.files import FileInfo, pictures_in
from ivos.video.names import select
from ivos.video.video import Video, areas_of, check_files


class SBD(FolderSet[Pair]):
    """The images of a split, as videos of a single frame: an immutable list, ordered by name.

    Args:
        root: Folder with ``benchmark_RELEASE``, or ``benchmark_RELEASE`` or ``dataset`` itself; None uses the
            default location, ``data/SBD``.
        split: Name of a list: ``train``, ``val``, ``trainval`` for both, or a list of your own.
        videos: Names of the images to use, or a file that lists them; None uses all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether images with faults are skipped with a warning instead of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option = "SBD", "data.sbd_root"

    def _locate(self) -> None:
        inside = [self.root / part for part in ("benchmark_RELEASE/dataset", "dataset", ".")]
        self._folder = next((folder for folder in inside if (folder / "inst").is_dir()), inside[0])
        layout = "SBD as released (benchmark_RELEASE/dataset/SPLIT.txt, img/*.jpg, inst/*.mat)"
        require(self.root, (self._folder / "img", self._folder / "inst"), layout)
        self._images = {path.stem: path for path in pictures_in(self._folder / "img")}

    def _names(self) -> list[str]:
        return select(self._folder, self.split, "image")

    def _files(self, name: str) -> Pair:
        return Pair(*([path] if path.is_file() else [] for path in self._pair(name)))

    def _pair(self, name: str) -> tuple[Path, Path]:
        image = self._images.get(name, self._folder / "img" / f"{name}.jpg")
        return image, self._folder / "inst" / f"{name}.mat"

    def _check(self, name: str, files: Pair, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        image, mask = self._pair(name)
        missing = [f"{path}: missing" for path in (image, mask) if path not in inspected]
        if missing:
            return missing
        size, problems = check_files([image], [mask], inspected)
        if problems:
            return problems
        labels = tuple(sorted(inspected[mask].objects))
        areas = areas_of([mask], inspected, labels)
        return Video(name, (image,), (mask,), (), size, len(labels), areas, file_labels=labels)
