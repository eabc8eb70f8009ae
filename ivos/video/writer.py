"""Video files for people to look at."""

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
    options: dict[str, str]  # of the codec
    container_options: dict[str, str]
    matrix: str  # from RGB to the luma and chroma that are stored, by PyAV's names
    tag: int  # the same for the player, by ITU-T H.273's numbers; 2: not said


# What every browser plays. VP8 knows one matrix, and needs a bound of its rate, here out of reach.
_VP8 = {"crf": "8", "b": "50M", "auto-alt-ref": "0", "cpu-used": "4"}
_FORMATS = {
    ".webm": _Format("libvpx", _VP8, {}, matrix="ITU601", tag=2),
    ".mp4": _Format("libx264", {"crf": "18"}, {"movflags": "+faststart"}, matrix="ITU709", tag=1),
}


def write_video(
    path: str | Path, frames: Iterable[Frame | Path], rate: float = 10, times: Sequence[float] = ()
) -> Path:
    """Write a video file: whole, in the place of one that is there, or not at all.

    The codecs take even sizes and a quarter of the chroma (4:2:0): of odd sizes the last row or column is
    repeated.

    Args:
        path: of the file: ``.webm`` (VP8) or ``.mp4`` (H.264).
        frames: RGB uint8 [h, w, 3], or picture files, all of one size; there must be one at least.
        rate: frames per second.
        times: of each frame in seconds, where they are not evenly spaced.

    Returns:
        `path`.

    Raises:
        ValueError: another suffix, no frames, frames of several sizes, or another number of times.
        UserError: PyAV was built without the codec.
    """
    import av  # an extra; what only reads pictures does without it

    path = Path(path)
    if path.suffix not in _FORMATS:
        raise ValueError(f"{path}: a video file is one of {', '.join(_FORMATS)}")
    codec, options, container_options, matrix, tag = _FORMATS[path.suffix]
    pictures = _even(frames, path)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: no frames to write")
    if codec not in av.codecs_available:
        raise UserError(f"{path}: PyAV has no {codec} here to write it with; install PyAV's own wheel")
    exact = Fraction(rate).limit_denominator(1001)
    base = Fraction(1, 90_000) if times else 1 / exact
    with replacing(path) as aside, av.open(str(aside), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=exact)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", options
        context = stream.codec_context
        context.time_base = base
        context.color_range, context.colorspace = 1, tag  # 16 to 235
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
    """Return the frames, decoded, with even heights and widths."""
    size: tuple[int, ...] = ()
    for index, frame in enumerate(frames):
        picture = np.asarray(Image.open(frame).convert("RGB")) if isinstance(frame, Path) else frame
        size = size or picture.shape
        if picture.shape != size:
            raise ValueError(f"{path}: frame {index} has the shape {picture.shape}, the first one {size}")
        yield np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
