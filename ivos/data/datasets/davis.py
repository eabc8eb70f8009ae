"""Video in DAVIS layout, any folder of it: checked before any work, then read as it is needed.

::

    ROOT/ImageSets/2017/val.txt            names of the videos, one a line
    ROOT/JPEGImages/480p/bear/00000.jpg    frames
    ROOT/Annotations/480p/bear/00000.png   masks, object numbers as palette indices; 255 is void
    ROOT/Scribbles/bear/001.json           strokes of a first round (optional; 002.json, ... others)
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ivos.data.datasets.paths import folder_of
from ivos.interaction import ScribbleError, read_scribbles
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, files_in, listing
from ivos.video.index import Index, inspect_files
from ivos.video.names import keep, select
from ivos.video.video import Video, VideoSet, areas_of, check_files, usable


@accept_former_keywords(subset="split")
class DavisFolder(VideoSet):
    """The videos of a split of a folder in DAVIS layout: an immutable list, ordered by name.

    Every file of the selected videos is decoded and checked when the folder is opened, so that nothing
    fails half-way through a long run. It costs about 3 ms of processor time per 854x480 frame with its mask,
    spread over processes: on one core 6 s for the 1999 frames of DAVIS 2017 val, 18 s for all 6208 of
    trainval. What was found out is kept in an index, so that the next time only changed files cost that.

    Args:
        root: the folder with ImageSets, JPEGImages, Annotations and (optionally) Scribbles; None: the default
            place, ``data/DAVIS``.
        split: the name of a list in ImageSets; "trainval" is train and val where it has no list of its own.
        sequences: names to keep of the split; None for all of them.
        year: the folder of the lists in ImageSets.
        resolution: the folder of the frames in JPEGImages and of the masks in Annotations.
        index: see :func:`ivos.video.index.inspect_files`.

    Raises:
        DataError: all that is wrong with the folder, every offending file named.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "val",
        sequences: Sequence[str] | None = None,
        year: str = "2017",
        resolution: str = "480p",
        index: Index = True,
    ) -> None:
        _check_options(split=split, year=year, resolution=resolution)
        self.root, self.split = folder_of("DAVIS", root, "data.davis_root"), split
        self._frames = self.root / "JPEGImages" / str(resolution)
        self._masks = self.root / "Annotations" / str(resolution)
        lists = self.root / "ImageSets" / str(year)
        self._check_layout(lists)
        where = f"split {split!r} of {self.root}"
        self._videos = self._open(keep(select(lists, split), sequences, where), index)

    def _check_layout(self, lists: Path) -> None:
        missing = [folder for folder in (lists, self._frames, self._masks) if not folder.is_dir()]
        if missing:
            raise DataError(
                f"{self.root} is not a folder in DAVIS layout "
                "(ImageSets/YEAR/SUBSET.txt, JPEGImages/RESOLUTION/SEQUENCE/*.jpg, "
                "Annotations/RESOLUTION/SEQUENCE/*.png); missing:",
                [f"{folder.relative_to(self.root)}{_instead(folder)}" for folder in missing],
            )

    def _open(self, names: list[str], index: Index) -> tuple[Video, ...]:
        files = {
            name: (files_in(self._frames / name, ".jpg"), files_in(self._masks / name, ".png"))
            for name in names
        }
        inspected = inspect_files(
            [path for pair in files.values() for paths in pair for path in paths], self.root, index
        )
        found = (self._check_video(name, *pair, inspected) for name, pair in files.items())
        return usable(found, self.root, f"split {self.split!r}")

    def _check_video(
        self, name: str, frames: list[Path], masks: list[Path], inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        """The video, or its problems, each led by the file's path."""
        problems = [] if frames else [f"{self._frames / name}: no frames (*.jpg)"]
        problems += [] if masks else [f"{self._masks / name}: no masks (*.png)"]
        problems += _unpaired(frames, masks) if frames and masks else []
        size, found = check_files(frames, masks, inspected)
        problems += found
        num_objects, found = _check_labels(masks, inspected)
        scribbles = files_in(self.root / "Scribbles" / name, ".json")
        problems += _no_files(self.root / "Scribbles" / name, ".json")
        problems += found + _check_scribbles(scribbles, name, len(frames) or None, num_objects)
        if problems or num_objects is None:
            return problems
        areas = areas_of(masks, inspected, range(1, num_objects + 1))
        files = tuple(frames), tuple(masks), tuple(scribbles)
        return Video(name, *files, size, num_objects, areas)


def _check_options(**options: object) -> None:
    """Names of folders and lists, which Hydra may have taken for numbers, are needed."""
    for name, value in options.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise DataError(f"data.{name}: a name is needed, got {value!r}")


def _check_labels(masks: list[Path], inspected: Mapping[Path, FileInfo]) -> tuple[int | None, list[str]]:
    """The number of objects in the first frame (None if unknown), and the masks that do not fit it.

    They are numbered 1..N: a number that is left out would be an object that every mask has right.
    """
    if not masks or inspected[masks[0]].problem:
        return None, []
    first = inspected[masks[0]]
    objects = first.objects
    if not objects:
        return None, [f"{masks[0]}: no object in the first frame"]
    problems = []
    if gaps := set(range(1, max(objects))) - objects:
        problems.append(
            f"{masks[0]}: has objects {listing(objects)} but not {listing(gaps)}; "
            "objects must be numbered 1, 2, ... without gaps"
        )
    for path in masks[1:]:
        extra = inspected[path].objects - first.objects
        if extra:
            problems.append(f"{path}: has label {listing(extra)}, which the first frame lacks")
    return max(objects), problems


def _check_scribbles(
    files: list[Path], name: str, num_frames: int | None, num_objects: int | None
) -> list[str]:
    """The problems of a video's scribble files, which must be 001.json, 002.json, ..."""
    numbered = [path for path in files if re.fullmatch(r"\d+", path.stem)]
    problems = [f"{path}: not named by a number (001.json)" for path in files if path not in numbered]
    for number, path in enumerate(numbered, start=1):
        if int(path.stem) != number:
            missing = path.with_name(f"{number:03d}.json")
            problems.append(f"{missing}: missing, but {path.name} is there")
            break
    for path in numbered:
        try:
            frames = read_scribbles(path, name, num_frames, num_objects)["scribbles"]
        except ScribbleError as error:
            problems.append(str(error))
            continue
        annotated = sum(bool(strokes) for strokes in frames)
        if annotated != 1:
            problems.append(f"{path}: strokes on {annotated} frames; a first round has them on one")
    return problems


def _no_files(folder: Path, suffix: str) -> list[str]:
    """What is called like a file of strokes, but is none: without it others would be drawn."""
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.suffix == suffix and path.name[0] != ".")
    return [f"{path}: not a file" for path in found if not path.is_file()]


def _unpaired(frames: list[Path], masks: list[Path]) -> list[str]:
    frame_stems, mask_stems = {path.stem for path in frames}, {path.stem for path in masks}
    return [f"{path}: frame without a mask" for path in frames if path.stem not in mask_stems] + [
        f"{path}: mask without a frame" for path in masks if path.stem not in frame_stems
    ]


def _instead(folder: Path) -> str:
    """What lies beside a missing folder, as a hint."""
    if not folder.parent.is_dir():
        return ""
    there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
    return f" (there is: {listing(there)})" if there else ""
