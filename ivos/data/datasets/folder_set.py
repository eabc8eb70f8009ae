"""Base classes of the readers of data sets in folders, which inspect all files and check each video."""

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
    """Interface of the files of one video."""

    @property
    def frames(self) -> Iterable[Path]:
        """Image files of the frames to inspect."""
        ...

    @property
    def masks(self) -> Iterable[Path]:
        """Mask files to inspect."""
        ...


Files = TypeVar("Files", bound=VideoFiles)


class Pair(NamedTuple):
    """The files of a video as two lists."""

    frames: list[Path]
    masks: list[Path]


@accept_former_keywords(subset="split")
class FolderSet(VideoSet, Generic[Files]):
    """The annotated frames of the videos of a set in a folder: an immutable list, ordered by name.

    A reader defines where the parts of the set are (:meth:`_locate`), the names of its videos
    (:meth:`_names`), the files of a video (:meth:`_files`), and the check of a video (:meth:`_check`).

    Args:
        root: Folder of the data set; None uses the default location, ``data/NAME``.
        split: Split of the data set; None uses the reader's default.
        videos: Names of the videos to use, or a file with one name per line; None uses all.
        index: See :func:`ivos.video.index.inspect_files`.
        skip_faulty: Whether videos with faults are skipped with a warning instead of raising an error.

    Raises:
        DataError: The data set cannot be used; the message lists all faults and files concerned.
    """

    name: str
    """Name of the data set, and of its folder in the default location."""
    option: str
    """Option that names the folder."""
    default_split: str = "train"
    role: Role = "mask"
    """Kind of the mask files for the inspection."""

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
        """Find the parts of the data set; raise a DataError if they are missing."""

    @abstractmethod
    def _names(self) -> list[str]:
        """Return the names of the videos of the split, in order."""

    @abstractmethod
    def _files(self, name: str) -> Files:
        """Return the files of a video."""

    @abstractmethod
    def _check(self, name: str, files: Files, inspected: Mapping[Path, FileInfo]) -> Video | list[str]:
        """Return the video, or a list of its problems, each of which starts with a path."""

    def _where(self) -> str:
        """Return the name of the data set and its split, for messages."""
        return f"{self.name}, {self.split}"


class PairedFolders(FolderSet[MaskedFrames]):
    """A set with a folder of frames and a folder of masks for each video.

    A reader defines these folders (:meth:`_folders`) and creates the video from its checked files
    (:meth:`_video`).
    """

    first_masks: bool = False
    """Whether masks have been published only for the frames on which objects first appear."""

    @abstractmethod
    def _folders(self, name: str) -> tuple[Path, Path]:
        """Return the folder of a video's frames and that of its masks."""

    @abstractmethod
    def _video(
        self, name: str, files: MaskedFrames, size: tuple[int, int], inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        """Return the video with these files, which are readable and of equal size, or a list of problems."""

    def _files(self, name: str) -> MaskedFrames:
        images, masks = self._folders(name)
        files = masked_frames(images, masks, self._key)
        return files._replace(frames=pictures_in(images)) if self.first_masks else files

    @staticmethod
    def _key(stem: str) -> str:
        """Return the part of a file name that a frame and its mask have in common."""
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
    """Return a video that has masks only on some frames, or a list of its problems.

    Args:
        name: Name of the video.
        frames: All frames of the video.
        masks: Masks of the video, each named like its frame.
        size: Width and height.
        inspected: Results of the inspection of the files.
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
    """Return the given names, or the names that a file lists."""
    if isinstance(videos, Path) or (isinstance(videos, str) and videos.endswith(".txt")):
        if not Path(videos).is_file():
            raise DataError(f"{videos}: no such list of videos (data.train.videos)")
        return read_list(Path(videos))
    return videos


def folders_in(place: Path, what: str) -> list[str]:
    """Return the sorted names of the subfolders of a folder, which become names of videos.

    Args:
        place: The folder.
        what: Description of the expected content, for the error message.

    Raises:
        DataError: There are no subfolders, or a name cannot be the name of a video.
    """
    folders = [path.name for path in place.iterdir() if path.is_dir() and path.name[0] != "."]
    faults = [fault for name in folders if (fault := name_fault(name))]
    if faults or not folders:
        raise DataError(f"{place}: {faults[0] if faults else f'no {what}'}")
    return sorted(folders)


def missing_files(
    frames: Path, masks: Path, there: Collection[object], masked: Collection[object]
) -> list[str]:
    """Return the problems of a video that has no frames or no masks at all.

    Args:
        frames: Folder of the frames.
        masks: Folder of the masks.
        there: Frames of the video.
        masked: Masks of the video.
    """
    problems = [] if there else [f"{frames}: no frames (*.jpg, *.png, ...)"]
    return problems + ([] if masked else [f"{masks}: no masks (*.png)"])
