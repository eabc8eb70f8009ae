"""SBD, the Semantic Boundaries Dataset, as it unpacks: images with masks of their instances.

::

    ROOT/benchmark_RELEASE/dataset/train.txt               names of the images, one a line
    ROOT/benchmark_RELEASE/dataset/img/2008_000003.jpg     images
    ROOT/benchmark_RELEASE/dataset/inst/2008_000003.mat    instances: GTinst.Segmentation; 255 is void

The categories in ``cls`` are not needed.
"""

from collections.abc import Mapping
from pathlib import Path

from data.files import DataError, Facts
from data.index import Index, facts_of
from data.videos import Sequence, VideoSet, areas_of, check_files, select, usable


class SBD(VideoSet):
    """The images of a subset, as videos of a single frame: an immutable list, ordered by name.

    Args:
        root: the folder with ``benchmark_RELEASE``, or one of those within down to ``dataset``.
        subset: the name of a list: ``train``, ``val``, ``trainval`` for both, or one of your own.
        index: see :func:`data.index.facts_of`.
        skip_faulty: leave images with faults out, with a word, instead of refusing the set.

    Raises:
        DataError: all that is wrong with the set, every offending file named.
    """

    def __init__(
        self,
        root: str | Path | None,
        subset: str = "train",
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        if root is None:
            raise DataError("SBD: no folder given; name it by data.sbd_root=FOLDER")
        self.root, self.subset = Path(root), subset
        inside = [self.root / part for part in ("benchmark_RELEASE/dataset", "dataset", ".")]
        self._folder = next((folder for folder in inside if (folder / "inst").is_dir()), inside[0])
        missing = [self._folder / kind for kind in ("img", "inst") if not (self._folder / kind).is_dir()]
        if missing:
            raise DataError(
                f"{self.root} is not SBD as it unpacks (benchmark_RELEASE/dataset/SUBSET.txt, img/*.jpg, "
                "inst/*.mat); missing:",
                [str(folder.relative_to(self.root)) for folder in missing],
            )
        self._sequences = self._open(select(self._folder, subset, "image"), index, skip_faulty)

    def _open(self, names: list[str], index: Index, skip_faulty: bool) -> tuple[Sequence, ...]:
        pairs = {n: (self._folder / "img" / f"{n}.jpg", self._folder / "inst" / f"{n}.mat") for n in names}
        there = [path for pair in pairs.values() for path in pair if path.is_file()]
        facts = facts_of(there, self.root, index)
        found = (self._check(name, *pair, facts) for name, pair in pairs.items())
        return usable(found, self.root, f"subset {self.subset!r}", skip_faulty)

    @staticmethod
    def _check(name: str, image: Path, mask: Path, facts: Mapping[Path, Facts]) -> Sequence | list[str]:
        """The image, or its problems, each led by a path."""
        missing = [f"{path}: missing" for path in (image, mask) if path not in facts]
        if missing:
            return missing
        size, problems = check_files([image], [mask], facts)
        if problems:
            return problems
        num_objects = max(facts[mask].objects, default=0)
        return Sequence(name, (image,), (mask,), (), size, num_objects, areas_of([mask], facts, num_objects))
