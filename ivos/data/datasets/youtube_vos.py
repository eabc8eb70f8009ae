"""YouTube-VOS, the releases of 2018 and 2019, as they unpack; checked before any work.

::

    ROOT/train/meta.json                             videos -> id -> objects -> number -> frames
    ROOT/train/JPEGImages/003234408d/00000.jpg       frames
    ROOT/train/Annotations/003234408d/00000.png      masks of every fifth frame, object numbers as palette
                                                     indices

Both releases look alike and differ in their videos. Of the frames those with a mask are used; the others,
which come with ``train_all_frames``, may lie among them.
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
Objects = dict[int, list[str]]  # an object's number: the names of the frames it is on


@accept_former_keywords(subset="split")
class YouTubeVOS(PairedFolders):
    """The annotated frames of the videos of YouTube-VOS: an immutable list, ordered by name.

    An object's masks begin with the first frame that ``meta.json`` names for it. Before that the set does not
    say where the object is (``Video.known``); after its last frame it is gone. Numbers in ``meta.json`` may
    have gaps: a video's objects are numbered 1..N in their order.

    Args:
        root: the folder with ``train``; None: the default place, ``data/YouTube-VOS``.
        split: a folder of the root. Of ``valid`` and ``test`` only first masks have been published.
        first_masks: whether that is so: all frames are then part of the videos, to be segmented from these
            masks (``protocol=first_mask``), and nothing is scored.
        options: ``videos``, ``index`` and ``skip_faulty``, see
            :class:`ivos.data.datasets.folder_set.FolderSet`.

    Raises:
        DataError: all that is wrong with the set, every offending file named.
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
            f"YouTube-VOS as it unpacks ({self.split}/meta.json, {self.split}/JPEGImages/VIDEO/*.jpg, "
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
                problems.append(f"{path}: has object {listing(extra)}, which meta.json does not name")
        problems = problems or self._never_shown(name, files, inspected)
        return problems or self._video(name, files, size, inspected)

    def _never_shown(self, name: str, files: MaskedFrames, inspected: Mapping[Path, FileInfo]) -> list[str]:
        """Every object that meta.json names has to be on a mask."""
        objects, labels = set(self._objects[name]), labels_of(files.masks, inspected)
        never = objects - (objects if labels == (VOID,) and len(objects) == 1 else set(labels))
        words = f"names object {listing(never)}, which no mask shows"
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
        """Frames that meta.json names, and their masks, have to be there."""
        there = {path.stem for path in (*files.masks, *files.strays)}
        named = sorted({frame for frames in objects.values() for frame in frames})
        problems = [f"{images / frame}.jpg: missing" for frame in named if frame not in files.all_frames]
        problems += [f"{path}: mask without a frame" for path in files.strays if path.stem not in set(named)]
        return problems + [f"{masks / frame}.png: missing" for frame in named if frame not in there]


def read_meta(path: Path) -> dict[str, Objects]:
    """Return the objects of each video of a ``meta.json``.

    Raises:
        DataError: the file is unreadable, or not of that form; every video that is not is named.
    """
    try:
        videos = read_json(path)["videos"]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable JSON file ({error})") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: no YouTube-VOS meta.json: it has no videos") from error
    if not isinstance(videos, dict) or not videos:
        raise DataError(f"{path}: no YouTube-VOS meta.json: it has no videos")
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
            f"video {name}: names object {number} without frames"
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
