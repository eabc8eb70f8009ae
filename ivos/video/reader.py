"""Reader of videos: a video file, a folder of pictures, or a sequence of a folder in DAVIS layout."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.runtime.errors import listing
from ivos.runtime.machine import cores
from ivos.runtime.options import whole
from ivos.video.files import (
    PICTURE_SUFFIXES,
    DataError,
    PictureInfo,
    by,
    files_in,
    inspect_file,
    picture_info,
    pictures_in,
    read_frame,
    read_mask,
    reason,
)
from ivos.video.labels import object_labels, renumber

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_QUALITY = 95  # quality of the JPEG files in which the frames of a video are stored

Kind = Literal["file", "folder", "davis"]
Frame = NDArray[np.uint8]  # RGB [h, w, 3]


@dataclass(frozen=True)
class Limits:
    """The largest videos that are accepted.

    Attributes:
        pixels: The largest number of pixels of a frame. The default accepts 4K and refuses 8K.
        frames: The largest number of frames of a video.
    """

    pixels: Annotated[int, whole(1)] = 4096 * 2304
    frames: Annotated[int, whole(1)] = 5000

    def check(self, where: Path, size: tuple[int, int], frames: int = 0) -> None:
        """Check the size of a frame and the number of frames of a video.

        Raises:
            DataError: The frame or the video exceeds the limits.
        """
        if size[0] * size[1] > self.pixels:
            raise DataError(
                f"{where}: frames of {by(size)} exceed limits.pixels={self.pixels}; scale the video down "
                "first (ffmpeg -i IN -vf scale=-2:1080 OUT)"
            )
        if frames > self.frames:
            raise DataError(
                f"{where}: more frames than limits.frames={self.frames}; cut the video into parts"
            )


@dataclass(frozen=True)
class Source:
    """A video that has been found but not decoded.

    Attributes:
        name: The name of the file or folder, without a suffix.
        path: The file, or the folder of the pictures.
        kind: A video ``file``, a ``folder`` of pictures, or a sequence of a ``davis`` folder.
        size: Width and height of the frames that :meth:`decode` returns, in pixels.
        rate: Frames per second; the mean of a variable rate.
        num_frames: Number of frames T. For a video file it is the number in the header, which may be wrong or
            0 (unknown).
        files: The pictures, in order; empty for a video file.
        masks: The mask file of each picture, or None for a picture without a mask; empty for a video file.
        in_place: Whether the pictures can be used as they are: JPEGs without an orientation tag.
        limits: The largest video that is accepted.
    """

    name: str
    path: Path
    kind: Kind
    size: tuple[int, int]
    rate: Fraction
    num_frames: int
    files: tuple[Path, ...] = ()
    masks: tuple[Path | None, ...] = ()
    in_place: bool = False
    limits: Limits = field(default=Limits(), compare=False)

    def decode(self) -> Iterator[tuple[Frame, float]]:
        """Yield each frame, uint8 [h, w, 3] RGB, with its time in seconds after the first.

        Orientation tags are applied, except to a sequence in DAVIS layout, whose masks would no longer fit.

        Raises:
            DataError: The file ends early or has no frame; a picture is unreadable.
        """
        if self.kind == "file":
            yield from _decode_file(self)
        else:
            for index, path in enumerate(self.files):
                yield _read_picture(path, oriented=self.kind == "folder"), float(index / self.rate)

    @cached_property
    def mask_labels(self) -> tuple[int, ...]:
        """The labels of the objects in all mask files: object k of a session has the k-th label.

        Raises:
            DataError: A mask cannot be read.
        """
        found: set[int] = set()
        for path in self.masks:
            info = inspect_file(path, "mask") if path is not None else None
            if info and info.problem:
                raise DataError(f"{path}: {info.problem}")
            found |= info.labels if info else set()
        return object_labels(found)

    def read_mask(self, frame: int) -> NDArray[np.uint8] | None:
        """Read the mask of a frame as numbers of objects, uint8 [h, w]; return None if it has no mask.

        Raises:
            DataError: A mask cannot be read.
        """
        path = self.masks[frame] if self.masks else None
        return None if path is None else renumber(read_mask(path), self.mask_labels)

    def without(self, names: Collection[str]) -> "Source":
        """Return the video without the pictures of these file names."""
        if not names:
            return self
        kept = [index for index, path in enumerate(self.files) if path.name not in names]
        files = tuple(self.files[index] for index in kept)
        masks = tuple(self.masks[index] for index in kept) if self.masks else ()
        return replace(self, files=files, masks=masks, num_frames=len(files))

    def first_frame(self) -> Frame:
        """Return the first frame that can be read.

        Raises:
            DataError: No frame can be read.
        """
        if self.kind == "file":
            return next(iter(self.decode()))[0]
        for path in self.files[:-1]:
            with contextlib.suppress(DataError):
                return _read_picture(path, oriented=self.kind == "folder")
        return _read_picture(self.files[-1], oriented=self.kind == "folder")

    def count_frames(self) -> int:
        """Return the number of frames in the header, or the number of packets if the header lacks it."""
        return self.num_frames or _count_packets(self.path)

    def count_objects(self) -> int:
        """Return the number of objects in the first mask, or 1 if there is no mask.

        Raises:
            DataError: A mask cannot be read.
        """
        first = next((path for path in self.masks if path is not None), None)
        if first is None:
            return 1
        shown = object_labels(np.unique(read_mask(first)).tolist())
        if shown != tuple(range(1, len(shown) + 1)):
            shown = tuple(self.mask_labels.index(label) + 1 for label in shown)
        return max(1, *shown) if shown else 1


def open_source(
    path: str | Path,
    sequence: str | None = None,
    limits: Limits | None = None,
    rate: float = 24,
    faulty_later: bool = False,
) -> Source:
    """Find a video and read its headers.

    Args:
        path: A video file, a folder of pictures of one size, or a folder in DAVIS layout (with or without
            folders for the resolutions).
        sequence: The name of a sequence of a folder in DAVIS layout; None if it has only one.
        limits: The largest video that is accepted; None for the default.
        rate: Frames per second, for a folder of pictures.
        faulty_later: Whether pictures with unreadable headers are accepted, and cause an error only when they
            are decoded.

    Raises:
        DataError: The path does not contain a video that can be used.
    """
    path, limits = Path(path), limits or Limits()
    if is_davis(path):
        names = davis_sequences(path)
        if not names:
            raise DataError(f"{path / 'JPEGImages'}: no folder with pictures ({', '.join(PICTURE_SUFFIXES)})")
        if sequence is None and len(names) != 1:
            raise DataError(
                f"{path}: a folder in DAVIS layout with {len(names)} sequences; choose by "
                f"data.sequences=[NAME] from: {listing(names)}"
            )
        return _open_davis(path, sequence or names[0], limits, rate, faulty_later)
    if sequence is not None:
        raise DataError(f"{path}: data.sequences={sequence}: not a folder in DAVIS layout (no JPEGImages)")
    if path.is_dir():
        if inside := subsets_in(path):
            raise DataError(f"{path}: not a video but a data set; name one of its folders: {listing(inside)}")
        return _open_folder(path, path.resolve().name, limits, rate, faulty_later)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return _open_file(path, limits)


def is_davis(path: str | Path) -> bool:
    """Return whether a folder is in DAVIS layout."""
    return (Path(path) / "JPEGImages").is_dir()


def subsets_in(root: Path) -> list[Path]:
    """Return the subfolders of a data set that are in DAVIS layout, such as ``train`` of MOSE."""
    return sorted(path.parent for path in root.glob("*/JPEGImages") if path.is_dir())


def davis_sequences(root: str | Path) -> list[str]:
    """Return the names of all sequences in a folder in DAVIS layout, including those without a list."""
    frames, _ = davis_folders(Path(root))
    return sorted(folder.name for folder in frames.iterdir() if folder.is_dir() and folder.name[0] != ".")


def davis_folders(root: Path, resolution: str = "480p") -> tuple[Path, Path]:
    """Return the folder that contains the sequences' frames, and the folder that contains their masks.

    These are ``JPEGImages/480p`` and ``Annotations/480p``. If there is only one resolution, its folders are
    returned. If there are no folders for resolutions, as in MOSE, ``JPEGImages`` and ``Annotations``
    themselves are returned.

    Raises:
        DataError: There are several resolutions, but not the requested one.
    """
    frames, masks = root / "JPEGImages", root / "Annotations"
    folders = sorted(each for each in frames.iterdir() if each.is_dir() and each.name[0] != ".")
    names = [folder.name for folder in folders]
    if resolution in names:
        return frames / resolution, masks / resolution
    if has_sequences(frames):
        return frames, masks
    if len(names) != 1:
        raise DataError(f"{frames}: no folder {resolution}; it has: {listing(names) or 'nothing'}")
    return folders[0], masks / names[0]


def has_sequences(folder: Path) -> bool:
    """Return whether any subfolder of a folder contains pictures directly."""
    return any(pictures_in(each) for each in folder.iterdir() if each.name[0] != ".")


def extract(
    source: Source, folder: Path, done: Callable[[int], None] | None = None
) -> tuple[list[Path], list[float]]:
    """Decode a video and write its frames as JPEGs.

    Args:
        source: The video.
        folder: The existing folder in which 00000.jpg, 00001.jpg, ... are written.
        done: A function that is called after each frame with the number of frames written so far.

    Returns:
        The files, and the time of each frame in seconds after the first.

    Raises:
        DataError: See :meth:`Source.decode`; or there are more frames than the limits allow.
    """
    files: list[Path] = []
    times: list[float] = []
    for index, (frame, seconds) in enumerate(source.decode()):
        source.limits.check(source.path, source.size, index + 1)
        path = folder / f"{index:05d}.jpg"
        fine, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not fine:
            raise DataError(f"{source.path}: frame {index} cannot be written as a JPEG")
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data.tobytes())  # the caller flushes all files to disk together
        temporary.replace(path)
        files.append(path)
        times.append(seconds)
        if done is not None:
            done(index + 1)
    return files, times


def _open_file(path: Path, limits: Limits) -> Source:
    import av

    try:
        with av.open(str(path)) as container:
            stream = _video_stream(path, container)
            width, height = stream.codec_context.width, stream.codec_context.height
            limits.check(path, (width, height), stream.frames)
            first = next(container.decode(stream), None)
            if first is None:
                raise DataError(f"{path}: a video without frames")
            size = (first.width, first.height)
            if first.rotation % 180:
                size = size[::-1]
            rate = Fraction(stream.average_rate or stream.guessed_rate or 24)
            if "image2" in container.format.name or container.format.name.endswith("_pipe"):
                raise DataError(f"{path}: a picture, not a video; name the folder of the pictures")
            return Source(path.stem, path, "file", size, rate, int(stream.frames), limits=limits)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: not a readable video ({reason(error)})") from error


def _video_stream(path: Path, container: "InputContainer") -> "VideoStream":
    streams = container.streams.video
    if not streams:
        raise DataError(f"{path}: contains no video stream, only sound or text")
    stream = streams[0]
    stream.thread_type = "AUTO"
    return stream


def _count_packets(path: Path) -> int:
    """Return the number of packets of a video file without decoding it, or 0 if it cannot be read."""
    import av

    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(_video_stream(path, container)))
    except (av.FFmpegError, OSError):
        return 0


def faulty_pictures(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Decode pictures at a small size, and return the unreadable ones, each with its fault."""
    with ThreadPoolExecutor(cores()) as pool:  # decoding releases the global interpreter lock
        found = zip(files, pool.map(lambda path: inspect_file(path, "frame").problem, files), strict=True)
        return [(path, problem) for path, problem in found if problem]


def _decode_file(source: Source) -> Iterator[tuple[Frame, float]]:
    import av

    path, number, begin = source.path, 0, None
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(path, container)
            for frame in container.decode(stream):
                picture = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                if picture.shape[1::-1] != source.size:
                    raise DataError(
                        f"{path}: frame {number} is {by(picture.shape[1::-1])}, but the first is "
                        f"{by(source.size)}; re-encode it to one size (ffmpeg -i IN -vf scale=854:480 OUT)"
                    )
                time = frame.time if frame.time is not None else float(number / source.rate)
                begin = time if begin is None else begin
                yield np.ascontiguousarray(picture), time - begin
                number += 1
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read past frame {number} ({reason(error)}); re-encode it (ffmpeg -i IN OUT)"
        ) from error
    if not number:
        raise DataError(f"{path}: a video without frames")


def _open_folder(
    path: Path,
    name: str,
    limits: Limits,
    rate: float,
    faulty_later: bool,
    kind: Kind = "folder",
    masks: Path | None = None,
) -> Source:
    """Open a folder of pictures, and pair them with the masks of the same names in the folder `masks`."""
    files = pictures_in(path)
    if not files:
        raise DataError(f"{path}: no pictures ({', '.join(PICTURE_SUFFIXES)})")
    infos = _headers(files, faulty_later)
    sizes = [info.oriented_size if kind == "folder" else info.size for info in infos.values()]
    size = max(set(sizes), key=sizes.count)
    odd = [f"{file.name} is {by(other)}" for file, other in zip(infos, sizes, strict=True) if other != size]
    if odd:
        raise DataError(
            f"{path}: {listing(odd)}, but the others are {by(size)}; all frames must have the same size"
        )
    limits.check(path, size, len(files))
    paired: tuple[Path | None, ...] = ()
    if masks is not None:
        by_stem = {file.stem: file for file in files_in(masks, ".png")}
        paired = tuple(by_stem.get(file.stem) for file in files)
    in_place = all(
        file.suffix == ".jpg"
        and info.format == "JPEG"
        and info.mode in ("RGB", "L")
        and info.orientation == 1
        for file, info in infos.items()
    )
    return Source(
        name, path, kind, size, Fraction(rate).limit_denominator(1001), len(files), tuple(files), paired,
        in_place, limits,
    )  # fmt: skip


def _headers(files: Sequence[Path], faulty_later: bool) -> dict[Path, PictureInfo]:
    """Read the headers of pictures; an unreadable header is left out if `faulty_later`, else an error."""
    found: dict[Path, PictureInfo] = {}
    for file in files:
        try:
            found[file] = picture_info(file)
        except DataError:
            if not faulty_later or (file == files[-1] and not found):
                raise
    return found


def _open_davis(root: Path, name: str, limits: Limits, rate: float, faulty_later: bool) -> Source:
    frames, masks = davis_folders(root)
    if not (frames / name).is_dir():
        raise DataError(f"{root}: no sequence {name}; it has: {listing(davis_sequences(root))}")
    masks_of_sequence = masks / name if (masks / name).is_dir() else None
    return _open_folder(frames / name, name, limits, rate, faulty_later, "davis", masks_of_sequence)


def _read_picture(path: Path, oriented: bool) -> Frame:
    """Decode a picture, after a check that it is complete, which OpenCV does not make."""
    if problem := inspect_file(path, "frame").problem:
        raise DataError(f"{path}: not a readable picture ({problem})")
    return read_frame(path, oriented)
