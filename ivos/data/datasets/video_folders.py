"""Reader of MOSE, LVOS, VOST, PUMaVOS and BL30K as released: one folder of frames and one of masks per video.

::

    ROOT/train/JPEGImages/VIDEO/00000.jpg     MOSE, LVOS: a folder for each split
    ROOT/train/Annotations/VIDEO/00000.png
    ROOT/JPEGImages/VIDEO/00000.jpg           VOST, with ImageSets/train.txt; BL30K, which has no splits
    ROOT/Annotations/VIDEO/00000.png          (PUMaVOS as well)

Masks are PNG files with a palette: pixels are object numbers, 255 is void (VOST's ignored pixels). Names of
frames need not start at 0. Frames without a mask are ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ivos.data.datasets.folder_set import PairedFolders, folders_in
from ivos.data.datasets.paths import require
from ivos.runtime.errors import listing
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, MaskedFrames
from ivos.video.names import select
from ivos.video.video import Video, areas_of, labels_of

Kind = Literal["MOSE", "LVOS", "VOST", "PUMaVOS", "BL30K"]


class _Layout(NamedTuple):
    """The way in which a data set defines its splits."""

    folders: bool  # one folder per split
    lists: bool  # one list per split in ImageSets


LAYOUTS: dict[str, _Layout] = {
    "MOSE": _Layout(folders=True, lists=False),
    "LVOS": _Layout(folders=True, lists=False),
    "VOST": _Layout(folders=False, lists=True),
    "PUMaVOS": _Layout(folders=False, lists=False),
    "BL30K": _Layout(folders=False, lists=False),
}


@accept_former_keywords(subset="split")
class VideoFolders(PairedFolders):
    """The annotated frames of the videos of a data set: an immutable list, ordered by name.

    A video's objects are all objects in its masks, numbered 1..N in the order of their labels. An object is
    absent from a frame whose mask does not show it.

    Args:
        kind: Name of the data set.
        root: Folder of the data set; None uses the default location, ``data/KIND``.
        split: ``train``, ``val`` (MOSE: ``valid``), ...; ignored for PUMaVOS and BL30K. If only first masks
            have been published, each video has one frame, unless ``first_masks`` is set.
        first_masks: Whether only first masks have been published. All frames are then part of the videos, to
            be segmented from these masks (``protocol=first_mask``), and there are no scores.
        options: Options ``videos``, ``index`` and ``skip_faulty`` of
            :class:`ivos.data.datasets.folder_set.FolderSet`.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    def __init__(
        self,
        kind: Kind,
        root: str | Path | None = None,
        split: str | None = None,
        *,
        first_masks: bool = False,
        **options: Any,
    ) -> None:
        if kind not in LAYOUTS:
            raise DataError(f"data.kind: must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind = self.name = kind
        self.option = f"data.{kind.lower()}_root"
        self.first_masks = first_masks
        super().__init__(root, split, **options)

    def _locate(self) -> None:
        layout = LAYOUTS[self.kind]
        place = self.root / self.split if layout.folders else self.root
        self._frames, self._masks = place / "JPEGImages", place / "Annotations"
        wanted = [self._frames, self._masks, *[self.root / "ImageSets"] * layout.lists]
        require(self.root, wanted, f"{self.kind} as released")

    def _names(self) -> list[str]:
        if LAYOUTS[self.kind].lists:
            return select(self.root / "ImageSets", self.split)
        return folders_in(self._masks, "folders of masks")

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self._frames / name, self._masks / name

    def _video(
        self, name: str, files: MaskedFrames, size: tuple[int, int], inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        frames, masks = files.frames, files.masks
        labels = labels_of(masks, inspected)
        if not labels:
            return [f"{self._masks / name}: no object in {listing(path.name for path in masks)}"]
        areas = areas_of(masks, inspected, labels)
        return Video(name, tuple(frames), tuple(masks), (), size, len(labels), areas, file_labels=labels)
