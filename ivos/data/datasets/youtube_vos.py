"""YouTube-VOS, the releases of 2018 and 2019, as they unpack; checked before any work.

::

    ROOT/train/meta.json                             videos -> id -> objects -> number -> frames
    ROOT/train/JPEGImages/003234408d/00000.jpg       frames
    ROOT/train/Annotations/003234408d/00000.png      masks of every fifth frame, object numbers as palette
                                                     indices

Both releases look alike and differ in their videos. Of the frames those with a mask are used; the others,
which come with ``train_all_frames``, may lie among them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ivos.data.datasets.paths import folder_of, require
from ivos.runtime.errors import listing
from ivos.runtime.files import read_json
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError, FileInfo, MaskedFrames, masked_frames
from ivos.video.index import Index, inspect_files
from ivos.video.labels import VOID
from ivos.video.names import keep, name_fault, read_list
from ivos.video.video import Video, VideoSet, areas_of, check_files, labels_of, usable

MAX_OBJECTS = 254
Objects = dict[int, list[str]]  # an object's number: the names of the frames it is on


@accept_former_keywords(subset="split")
class YouTubeVOS(VideoSet):
    """The annotated frames of the videos of YouTube-VOS: an immutable list, ordered by name.

    An object's masks begin with the first frame that ``meta.json`` names for it. Before that the set does not
    say where the object is (``Video.known``); after its last frame it is gone. Numbers in ``meta.json`` may
    have gaps: a video's objects are numbered 1..N in their order.

    Args:
        root: the folder with ``train``; None: the default place, ``data/YouTube-VOS``.
        split: a folder of the root. Of ``valid`` and ``test`` the masks have not been published.
        videos: names to keep, or a file that lists them, one a line; None for all of ``meta.json``.
        index: see :func:`ivos.video.index.inspect_files`.
        skip_faulty: leave videos with faults out, with a word, instead of refusing the set.

    Raises:
        DataError: all that is wrong with the set, every offending file named.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        videos: Sequence[str] | str | Path | None = None,
        index: Index = True,
        skip_faulty: bool = False,
    ) -> None:
        self.root, self.split = folder_of("YouTube-VOS", root, "data.youtube_vos_root"), split
        self._folder = self.root / split
        objects = self._read_meta()
        if isinstance(videos, str | Path):
            if not Path(videos).is_file():
                raise DataError(f"{videos}: no such list of videos (data.train.videos)")
            videos = read_list(Path(videos))
        names = keep(sorted(objects), videos, str(self._folder / "meta.json"))
        self._videos = self._open({name: objects[name] for name in names}, index, skip_faulty)

    def _read_meta(self) -> dict[str, Objects]:
        wanted = [self._folder / name for name in ("meta.json", "JPEGImages", "Annotations")]
        layout = (
            f"YouTube-VOS as it unpacks ({self.split}/meta.json, {self.split}/JPEGImages/VIDEO/*.jpg, "
            f"{self.split}/Annotations/VIDEO/*.png)"
        )
        require(self.root, wanted, layout)
        return read_meta(wanted[0])

    def _open(self, videos: dict[str, Objects], index: Index, skip_faulty: bool) -> tuple[Video, ...]:
        files = {name: self._files(name) for name in videos}
        frames = [path for each in files.values() for path in each.frames]
        masks = [path for each in files.values() for path in each.masks]
        inspected = inspect_files(frames, masks, self.root, index)
        found = (self._check(name, objects, files[name], inspected) for name, objects in videos.items())
        return usable(found, self.root, self.split, skip_faulty)

    def _files(self, name: str) -> MaskedFrames:
        return masked_frames(self._folder / "JPEGImages" / name, self._folder / "Annotations" / name)

    def _check(
        self, name: str, objects: Objects, files: MaskedFrames, inspected: Mapping[Path, FileInfo]
    ) -> Video | list[str]:
        """Return the video, or its problems, each of which begins with a path."""
        images, masks = (self._folder / kind / name for kind in ("JPEGImages", "Annotations"))
        problems = [] if files.all_frames else [f"{images}: no frames (*.jpg, *.png, ...)"]
        problems += [] if files.masks or files.strays else [f"{masks}: no masks (*.png)"]
        if problems:
            return problems
        problems = self._check_names(objects, files, images, masks)
        size, found = check_files(files.frames, files.masks, inspected)
        problems += found
        for path in files.masks:
            extra = inspected[path].objects - set(objects)
            if extra:
                problems.append(f"{path}: has object {listing(extra)}, which meta.json does not name")
        file_labels = labels_of(files.masks, inspected)
        binary = file_labels == (VOID,) and len(objects) == 1
        shown = set(objects) if binary else set(file_labels) - {VOID}
        if not problems and set(objects) - shown:
            never = f"names object {listing(set(objects) - shown)}, which no mask shows"
            problems.append(f"{self._folder / 'meta.json'}: video {name}: {never}")
        if problems:
            return problems
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
