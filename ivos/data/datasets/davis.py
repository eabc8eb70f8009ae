"""Videos of a folder in DAVIS layout; all files are checked when it is opened, and read when needed.

::

    ROOT/ImageSets/2017/val.txt            names of the videos, one a line
    ROOT/JPEGImages/480p/bear/00000.jpg    frames, of any format of PICTURE_SUFFIXES
    ROOT/Annotations/480p/bear/00000.png   masks, object numbers as palette indices; 255 is void
    ROOT/Scribbles/bear/001.json           strokes of the first round (optional; or 002.json, ...)

The resolution folders may be missing, as in MOSE.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ivos.data.datasets.folder_set import first_masks_video
from ivos.data.datasets.paths import folder_of
from ivos.interaction import ScribbleError, read_scribbles
from ivos.runtime.errors import listing
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, files_in, pictures_in
from ivos.video.index import Index, inspect_files
from ivos.video.names import keep, select
from ivos.video.reader import has_sequences, subsets_in
from ivos.video.video import Video, VideoSet, areas_of, check_files, labels_of, usable


@accept_former_keywords(subset="split")
class DavisFolder(VideoSet):
    """The videos of a split of a folder in DAVIS layout: an immutable list, ordered by name.

    Every file of the selected videos is decoded and checked when the folder is opened, so that a long run
    does not fail halfway. This takes about 3 ms of processor time per 854x480 frame with its mask, spread
    over processes: on one core 6 s for the 1999 frames of DAVIS 2017 val, 18 s for the 6208 frames of
    trainval. The result is stored in an index, so that only changed files are decoded the next time.

    The objects of a video are all objects in its masks, numbered 1..N in the order of their labels; labels
    may have gaps. An object is absent from a frame whose mask does not show it: it may appear late or leave.

    Args:
        root: Folder with ImageSets, JPEGImages, Annotations and (optionally) Scribbles; None uses the default
            location, ``data/DAVIS``.
        split: Name of a list in ImageSets; "trainval" means train and val if it has no list of its own.
        sequences: Names of the videos of the split to use; None uses all.
        year: Folder of the lists in ImageSets.
        resolution: Folder of the frames in JPEGImages and of the masks in Annotations.
        index: See :func:`ivos.video.index.inspect_files`.
        first_masks: Whether only first masks have been published, as for ``test-dev``. All frames are then
            segmented from these masks (``protocol=first_mask``), and there are no scores.

    Raises:
        DataError: The folder cannot be used; the message lists all faults and files concerned.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "val",
        sequences: Sequence[str] | None = None,
        year: str = "2017",
        resolution: str = "480p",
        index: Index = True,
        first_masks: bool = False,
    ) -> None:
        self.first_masks = first_masks
        _check_options(split=split, year=year, resolution=resolution)
        self.root, self.split = folder_of("DAVIS", root, "data.davis_root"), split
        self._frames = self.root / "JPEGImages" / str(resolution)
        self._masks = self.root / "Annotations" / str(resolution)
        if self._frames.parent.is_dir() and not self._frames.is_dir() and has_sequences(self._frames.parent):
            self._frames, self._masks = self._frames.parent, self._masks.parent
        lists = self.root / "ImageSets" / str(year)
        self._check_layout(lists)
        where = f"split {split!r} of {self.root}"
        self._videos = self._open(keep(select(lists, split), sequences, where), index)

    def _check_layout(self, lists: Path) -> None:
        missing = [folder for folder in (lists, self._frames, self._masks) if not folder.is_dir()]
        if missing:
            inside = f"; data=mose reads {listing(found)}" if (found := subsets_in(self.root)) else ""
            raise DataError(
                f"{self.root} is not a folder in DAVIS layout "
                "(ImageSets/YEAR/SPLIT.txt, JPEGImages/RESOLUTION/SEQUENCE/*.jpg, "
                f"Annotations/RESOLUTION/SEQUENCE/*.png){inside}; missing:",
                [f"{folder.relative_to(self.root)}{_instead(folder)}" for folder in missing],
            )

    def _open(self, names: list[str], index: Index) -> tuple[Video, ...]:
        files = {
            name: (pictures_in(self._frames / name), files_in(self._masks / name, ".png")) for name in names
        }
        frames, masks = ([path for pair in files.values() for path in pair[kind]] for kind in (0, 1))
        inspected = inspect_files(frames, masks, self.root, index)
        found = (self._check_video(name, *pair, inspected) for name, pair in files.items())
        return usable(found, self.root, f"split {self.split!r}")

    def _check_video(
        self, name: str, frames: list[Path], masks: list[Path], inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        """Return the video, or a list of its problems, each of which starts with the path of a file."""
        problems = [] if frames else [f"{self._frames / name}: no frames (*.jpg, *.png, ...)"]
        problems += [] if masks else [f"{self._masks / name}: no masks (*.png)"]
        problems += _unpaired(frames, masks, self.first_masks) if frames and masks else []
        size, found = check_files(frames, masks, inspected)
        problems += found
        if self.first_masks and not problems:
            return first_masks_video(name, frames, masks, size, inspected)
        labels = labels_of(masks, inspected)
        if masks and not labels and not problems:
            problems.append(f"{self._masks / name}: no object in any mask")
        scribbles = files_in(self.root / "Scribbles" / name, ".json")
        problems += _no_files(self.root / "Scribbles" / name, ".json")
        file_labels = () if labels == tuple(range(1, len(labels) + 1)) else labels
        areas = areas_of(masks, inspected, labels)
        files = tuple(frames), tuple(masks), tuple(scribbles)
        video = Video(name, *files, size, len(labels), areas, file_labels=file_labels)
        problems += _check_scribbles(video)
        return problems or video


def _check_options(**options: object) -> None:
    """Check that values are names; whole numbers are accepted, because Hydra may parse a name as a number."""
    for name, value in options.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise DataError(f"data.{name}: a name is needed, got {value!r}")


def _check_scribbles(video: Video) -> list[str]:
    """Return the problems of a video's scribble files, which must be 001.json, 002.json, ..."""
    files = video.scribbles
    numbered = [path for path in files if re.fullmatch(r"\d+", path.stem)]
    problems = [f"{path}: not named by a number (001.json)" for path in files if path not in numbered]
    for number, path in enumerate(numbered, start=1):
        if int(path.stem) != number:
            missing = path.with_name(f"{number:03d}.json")
            problems.append(f"{missing}: missing, but {path.name} exists")
            break
    ids = video.object_ids or None
    for path in numbered:
        try:
            frames = read_scribbles(path, video.name, video.num_frames or None, object_ids=ids)["scribbles"]
        except ScribbleError as error:
            problems.append(str(error))
            continue
        annotated = sum(bool(strokes) for strokes in frames)
        if annotated != 1:
            problems.append(f"{path}: strokes on {annotated} frames; a first round needs them on one frame")
    return problems


def _no_files(folder: Path, suffix: str) -> list[str]:
    """Return problems of folders that are named like scribble files and would otherwise be ignored."""
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.suffix == suffix and path.name[0] != ".")
    return [f"{path}: not a file" for path in found if not path.is_file()]


def _unpaired(frames: list[Path], masks: list[Path], some_masks: bool) -> list[str]:
    """Return problems of frames without a mask (unless ``some_masks``) and of masks without a frame."""
    frame_stems, mask_stems = {path.stem for path in frames}, {path.stem for path in masks}
    bare = [path for path in frames if path.stem not in mask_stems and not some_masks]
    return [f"{path}: frame without a mask" for path in bare] + [
        f"{path}: mask without a frame" for path in masks if path.stem not in frame_stems
    ]


def _instead(folder: Path) -> str:
    """Return a hint that lists the existing folders next to a missing folder."""
    if not folder.parent.is_dir():
        return ""
    existing = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
    return f" (existing: {listing(existing)})" if existing else ""
