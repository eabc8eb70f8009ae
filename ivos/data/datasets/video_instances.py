"""Reader of LV-VIS and UVO as released: a JSON file in the format of YouTube-VIS with run-length masks.

::

    ROOT/val_instances.json                           LV-VIS: videos, and annotations with a mask per frame
    ROOT/val/JPEGImages/00000/00000.jpg               LV-VIS: frames, named in the JSON as 00000/00000.jpg
    ROOT/JPEGImages/val/00000/00000.jpg               LV-VIS: alternative folder of the frames
    ROOT/VideoDenseSet/UVO_video_val_dense.json       UVO v1.0, the dense set
    ROOT/uvo_videos_dense_frames/VIDEO/0.png          UVO: frames, as extracted by UVO's tools

The layouts are described by the README of https://github.com/haochenheheda/LVVIS and by the guide to UVO's
kit, https://sites.google.com/view/unidentified-video-object. Objects may overlap. An object is absent from a
frame on which it has no mask. Videos without annotations are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ivos.data.datasets.folder_set import FolderSet, Pair
from ivos.data.datasets.paths import require
from ivos.runtime.errors import listing
from ivos.runtime.files import read_json
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, by
from ivos.video.labels import VOID
from ivos.video.names import name_fault
from ivos.video.run_lengths import decode_runs, lengths
from ivos.video.video import OverlappingObjects, Video, check_files

Kind = Literal["LV-VIS", "UVO"]
Code = Mapping[str, Any]


class _Layout(NamedTuple):
    """Paths of the parts of a data set; ``SPLIT`` is replaced by the name of the split."""

    file: str
    frames: tuple[str, ...]  # alternative folders


LAYOUTS: dict[str, _Layout] = {
    "LV-VIS": _Layout("SPLIT_instances.json", ("SPLIT/JPEGImages", "JPEGImages/SPLIT")),
    "UVO": _Layout("VideoDenseSet/UVO_video_SPLIT_dense.json", ("uvo_videos_dense_frames",)),
}


@dataclass(frozen=True)
class RunLengthVideo(OverlappingObjects):
    """A video with run-length masks; ``annotations`` are its frames, because there are no mask files.

    Attributes:
        codes: For each object and each frame, the encoded mask (:func:`ivos.video.run_lengths.decode_runs`)
            or None.
    """

    codes: tuple[tuple[Code | None, ...], ...] = field(default=(), compare=False, repr=False)

    def read_object(self, path: Path, number: int) -> NDArray[np.uint8]:
        """Return the mask of an object; see :meth:`Video.read_object`. There are no void pixels."""
        code = self.codes[number - 1][self.annotations.index(path)]
        return np.zeros(self.size[::-1], np.uint8) if code is None else decode_runs(code)


@accept_former_keywords(subset="split")
class VideoInstances(FolderSet[Pair]):
    """The videos of a data set in the format of YouTube-VIS: an immutable list, ordered by name.

    Args:
        kind: Name of the data set.
        root: Folder of the data set; None uses the default location, ``data/KIND``.
        split: ``train`` or ``val``; the masks of ``test`` have not been published.
        options: Options ``videos``, ``index`` and ``skip_faulty`` of
            :class:`ivos.data.datasets.folder_set.FolderSet`; the name of a video is the folder of its frames.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    default_split = "val"

    def __init__(
        self,
        kind: Kind,
        root: str | Path | None = None,
        split: str | None = None,
        **options: Any,
    ) -> None:
        if kind not in LAYOUTS:
            raise DataError(f"data.kind: must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind = self.name = kind
        self.option = f"data.{kind.lower().replace('-', '_')}_root"
        super().__init__(root, split, **options)

    def _locate(self) -> None:
        layout = LAYOUTS[self.kind]
        self._file = self.root / layout.file.replace("SPLIT", self.split)
        places = [self.root / place.replace("SPLIT", self.split) for place in layout.frames]
        self._frames = next((place for place in places if place.is_dir()), places[0])
        require(self.root, [self._file, self._frames], f"{self.kind} as released")
        self._videos_of_file = self._read()

    def _read(self) -> dict[str, tuple[list[str], list[list[Code | None]]]]:
        """Return for each video the names of its frames and the masks of its objects."""
        try:
            content = read_json(self._file)
            names = {entry["id"]: [str(name) for name in entry["file_names"]] for entry in content["videos"]}
            masks: dict[Any, list[list[Code | None]]] = {number: [] for number in names}
            for entry in content["annotations"]:
                masks[entry["video_id"]].append(list(entry["segmentations"]))
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise DataError(
                f"{self._file}: not in the format of YouTube-VIS (videos with id and file_names, annotations "
                f"with video_id and segmentations): {type(error).__name__} {error}"
            ) from error
        found = {}
        for number, files in names.items():
            folders = {name.rpartition("/")[0] for name in files}
            folder = folders.pop() if len(folders) == 1 else ""
            if fault := name_fault(folder):
                raise DataError(f"{self._file}: video {number}: its frames are not in one folder ({fault})")
            if masks[number]:
                found[folder] = files, masks[number]
        return found

    def _names(self) -> list[str]:
        return sorted(self._videos_of_file)

    def _files(self, name: str) -> Pair:
        paths = [self._frames / file for file in self._videos_of_file[name][0]]
        return Pair([path for path in paths if path.is_file()], [])

    def _check(self, name: str, files: Pair, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        named, codes = self._videos_of_file[name]
        missing = [path for path in (self._frames / file for file in named) if path not in inspected]
        problems = [f"{path}: missing" for path in missing]
        size, found = check_files(files.frames, [], inspected)
        problems += found
        if len(codes) >= VOID:
            problems.append(f"{self._file}: video {name}: {len(codes)} objects; a video has 1 to {VOID - 1}")
        if wrong := [n for n, each in enumerate(codes, 1) if len(each) != len(named)]:
            problems.append(
                f"{self._file}: video {name}, objects {listing(map(str, wrong))}: the number of masks is not "
                f"the number of frames, {len(named)}"
            )
        if problems:
            return problems
        try:
            areas = np.array([[_area(code, size) for code in frame] for frame in zip(*codes, strict=True)])
        except (ValueError, TypeError, LookupError) as error:
            return [f"{self._file}: video {name}: {error}"]
        frames = tuple(files.frames)
        masks = tuple(tuple(each) for each in codes)
        return RunLengthVideo(name, frames, frames, (), size, len(codes), areas, codes=masks)


def _area(code: Code | None, size: tuple[int, int]) -> int:
    """Return the number of pixels of a mask.

    Raises:
        ValueError: The mask does not have the size of the frames.
    """
    if code is None:
        return 0
    if tuple(code["size"]) != size[::-1]:
        raise ValueError(f"a mask of {by(tuple(code['size'])[::-1])}, but frames of {by(size)}")
    return sum(lengths(code)[1::2])
