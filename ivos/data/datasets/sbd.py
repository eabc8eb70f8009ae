"""SBD, the Semantic Boundaries Dataset, as it unpacks: images with masks of their instances.

::

    ROOT/benchmark_RELEASE/dataset/train.txt               names of the images, one a line
    ROOT/benchmark_RELEASE/dataset/img/2008_000003.jpg     images
    ROOT/benchmark_RELEASE/dataset/inst/2008_000003.mat    instances: GTinst.Segmentation; 255 is void

The categories in ``cls`` are not needed.
"""

from collections.abc import Mapping
from pathlib import Path

from ivos.data.datasets.paths import folder_of, require
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import FileInfo, pictures_in
from ivos.video.index import Index, inspect_files
from ivos.video.names import select
from ivos.video.video import Video, VideoSet, areas_of, check_files, usable


@accept_former_keywords(subset="split")
class SBD(VideoSet):
    """The images of a split, as videos of a single frame: an immutable list, ordered by name.

    Args:
        root: the folder with ``benchmark_RELEASE``, or one of those within down to ``dataset``; None: the
            default place, ``data/SBD``.
        split: the name of a list: ``train``, ``val``, ``trainval`` for both, or one of your own.
        index: see :func:`ivos.video.index.inspect_files`.
        skip_faulty: leave images with faults out, with a word, instead of refusing the set.

    Raises:
        DataError: all that is wrong with the set, every offending file named.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        self.root, self.split = folder_of("SBD", root, "data.sbd_root"), split
        inside = [self.root / part for part in ("benchmark_RELEASE/dataset", "dataset", ".")]
        self._folder = next((folder for folder in inside if (folder / "inst").is_dir()), inside[0])
        layout = "SBD as it unpacks (benchmark_RELEASE/dataset/SUBSET.txt, img/*.jpg, inst/*.mat)"
        require(self.root, (self._folder / "img", self._folder / "inst"), layout)
        self._videos = self._open(select(self._folder, split, "image"), index, skip_faulty)

    def _open(self, names: list[str], index: Index, skip_faulty: bool) -> tuple[Video, ...]:
        images = {path.stem: path for path in pictures_in(self._folder / "img")}
        pairs = {
            name: (images.get(name, self._folder / "img" / f"{name}.jpg"), self._folder / f"inst/{name}.mat")
            for name in names
        }
        frames, masks = ([p for pair in pairs.values() if (p := pair[k]).is_file()] for k in (0, 1))
        inspected = inspect_files(frames, masks, self.root, index)
        found = (self._check(name, *pair, inspected) for name, pair in pairs.items())
        return usable(found, self.root, f"split {self.split!r}", skip_faulty)

    @staticmethod
    def _check(name: str, image: Path, mask: Path, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        """Return the image, or its problems, each of which begins with a path."""
        missing = [f"{path}: missing" for path in (image, mask) if path not in inspected]
        if missing:
            return missing
        size, problems = check_files([image], [mask], inspected)
        if problems:
            return problems
        labels = tuple(sorted(inspected[mask].objects))
        areas = areas_of([mask], inspected, labels)
        return Video(name, (image,), (mask,), (), size, len(labels), areas, file_labels=labels)
