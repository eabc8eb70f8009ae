"""Videos from anywhere: a video file, a folder of pictures, a sequence of a folder in DAVIS layout."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ivos.runtime.files import replacing
from ivos.video.files import DataError, by, files_in, listing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112  # the EXIF tag
_QUALITY = 95  # of the JPEGs that a video's frames are kept as

Kind = Literal["file", "folder", "davis"]
Frame = NDArray[np.uint8]  # RGB [h, w, 3]


@dataclass(frozen=True)
class Limits:
    """What is refused before any work.

    Attributes:
        pixels: of a frame; 4096x2304 is the largest by default, so that 4K passes and 8K does not.
        frames: of a video.
    """

    pixels: int = 4096 * 2304
    frames: int = 5000

    def check(self, where: Path, size: tuple[int, int], frames: int = 0) -> None:
        """Raise :class:`DataError` for a frame or a video beyond the limits."""
        if size[0] * size[1] > self.pixels:
            raise DataError(
                f"{where}: frames of {by(size)} are more than limits.pixels={self.pixels} allows; scale the "
                "video down first (ffmpeg -i IN -vf scale=-2:1080 OUT)"
            )
        if frames > self.frames:
            raise DataError(
                f"{where}: more than the {self.frames} frames that limits.frames allows; cut it into parts"
            )


@dataclass(frozen=True)
class Source:
    """A video as it was found, not decoded yet.

    Attributes:
        name: of the file or folder, without its suffix.
        path: the file, or the folder of the pictures.
        kind: a video ``file``, a ``folder`` of pictures, or a sequence of a ``davis`` folder.
        size: width and height of the frames as they are shown, a camera's rotation applied.
        rate: frames a second; of a variable rate, the mean.
        num_frames: T; of a file, what its header says, which may be wrong or 0 (unknown).
        files: the pictures, in order; of a file, none.
        masks: of each picture, its mask file or None; of a file, none.
        in_place: whether the pictures can be used as they are: JPEGs without an orientation tag.
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
        """The frames, uint8 [h, w, 3] RGB, each with its time in seconds after the first.

        Raises:
            DataError: the file ends in the middle or holds no frame; a picture is unreadable.
        """
        if self.kind == "file":
            yield from _decode_file(self)
        else:
            for index, path in enumerate(self.files):
                yield _read_picture(path), float(index / self.rate)


def open_source(
    path: str | Path, sequence: str | None = None, limits: Limits | None = None, rate: float = 24
) -> Source:
    """Look at a video, wherever it is.

    Args:
        path: a video file, a folder of pictures of one size, or a folder in DAVIS layout.
        sequence: which sequence of a folder in DAVIS layout; None where it has one only.
        limits: what is refused; None for the default ones.
        rate: frames a second of what does not say so itself, pictures.

    Raises:
        DataError: there is no video; the message says what there is instead.
    """
    path, limits = Path(path), limits or Limits()
    if is_davis(path):
        names = davis_sequences(path)
        if sequence is None and len(names) != 1:
            raise DataError(
                f"{path}: a folder in DAVIS layout with {len(names)} sequences; choose by "
                f"data.sequences=[NAME] from: {listing(names)}"
            )
        return _open_davis(path, sequence or names[0], limits, rate)
    if sequence is not None:
        raise DataError(f"{path}: data.sequences={sequence}: not a folder in DAVIS layout (no JPEGImages)")
    if path.is_dir():
        return _open_folder(path, path.resolve().name, limits, rate)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return _open_file(path, limits)


def is_davis(path: str | Path) -> bool:
    """Whether a folder is in DAVIS layout."""
    return (Path(path) / "JPEGImages").is_dir()


def davis_sequences(root: str | Path) -> list[str]:
    """The names of the sequences in a folder in DAVIS layout, whether a list names them or not."""
    return sorted(folder.name for folder in _davis_frames(Path(root)).iterdir() if folder.is_dir())


def extract(
    source: Source, folder: Path, done: Callable[[int], None] | None = None
) -> tuple[list[Path], list[float]]:
    """Decode a video once, into JPEGs that everyone reads from then on.

    Args:
        source: the video.
        folder: where 00000.jpg, 00001.jpg, ... are written; it has to be there.
        done: called with the number of frames written so far, after each.

    Returns:
        the files, and the time of each frame in seconds after the first.

    Raises:
        DataError: see :meth:`Source.decode`, or there are more frames than the limits allow.
    """
    files: list[Path] = []
    times: list[float] = []
    for index, (frame, seconds) in enumerate(source.decode()):
        source.limits.check(source.path, source.size, index + 1)
        path = folder / f"{index:05d}.jpg"
        fine, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not fine:
            raise DataError(f"{source.path}: frame {index} cannot be kept as a JPEG")
        with replacing(path) as aside:
            aside.write_bytes(data.tobytes())
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
                raise DataError(f"{path}: a picture, not a video; give the folder of pictures")
            return Source(path.stem, path, "file", size, rate, int(stream.frames), limits=limits)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: no video that can be read ({_reason(error)})") from error


def _video_stream(path: Path, container: "InputContainer") -> "VideoStream":
    streams = container.streams.video
    if not streams:
        raise DataError(f"{path}: no picture in it, only sound or text")
    stream = streams[0]
    stream.thread_type = "AUTO"
    return stream


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
                        f"{path}: frame {number} is {by(picture.shape[1::-1])}, the first {by(source.size)}; "
                        "re-encode it to one size (ffmpeg -i IN -vf scale=854:480 OUT)"
                    )
                time = frame.time if frame.time is not None else float(number / source.rate)
                begin = time if begin is None else begin
                yield np.ascontiguousarray(picture), time - begin
                number += 1
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read past frame {number} ({_reason(error)}); re-encode it (ffmpeg -i IN OUT)"
        ) from error
    if not number:
        raise DataError(f"{path}: a video without frames")


def _open_folder(
    path: Path, name: str, limits: Limits, rate: float, kind: Kind = "folder", masks: Path | None = None
) -> Source:
    """A folder of pictures, with the masks of another folder by their names, where there are any."""
    found = [p for p in path.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    files = sorted(found, key=_in_order)
    if not files:
        raise DataError(f"{path}: no pictures ({', '.join(PICTURES)})")
    looks = [_look(file) for file in files]
    size = max(set(looks), key=looks.count)[0]
    odd = [
        f"{file.name} is {by(there)}" for file, (there, _) in zip(files, looks, strict=True) if there != size
    ]
    if odd:
        raise DataError(f"{path}: {listing(odd)}, the others {by(size)}; frames of one size are needed")
    limits.check(path, size, len(files))
    paired: tuple[Path | None, ...] = ()
    if masks is not None:
        by_stem = {file.stem: file for file in files_in(masks, ".png")}
        paired = tuple(by_stem.get(file.stem) for file in files)
    in_place = all(plain for _, plain in looks)
    return Source(
        name, path, kind, size, Fraction(rate).limit_denominator(1001), len(files), tuple(files), paired,
        in_place, limits,
    )  # fmt: skip


def _open_davis(root: Path, name: str, limits: Limits, rate: float) -> Source:
    frames = _davis_frames(root)
    if not (frames / name).is_dir():
        raise DataError(f"{root}: no sequence {name}; it has: {listing(davis_sequences(root))}")
    masks = root / "Annotations" / frames.name / name
    return _open_folder(frames / name, name, limits, rate, "davis", masks if masks.is_dir() else None)


def _davis_frames(root: Path) -> Path:
    """The folder that the sequences' folders are in: of 480p, or of the only resolution there is."""
    folders = sorted(folder for folder in (root / "JPEGImages").iterdir() if folder.is_dir())
    chosen = [folder for folder in folders if folder.name == "480p"] or folders
    if len(chosen) != 1:
        raise DataError(
            f"{root / 'JPEGImages'}: no folder 480p; it has: {listing(f.name for f in folders) or 'nothing'}"
        )
    return chosen[0]


def _look(path: Path) -> tuple[tuple[int, int], bool]:
    """The size a picture is shown in, and whether it is a JPEG to be used as it is."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) if image.format in ("JPEG", "TIFF", "WEBP") else 1
            size = image.size[::-1] if turned in (5, 6, 7, 8) else image.size
            plain = image.format == "JPEG" and image.mode in ("RGB", "L") and turned in (0, 1)
            return size, plain and path.suffix == ".jpg"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no picture that can be read ({_reason(error)})") from error


def _read_picture(path: Path) -> Frame:
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no picture that can be read ({_reason(error)})") from error


def _in_order(path: Path) -> Any:
    """frame2 before frame10."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], path.name


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or re.sub(r" file '.*'", " file", str(error))
