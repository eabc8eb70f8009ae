"""Tests of video files, which are read back."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ivos.runtime.errors import UserError
from ivos.video.writer import write_video

KINDS = [".webm", ".mp4"]


def moving(number, height, width):
    """A square of one colour after another that moves over a ramp."""
    ramp = np.linspace(30, 220, width).astype(np.uint8)
    for t in range(number):
        frame = np.repeat(np.tile(ramp, (height, 1))[..., None], 3, axis=2)
        frame[5:25, 2 * t : 2 * t + 24] = [(220, 40, 40), (40, 200, 60), (50, 60, 210)][t % 3]
        yield frame


def read(path):
    """Frames RGB [T, h, w, 3], their times in seconds, the rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        return pictures, [frame.time for frame in frames], stream


@pytest.mark.parametrize("suffix", KINDS)
def test_there_and_back(suffix, tmp_path, capfd):
    frames = list(moving(31, 64, 96))
    assert write_video(tmp_path / f"a{suffix}", iter(frames), 25) == tmp_path / f"a{suffix}"
    pictures, times, stream = read(tmp_path / f"a{suffix}")
    assert pictures.shape == (31, 64, 96, 3)
    assert times == pytest.approx(np.arange(31) / 25, abs=1e-3)
    assert stream.codec_context.name == {".webm": "vp8", ".mp4": "h264"}[suffix]
    assert stream.codec_context.pix_fmt == "yuv420p"
    off = np.abs(pictures.astype(int) - np.stack(frames))
    assert off.mean() < 3  # codecs lose a little, and chroma is stored for four pixels at a time
    assert (
        np.abs(
            pictures[:, 12:18, 70:].mean((1, 2, 3)) - np.stack(frames)[:, 12:18, 70:].mean((1, 2, 3))
        ).max()
        < 2
    )
    assert capfd.readouterr() == ("", "")  # the codecs say nothing


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("size", [(31, 22), (32, 21), (33, 35)])
def test_odd_sizes_are_made_even_by_repeating_the_edge(suffix, size, tmp_path):
    frames = list(moving(4, *size))
    pictures = read(write_video(tmp_path / f"odd{suffix}", frames))[0]
    assert pictures.shape == (4, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    expected = np.pad(frames[0], ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge").astype(int)
    assert np.abs(pictures[0, 26:, -2:] - expected[26:, -2:]).mean() < 8


@pytest.mark.parametrize("suffix", KINDS)
def test_of_picture_files(suffix, tmp_path):
    frames = list(moving(3, 48, 64))
    files = [tmp_path / f"{index}.png" for index in range(3)]
    for file, frame in zip(files, frames, strict=True):
        Image.fromarray(frame).save(file)
    one, other = (write_video(tmp_path / f"{name}{suffix}", of) for name, of in (("a", files), ("b", frames)))
    assert np.array_equal(read(one)[0], read(other)[0])


@pytest.mark.parametrize("suffix", KINDS)
def test_at_times_of_their_own(suffix, tmp_path):
    times = [0, 0.04, 0.2, 0.25, 1.0]
    _, found, _ = read(write_video(tmp_path / f"times{suffix}", moving(5, 32, 32), 30, times))
    assert found == pytest.approx(times, abs=1e-3)
    with pytest.raises(ValueError, match="zip"):
        write_video(tmp_path / f"times{suffix}", moving(4, 32, 32), 30, times)


def test_rates_of_television_are_exact(tmp_path):
    stream = read(write_video(tmp_path / "ntsc.mp4", moving(4, 32, 32), 30000 / 1001))[2]
    assert stream.average_rate == Fraction(30000, 1001)


def test_a_player_is_told_the_colours(tmp_path):
    context = read(write_video(tmp_path / "a.mp4", moving(2, 32, 32)))[2].codec_context
    assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
        1,
        1,
        1,
        1,
    )


@pytest.mark.parametrize("suffix", KINDS)
def test_whole_or_not_at_all(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text("the one before")

    def breaks():
        yield from moving(3, 32, 32)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        write_video(path, breaks())
    assert path.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [path]
    write_video(path, moving(3, 32, 32))
    assert len(read(path)[0]) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"a\.avi: the suffix of a video file must be one of \.webm, \.mp4"):
        write_video(tmp_path / "a.avi", moving(2, 32, 32))
    with pytest.raises(ValueError, match=r"a\.mp4: no frames"):
        write_video(tmp_path / "a.mp4", [])
    sizes = [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frame 1 has the shape \(32, 34, 3\), the first one \(32, 32, 3\)"):
        write_video(tmp_path / "a.mp4", sizes)
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(UserError, match=r"a\.mp4: the installed PyAV has no encoder libx264"):
        write_video(tmp_path / "a.mp4", moving(2, 32, 32))
    assert not list(tmp_path.iterdir())
