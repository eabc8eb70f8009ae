"""Readers of EndoVis 2018, ESD, VIPSeg and Virtual KITTI 2 as released: data sets with segment masks.

::

    ROOT/**/seq_1/left_frames/frame000.png, labels/frame000.png      EndoVis: a colour for each class
    ROOT/**/labels.json                                              the classes with their colours
    ROOT/ESD-1/CONDITIONS/RGB/images/14.png, masks/14.png            ESD: a colour or a label for each object
    ROOT/imgs/VIDEO/00001345.jpg, panomasks/VIDEO/00001345.png       VIPSeg: 16 bits, class * 100 + instance
    ROOT/train.txt, val.txt, test.txt                                names of videos, one a line
    ROOT/Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg             Virtual KITTI 2
    ROOT/Scene01/clone/frames/instanceSegmentation/Camera_0/instancegt_00000.png    the track's number + 1

The layouts are described by https://endovissub2018-roboticscenesegmentation.grand-challenge.org, the README
files of https://github.com/yellow07200/ESD_labeling_tool and https://github.com/VIPSeg-Dataset/VIPSeg-Dataset,
and https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2/. Segments become the
objects 1..N of a video in the order of their values. Only frames with a mask are used. An object is absent
from a frame whose mask does not show it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.data.datasets.folder_set import PairedFolders
from ivos.data.datasets.paths import require
from ivos.runtime.errors import listing
from ivos.runtime.files import read_json
from ivos.video.files import DataError, FileInfo, MaskedFrames, Role, last_number, read_segments
from ivos.video.labels import VOID
from ivos.video.names import select
from ivos.video.video import Video, areas_of


@dataclass(frozen=True)
class SegmentVideo(Video):
    """A video whose masks have values of more than eight bits.

    Attributes:
        values: Mask values of the N objects (:func:`ivos.video.files.read_segments`); all other values are
            background.
    """

    values: tuple[int, ...] = ()

    def _read_file(self, path: Path) -> NDArray[np.uint8]:
        """Read a mask file and convert its values to object numbers."""
        order = np.argsort(self.values)
        sorted_values = np.array(self.values)[order]
        segments = read_segments(path)
        places = np.searchsorted(sorted_values, segments).clip(max=len(order) - 1)
        return np.where(sorted_values[places] == segments, order[places] + 1, 0).astype(np.uint8)


class SegmentFolders(PairedFolders):
    """A data set with segment masks; see :class:`ivos.data.datasets.folder_set.PairedFolders`."""

    role: Role = "segments"

    @staticmethod
    def _key(stem: str) -> str:
        return last_number(stem)

    def _values(self, name: str, shown: set[int]) -> list[int]:
        """Return the mask values of a video that are objects, in order.

        Raises:
            DataError: A value is not defined in the data set.
        """
        return sorted(shown - {0})

    def _video(
        self, name: str, files: MaskedFrames, size: tuple[int, int], inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        place = self._folders(name)[1]
        try:
            values = self._values(name, {label for path in files.masks for label in inspected[path].labels})
        except DataError as error:
            return [f"{place}: {error}"]
        if not 0 < len(values) < VOID:
            return [f"{place}: {len(values)} objects; a video has 1 to {VOID - 1}"]
        areas = areas_of(files.masks, inspected, values)
        paths = tuple(files.frames), tuple(files.masks), ()
        return SegmentVideo(name, *paths, size, len(values), areas, values=tuple(values))


class EndoVis(SegmentFolders):
    """The frames of the left camera of EndoVis 2018 (robotic scene segmentation), a video per sequence.

    The objects of a video are the classes in ``labels.json`` except the first one, which is background
    tissue. Sequences may be at any depth below the root, because the parts of the release differ in depth.

    Args:
        root: Folder with the parts of the release; None uses the default location, ``data/EndoVis2018``.
        split: ``test`` for the sequences in folders named ``test...``, ``train`` for the others.
        videos: Names of the videos to use, or a file that lists them; None uses all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether videos with faults are skipped with a warning instead of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option, default_split = "EndoVis2018", "data.endovis_root", "test"

    def _locate(self) -> None:
        self._places: dict[str, Path] = {}
        for frames in sorted(self.root.glob("**/left_frames")):
            parts = frames.relative_to(self.root).parts
            tested = any(part.lower().startswith("test") for part in parts)
            labelled = (frames.parent / "labels").is_dir() and "__MACOSX" not in parts
            if labelled and tested == (self.split == "test"):
                self._places[frames.parent.name] = frames.parent
        if self.split not in ("train", "test") or not self._places:
            raise DataError(
                f"{self.root}: no sequences of EndoVis 2018 for split {self.split!r} (data.split=train "
                "or test); each needs the folders left_frames and labels, and sequences of test are in a "
                "folder named test..."
            )

    def _names(self) -> list[str]:
        return sorted(self._places)

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self._places[name] / "left_frames", self._places[name] / "labels"

    def _values(self, name: str, shown: set[int]) -> list[int]:
        classes = self._classes(self._places[name])
        if unknown := shown - set(classes):
            colours = (f"#{value:06x}" for value in sorted(unknown))
            raise DataError(f"the colours {listing(colours)} are not in labels.json")
        return [value for value in classes[1:] if value in shown]

    def _classes(self, place: Path) -> list[int]:
        """Return the colours of the classes, encoded as in :func:`ivos.video.files.read_segments`."""
        nearest = next((file for up in place.parents if (file := up / "labels.json").is_file()), None)
        if nearest is None:
            raise DataError("no labels.json in any parent folder")
        try:
            content = read_json(nearest)
            classes = content["classes"] if isinstance(content, dict) else content
            ordered = sorted(classes, key=lambda each: int(each["classid"]))
            return [int.from_bytes(bytes(each["color"][:3]), "big") for each in ordered]
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise DataError(f"{nearest}: not a list of classes with color and classid ({error})") from error


class ESD(SegmentFolders):
    """The RGB images of ESD, the event-based segmentation data set, with one video per recording condition.

    In masks, each object has a colour or a label; black or 0 is background.

    Args:
        root: Folder with ``ESD-1`` and ``ESD-2``; None uses the default location, ``data/ESD``.
        split: ``train`` for ESD-1, ``test`` for ESD-2, which shows different objects.
        videos: Names of the videos to use, or a file that lists them; None uses all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether videos with faults are skipped with a warning instead of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option, default_split = "ESD", "data.esd_root", "test"

    def _locate(self) -> None:
        parts = {"train": "ESD-1", "test": "ESD-2"}
        if self.split not in parts:
            raise DataError(f"ESD has no split {self.split!r}; it has: train, test (data.split)")
        self._place = self.root / parts[self.split]
        require(self.root, [self._place], "ESD as released (ESD-1/CONDITIONS/RGB/images, RGB/masks)")

    def _names(self) -> list[str]:
        names = sorted(folder.parent.parent.name for folder in self._place.glob("*/RGB/masks"))
        if not names:
            raise DataError(f"{self._place}: no folders CONDITIONS/RGB/masks")
        return names

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self._place / name / "RGB" / "images", self._place / name / "RGB" / "masks"


class VIPSeg(SegmentFolders):
    """The videos of VIPSeg, as released or in 720P (``VIPSeg_720P``), with a mask for each frame.

    Pixels of class 0 (void) and of value 200, which is not a class, are background.

    Args:
        root: Folder with ``imgs`` and ``panomasks``, or with ``VIPSeg_720P``; None uses the default location,
            ``data/VIPSeg``.
        split: Name of a list: ``train``, ``val`` or ``test``.
        things_only: Whether only instances of things are objects. Otherwise stuff regions (such as sky and
            grass) are objects as well.
        options: Options ``videos``, ``index`` and ``skip_faulty`` of
            :class:`ivos.data.datasets.folder_set.FolderSet`.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option, default_split = "VIPSeg", "data.vipseg_root", "val"

    def __init__(
        self,
        root: str | Path | None = None,
        split: str | None = None,
        *,
        things_only: bool = False,
        **options: Any,
    ) -> None:
        self.things_only = things_only
        super().__init__(root, split, **options)

    def _locate(self) -> None:
        smaller = self.root / "VIPSeg_720P"
        place = smaller if smaller.is_dir() and not (self.root / "panomasks").is_dir() else self.root
        self._frames = place / ("images" if (place / "images").is_dir() else "imgs")
        self._masks = place / "panomasks"
        layout = "VIPSeg as released (imgs/VIDEO/*.jpg, panomasks/VIDEO/*.png, val.txt)"
        require(self.root, [self._frames, self._masks], layout)

    def _names(self) -> list[str]:
        return select(self.root, self.split)

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self._frames / name, self._masks / name

    def _values(self, name: str, shown: set[int]) -> list[int]:
        lowest = _FIRST_THING if self.things_only else 1
        return sorted(value for value in shown if value >= lowest and value != _NO_CLASS)


_FIRST_THING = 125  # lower values are classes of stuff; higher values are class * 100 + instance
_NO_CLASS = 200  # value in the masks that does not belong to any class


class VirtualKITTI(SegmentFolders):
    """The videos of Virtual KITTI 2 with names SCENE-CONDITION-CAMERA; their objects are vehicles.

    Args:
        root: Folder with ``Scene01``, ..., or with the folders ``vkitti_2.0.3_rgb`` and
            ``vkitti_2.0.3_instanceSegmentation``, which contain the scenes; None uses the default location,
            ``data/VKITTI2``.
        split: A condition (``clone``, ``fog``, ``15-deg-left``, ...), or ``all``.
        videos: Names of the videos to use, or a file that lists them; None uses all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether videos with faults are skipped with a warning instead of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option, default_split = "VKITTI2", "data.vkitti2_root", "all"

    def _locate(self) -> None:
        condition = "*" if self.split == "all" else self.split
        self._masks: dict[str, Path] = {}
        for above in ("", "vkitti_*_instanceSegmentation/"):
            for folder in self.root.glob(f"{above}Scene*/{condition}/frames/instanceSegmentation/Camera_*"):
                scene, shown, camera = (folder.parents[3].name, folder.parents[2].name, folder.name)
                self._masks[f"{scene}-{shown}-{camera}"] = folder
        if not self._masks:
            raise DataError(
                f"{self.root} is not Virtual KITTI 2 as released "
                "(Scene01/CONDITION/frames/instanceSegmentation/Camera_0), or has no condition "
                f"{self.split!r} (data.split=all, clone, ...)"
            )

    def _names(self) -> list[str]:
        return sorted(self._masks)

    def _folders(self, name: str) -> tuple[Path, Path]:
        masks = self._masks[name]
        parts = [part.replace("instanceSegmentation", "rgb") for part in masks.relative_to(self.root).parts]
        return self.root.joinpath(*parts), masks
