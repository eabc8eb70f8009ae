"""What all readers of a folder share: find it, choose its videos, inspect their files, check each video."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from ivos.data.datasets.paths import folder_of
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, MaskedFrames, Role, masked_frames, pictures_in
from ivos.video.index import Index, inspect_files
from ivos.video.names import keep, name_fault, read_list
from ivos.video.video import FirstMasksVideo, Video, VideoSet, areas_of, check_files, labels_of, usable


class VideoFiles(Protocol):
    """The files of one video, of which a reader may know more than these."""

    @property
    def frames(self) -> Iterable[Path]:
        """Pictures to inspect."""
        ...

    @property
    def masks(self) -> Iterable[Path]:
        """Masks to inspect."""
        ...


Files = TypeVar("Files", bound=VideoFiles)


class Pair(NamedTuple):
    """The files of a video that are to be inspected."""

    frames: list[Path]
    masks: list[Path]


@accept_former_keywords(subset="split")
class FolderSet(VideoSet, Generic[Files]):
    """The annotated frames of the videos of a set in a folder: an immutable list, ordered by name.

    A reader says where its parts are (:meth:`_locate`), what its videos are called (:meth:`_names`), which
    files a video has (:meth:`_files`) and whether it can be used (:meth:`_check`).

    Args:
        root: The folder of the set; None: the default place, ``data/NAME``.
        split: The part of the set; None for the reader's default.
        videos: Names to keep, or a file that lists them, one a line; None for all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Leave out videos with faults, with a warning, instead of refusing the set.

    Raises:
        DataError: All that is wrong with the set; every offending file is named.
    """

    name: str
    """The name of the set and of its folder in the default place."""
    option: str
    """The option that names the folder."""
    default_split: str = "train"
    role: Role = "mask"
    """What the masks are for the inspection."""

    def __init__(
        self,
        root: str | Path | None = None,
        split: str | None = None,
        videos: Sequence[str] | str | Path | None = None,
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        self.split = self.default_split if split is None else split
        self.root = folder_of(self.name, root, self.option)
        self._locate()
        names = keep(self._names(), _chosen(videos), self._where())
        files = {name: self._files(name) for name in names}
        frames = [path for each in files.values() for path in each.frames]
        masks = [path for each in files.values() for path in each.masks]
        inspected = inspect_files(frames, masks, self.root, index, self.role)
        found = (self._check(name, each, inspected) for name, each in files.items())
        self._videos = usable(found, self.root, self.split, skip_faulty)

    @abstractmethod
    def _locate(self) -> None:
        """Find the parts of the set, or refuse it."""

    @abstractmethod
    def _names(self) -> list[str]:
        """Return the names of the videos of the split, in order."""

    @abstractmethod
    def _files(self, name: str) -> Files:
        """Return the files of a video."""

    @abstractmethod
    def _check(self, name: str, files: Files, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        """Return the video, or its problems, each of which begins with a path."""

    def _where(self) -> str:
        """Return what the names are of, for messages."""
        return f"{self.name}, {self.split}"


class PairedFolders(FolderSet[MaskedFrames]):
    """A set with a folder of frames and a folder of masks for each video.

    A reader says which folders these are (:meth:`_folders`), and what the video of checked files is
    (:meth:`_video`).
    """

    first_masks: bool = False
    """Whether masks have been published on the frames alone on which objects first appear."""

    @abstractmethod
    def _folders(self, name: str) -> tuple[Path, Path]:
        """Return the folder of a video's frames and that of its masks."""

    @abstractmethod
    def _video(
        self, name: str, files: MaskedFrames, size: tuple[int, int], inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        """Return the video of files that are readable and of one size, or its problems."""

    def _files(self, name: str) -> MaskedFrames:
        images, masks = self._folders(name)
        files = masked_frames(images, masks, self._key)
        return files._replace(frames=pictures_in(images)) if self.first_masks else files

    @staticmethod
    def _key(stem: str) -> str:
        """Return what the name of a frame has in common with that of its mask."""
        return stem

    def _check(self, name: str, files: MaskedFrames, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        images, place = self._folders(name)
        problems = missing_files(images, place, files.all_frames, [*files.masks, *files.strays])
        if files.all_frames:
            problems += [f"{path}: mask without a frame" for path in files.strays]
        size, found = check_files(files.frames, files.masks, inspected)
        if problems or found:
            return problems + found
        if self.first_masks:
            return first_masks_video(name, files.frames, files.masks, size, inspected)
        return self._video(name, files, size, inspected)


def first_masks_video(
    name: str,
    frames: Sequence[Path],
    masks: Sequence[Path],
    size: tuple[int, int],
    inspected: Mapping[Path, FileInfo],
) -> Video | list[str]:
    """Return a video whose masks are given on some frames only, or its problems.

    Args:
        name: The video's name.
        frames: All of its frames.
        masks: Its masks, each named as its frame.
        size: Width and height.
        inspected: What was found out about the files.
    """
    labels = labels_of(masks, inspected)
    if not labels:
        return [f"{path}: shows no object" for path in masks] or [f"{name}: no masks"]
    given = {path.stem: path for path in masks}
    annotations = tuple(given.get(path.stem, path) for path in frames)
    counts = dict(zip(masks, areas_of(masks, inspected, labels), strict=True))
    areas = np.array([counts.get(path, np.zeros(len(labels), np.int64)) for path in annotations])
    begins = (len(frames),) * len(labels)
    return FirstMasksVideo(name, tuple(frames), annotations, (), size, len(labels), areas, begins, labels)


def _chosen(videos: Sequence[str] | str | Path | None) -> Sequence[str] | str | None:
    """Return the names that are wanted: themselves, or those that a file lists."""
    if isinstance(videos, Path) or (isinstance(videos, str) and videos.endswith(".txt")):
        if not Path(videos).is_file():
            raise DataError(f"{videos}: no such list of videos (data.train.videos)")
        return read_list(Path(videos))
    return videos


def folders_in(place: Path, what: str) -> list[str]:
    """Return the names of the folders in a folder, in order; they become names of videos.

    Args:
        place: The folder.
        what: What it should have, as the message says it.

    Raises:
        DataError: There are none, or one of them cannot be the name of a video.
    """
    folders = [path.name for path in place.iterdir() if path.is_dir() and path.name[0] != "."]
    faults = [fault for name in folders if (fault := name_fault(name))]
    if faults or not folders:
        raise DataError(f"{place}: {faults[0] if faults else f'no {what}'}")
    return sorted(folders)


def missing_files(
    frames: Path, masks: Path, there: Collection[object], masked: Collection[object]
) -> list[str]:
    """Return problems of a video that lacks frames or masks altogether.

    Args:
        frames: The folder of its frames.
        masks: The folder of its masks.
        there: Its frames.
        masked: Its masks.
    """
    problems = [] if there else [f"{frames}: no frames (*.jpg, *.png, ...)"]
    return problems + ([] if masked else [f"{masks}: no masks (*.png)"])
