"""Reader of YouTube-VOS, the releases of 2018 and 2019; all files are checked when it is opened.

::

    ROOT/train/meta.json                             videos -> id -> objects -> number -> frames
    ROOT/train/JPEGImages/003234408d/00000.jpg       frames
    ROOT/train/Annotations/003234408d/00000.png      masks of every fifth frame, object numbers as palette
                                                     indices

Both releases have the same layout but different videos. Frames without a mask, which ``train_all_frames``
contains, are ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivos.data.datasets.folder_set import PairedFolders, missing_files
from ivos.data.datasets.paths import require
from ivos.runtime.errors import listing
from ivos.runtime.files import read_json
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, MaskedFrames
from ivos.video.labels import VOID
from ivos.video.names import name_fault
from ivos.video.video import Video, areas_of, check_files, labels_of

MAX_OBJECTS = 254
Objects = dict[int, list[str]]  # names of the frames that show an object, by the object's number


@accept_former_keywords(subset="split")
class YouTubeVOS(PairedFolders):
    """The annotated frames of the videos of YouTube-VOS: an immutable list, ordered by name.

    The position of an object is unknown before the first frame that ``meta.json`` lists for it
    (``Video.known``); after its last frame it is absent. Numbers in ``meta.json`` may have gaps: a video's
    objects are numbered 1..N in the order of these numbers.

    Args:
        root: Folder with ``train``; None uses the default location, ``data/YouTube-VOS``.
        split: A subfolder of the root. For ``valid`` and ``test``, only first masks have been published.
        first_masks: Whether only first masks have been published. All frames are then part of the videos, to
            be segmented from these masks (``protocol=first_mask``), and there are no scores.
        options: Options ``videos``, ``index`` and ``skip_faulty`` of
            :class:`ivos.data.datasets.folder_set.FolderSet`.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name, option = "YouTube-VOS", "data.youtube_vos_root"

    def __init__(
        self,
        root: str | Path | None = None,
        split: str | None = None,
        *,
        first_masks: bool = False,
        **options: Any,
    ) -> None:
        self.first_masks = first_masks
        super().__init__(root, split, **options)

    def _locate(self) -> None:
        self._folder = self.root / self.split
        wanted = [self._folder / name for name in ("meta.json", "JPEGImages", "Annotations")]
        layout = (
            f"YouTube-VOS as released ({self.split}/meta.json, {self.split}/JPEGImages/VIDEO/*.jpg, "
            f"{self.split}/Annotations/VIDEO/*.png)"
        )
        require(self.root, wanted, layout)
        self._objects = read_meta(wanted[0])

    def _names(self) -> list[str]:
        return sorted(self._objects)

    def _where(self) -> str:
        return str(self._folder / "meta.json")

    def _folders(self, name: str) -> tuple[Path, Path]:
        return self._folder / "JPEGImages" / name, self._folder / "Annotations" / name

    def _check(self, name: str, files: MaskedFrames, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        images, masks = self._folders(name)
        if problems := missing_files(images, masks, files.all_frames, [*files.masks, *files.strays]):
            return problems
        if self.first_masks:
            problems = self._never_shown(name, files, inspected)
            return problems or super()._check(name, files, inspected)
        problems = self._check_names(self._objects[name], files, images, masks)
        size, found = check_files(files.frames, files.masks, inspected)
        problems += found
        for path in files.masks:
            extra = inspected[path].objects - set(self._objects[name])
            if extra:
                problems.append(f"{path}: shows object {listing(extra)}, which is not in meta.json")
        problems = problems or self._never_shown(name, files, inspected)
        return problems or self._video(name, files, size, inspected)

    def _never_shown(self, name: str, files: MaskedFrames, inspected: Mapping[Path, FileInfo]) -> list[str]:
        """Return a problem if an object of meta.json is not on any mask."""
        objects, labels = set(self._objects[name]), labels_of(files.masks, inspected)
        never = objects - (objects if labels == (VOID,) and len(objects) == 1 else set(labels))
        words = f"lists object {listing(never)}, which no mask shows"
        return [f"{self._folder / 'meta.json'}: video {name}: {words}"] if never else []

    def _video(
        self, name: str, files: MaskedFrames, size: tuple[int, int], inspected: Mapping[Path, FileInfo]
    ) -> Video:
        objects = self._objects[name]
        file_labels = labels_of(files.masks, inspected)
        binary = file_labels == (VOID,) and len(objects) == 1
        labels = tuple(sorted(objects))
        stems = [path.stem for path in files.masks]
        begins = tuple(min(map(stems.index, objects[label])) for label in labels)
        file_labels = file_labels if binary else labels
        areas = areas_of(files.masks, inspected, file_labels)
        paths = tuple(files.frames), tuple(files.masks), ()
        return Video(name, *paths, size, len(labels), areas, begins, file_labels)

    @staticmethod
    def _check_names(objects: Objects, files: MaskedFrames, images: Path, masks: Path) -> list[str]:
        """Return problems of frames in meta.json that are missing or lack a mask."""
        there = {path.stem for path in (*files.masks, *files.strays)}
        named = sorted({frame for frames in objects.values() for frame in frames})
        problems = [f"{images / frame}.jpg: missing" for frame in named if frame not in files.all_frames]
        problems += [f"{path}: mask without a frame" for path in files.strays if path.stem not in set(named)]
        return problems + [f"{masks / frame}.png: missing" for frame in named if frame not in there]


def read_meta(path: Path) -> dict[str, Objects]:
    """Return the objects of each video in a ``meta.json``.

    Raises:
        DataError: The file is unreadable or has another format; the message lists all faulty videos.
    """
    try:
        videos = read_json(path)["videos"]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable JSON file ({error})") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a meta.json of YouTube-VOS: it has no videos") from error
    if not isinstance(videos, dict) or not videos:
        raise DataError(f"{path}: not a meta.json of YouTube-VOS: it has no videos")
    found, problems = {}, []
    for name, video in videos.items():
        if fault := name_fault(name):
            problems.append(f"video: {fault}")
            continue
        try:
            found[name] = {int(number): _frames(entry) for number, entry in video["objects"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            problems.append(f"video {name}: not of the form objects -> number -> frames")
            continue
        if not found[name] or not all(1 <= number <= MAX_OBJECTS for number in found[name]):
            problems.append(
                f"video {name}: objects {listing(found[name]) or 'none'}; numbers from 1 are needed"
            )
        problems += [
            f"video {name}: lists object {number} without frames"
            for number, frames in found[name].items()
            if not frames
        ]
    if problems:
        raise DataError(f"{path}: unusable", problems)
    return found


def _frames(entry: Mapping[str, object]) -> list[str]:
    frames = entry["frames"]
    if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
        raise TypeError
    return frames
