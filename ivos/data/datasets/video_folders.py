"""MOSE, LVOS, VOST, PUMaVOS and BL30K as they unpack: a folder of frames and one of masks for each video.

::

    ROOT/train/JPEGImages/VIDEO/00000.jpg     MOSE, LVOS: a folder for each split
    ROOT/train/Annotations/VIDEO/00000.png
    ROOT/JPEGImages/VIDEO/00000.jpg           VOST, with ImageSets/train.txt; BL30K, which has no splits
    ROOT/Annotations/VIDEO/00000.png          (PUMaVOS as well)

Masks are PNG with a palette: pixels are object numbers, 255 is void (VOST's ignored pixels). Names of frames
need not start at 0. Frames with a mask are used; others may lie among them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from ivos.data.datasets.paths import folder_of, require
from ivos.runtime.errors import listing
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, MaskedFrames, masked_frames
from ivos.video.index import Index, inspect_files
from ivos.video.names import keep, name_fault, select
from ivos.video.video import Video, VideoSet, areas_of, check_files, labels_of, usable

Kind = Literal["MOSE", "LVOS", "VOST", "PUMaVOS", "BL30K"]


class _Layout(NamedTuple):
    """Where a set says what its splits are."""

    folders: bool  # a folder for each
    lists: bool  # a list for each in ImageSets


LAYOUTS: dict[str, _Layout] = {
    "MOSE": _Layout(folders=True, lists=False),
    "LVOS": _Layout(folders=True, lists=False),
    "VOST": _Layout(folders=False, lists=True),
    "PUMaVOS": _Layout(folders=False, lists=False),
    "BL30K": _Layout(folders=False, lists=False),
}


@accept_former_keywords(subset="split")
class VideoFolders(VideoSet):
    """The annotated frames of the videos of a set: an immutable list, ordered by name.

    A video's objects are those that any of its masks shows, numbered 1..N in the order of their labels. On a
    frame with a mask, an object that the mask does not show is not there.

    Args:
        kind: which set.
        root: its folder; None: the default place, ``data/KIND``.
        split: ``train``, ``val`` (MOSE: ``valid``), ...; of no matter to BL30K. Where only first masks have
            been published, the videos have one frame each.
        videos: names to keep; None for all.
        index: see :func:`ivos.video.index.inspect_files`.
        skip_faulty: leave videos with faults out, with a word, instead of refusing the set.

    Raises:
        DataError: all that is wrong with the set, every offending file named.
    """

    def __init__(
        self,
        kind: Kind,
        root: str | Path | None = None,
        split: str = "train",
        videos: Sequence[str] | None = None,
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        if kind not in LAYOUTS:
            raise DataError(f"data.kind: must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind, layout = kind, LAYOUTS[kind]
        self.root, self.split = folder_of(kind, root, f"data.{kind.lower()}_root"), split
        place = self.root / split if layout.folders else self.root
        self._frames, self._masks = place / "JPEGImages", place / "Annotations"
        wanted = [self._frames, self._masks, *[self.root / "ImageSets"] * layout.lists]
        require(self.root, wanted, f"{kind} as it unpacks")
        names = select(self.root / "ImageSets", split) if layout.lists else self._names()
        self._videos = self._open(keep(names, videos, f"{kind}, {split}"), index, skip_faulty)

    def _names(self) -> list[str]:
        folders = [path.name for path in self._masks.iterdir() if path.is_dir() and path.name[0] != "."]
        faults = [fault for name in folders if (fault := name_fault(name))]
        if faults or not folders:
            raise DataError(f"{self._masks}: {faults[0] if faults else 'no folders of masks'}")
        return sorted(folders)

    def _open(self, names: Sequence[str], index: Index, skip_faulty: bool) -> tuple[Video, ...]:
        files = {name: masked_frames(self._frames / name, self._masks / name) for name in names}
        frames = [path for each in files.values() for path in each.frames]
        masks = [path for each in files.values() for path in each.masks]
        inspected = inspect_files(frames, masks, self.root, index)
        found = (self._check(name, each, inspected) for name, each in files.items())
        return usable(found, self.root, self.split, skip_faulty)

    def _check(self, name: str, files: MaskedFrames, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        """Return the video, or its problems, each of which begins with a path."""
        frames, masks = files.frames, files.masks
        problems = [] if files.all_frames else [f"{self._frames / name}: no frames (*.jpg, *.png, ...)"]
        problems += [] if masks or files.strays else [f"{self._masks / name}: no masks (*.png)"]
        if files.all_frames:
            problems += [f"{path}: mask without a frame" for path in files.strays]
        size, found = check_files(frames, masks, inspected)
        labels = labels_of(masks, inspected)
        problems += found
        if masks and not labels and not problems:
            problems.append(f"{self._masks / name}: no object in {listing(path.name for path in masks)}")
        if problems:
            return problems
        areas = areas_of(masks, inspected, labels)
        return Video(name, tuple(frames), tuple(masks), (), size, len(labels), areas, file_labels=labels)
