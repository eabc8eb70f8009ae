"""Writing of video files that browsers and players can show."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.runtime.errors import UserError
from ivos.runtime.files import replacing

Frame = NDArray[np.uint8]  # RGB [h, w, 3]


class _Format(NamedTuple):
    codec: str
    options: dict[str, str]  # options of the codec
    container_options: dict[str, str]
    matrix: str  # conversion from RGB to the stored luma and chroma, by PyAV's name
    tag: int  # the conversion as a tag for players, by the numbers of ITU-T H.273; 2 means unspecified


# Formats that every browser plays. VP8 supports one conversion matrix only. It also requires a bit rate,
# which is set so high that it has no effect.
_VP8 = {"crf": "8", "b": "50M", "auto-alt-ref": "0", "cpu-used": "4"}
_FORMATS = {
    ".webm": _Format("libvpx", _VP8, {}, matrix="ITU601", tag=2),
    ".mp4": _Format("libx264", {"crf": "18"}, {"movflags": "+faststart"}, matrix="ITU709", tag=1),
}


def write_video(
    path: str | Path, frames: Iterable[Frame | Path], rate: float = 10, times: Sequence[float] = ()
) -> Path:
    """Write a video file atomically.

    The codecs need even widths and heights, because they store chroma at half the resolution (4:2:0). For odd
    sizes the last row or column is repeated.

    Args:
        path: Path of the file, which ends in ``.webm`` (VP8) or ``.mp4`` (H.264).
        frames: At least one frame, RGB uint8 [h, w, 3], or picture files; all have the same size.
        rate: Frames per second.
        times: Time of each frame in seconds; empty if they are evenly spaced.

    Returns:
        `path`.

    Raises:
        ValueError: The suffix is not supported, there are no frames, the frames differ in size, or the number
            of times differs from the number of frames.
        UserError: PyAV was built without the codec.
    """
    import av  # imported here, because the package is needed only to write videos

    path = Path(path)
    if path.suffix not in _FORMATS:
        raise ValueError(f"{path}: the suffix of a video file must be one of {', '.join(_FORMATS)}")
    codec, options, container_options, matrix, tag = _FORMATS[path.suffix]
    pictures = _even(frames, path)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: no frames to write")
    if codec not in av.codecs_available:
        raise UserError(f"{path}: the installed PyAV has no encoder {codec}; install PyAV's own wheel")
    exact = Fraction(rate).limit_denominator(1001)
    base = Fraction(1, 90_000) if times else 1 / exact
    with replacing(path) as temporary, av.open(str(temporary), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=exact)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", options
        context = stream.codec_context
        context.time_base = base
        context.color_range, context.colorspace = 1, tag  # range 1: luma from 16 to 235
        context.color_primaries = context.color_trc = tag
        ticks = [round(time / base) for time in times] if times else count()
        for picture, tick in zip(chain([first], pictures), ticks, strict=bool(times)):
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = rgb.reformat(format="yuv420p", dst_colorspace=matrix)
            frame.time_base, frame.pts = base, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _even(frames: Iterable[Frame | Path], path: Path) -> Iterator[Frame]:
    """Yield the decoded frames, padded to even heights and widths."""
    size: tuple[int, ...] = ()
    for index, frame in enumerate(frames):
        picture = np.asarray(Image.open(frame).convert("RGB")) if isinstance(frame, Path) else frame
        size = size or picture.shape
        if picture.shape != size:
            raise ValueError(f"{path}: frame {index} has the shape {picture.shape}, the first one {size}")
        yield np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
