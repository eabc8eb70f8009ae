"""Tests of reading videos: rotation, variable rate, folders of pictures, DAVIS layout."""

import shutil
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from ivos.video.files import DataError
from ivos.video.palette import write_labels
from ivos.video.reader import Limits, davis_sequences, extract, open_source

SIZE = (64, 48)


def picture(index, size=SIZE):
    """Red on the left, green on the right, blue below; its brightness says which frame it is."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 200
    image[:, width // 2 :, 1] = 200
    image[height // 2 :, :, 2] = 40 + 15 * index % 200
    return image


@pytest.fixture
def write_video(tmp_path):
    def write(name="clip.mp4", times=range(8), rate=10, base=Fraction(1, 10), codec="libx264"):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.codec_context.time_base = base
            for index, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
                frame.pts, frame.time_base = time, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def test_a_video_file(write_video):
    source = open_source(write_video())
    assert (source.name, source.kind, source.size, source.rate) == ("clip", "file", SIZE, 10)
    frames, times = zip(*source.decode(), strict=True)
    assert len(frames) == 8
    assert times == pytest.approx([t / 10 for t in range(8)])
    for index, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - picture(index)).mean() < 12


def test_times_of_a_variable_rate_are_kept(write_video, tmp_path):
    times = [0, 3, 4, 20, 21, 50]
    source = open_source(write_video(times=times, base=Fraction(1, 30), rate=30))
    (tmp_path / "frames").mkdir()
    counted = []
    files, seconds = extract(source, tmp_path / "frames", counted.append)
    assert seconds == pytest.approx([t / 30 for t in times], abs=1e-3)
    assert [path.name for path in files] == [f"{t:05d}.jpg" for t in range(6)]
    assert counted == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("turn", "matrix"), [(-1, (0, 1, -1, 0)), (1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1))])
def test_a_cameras_rotation_is_applied(write_video, turn, matrix):
    """The matrix of the track header: a quarter clockwise, counterclockwise, a half."""
    path = write_video()
    content = bytearray(path.read_bytes())
    identity = b"".join(int(v * 65536).to_bytes(4, "big", signed=True) for v in (1, 0, 0, 0, 1, 0, 0, 0))
    at = content.index(identity, content.index(b"tkhd"))
    a, b, c, d = matrix
    rotated = b"".join(int(v * 65536).to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0))
    content[at : at + len(rotated)] = rotated
    path.write_bytes(content)
    source = open_source(path)
    assert source.size == (SIZE if turn == 2 else SIZE[::-1])
    frame, _ = next(source.decode())
    assert np.abs(frame.astype(int) - np.rot90(picture(0), turn)).mean() < 12


def test_a_folder_of_pictures_in_the_order_of_their_numbers(tmp_path):
    for index in (2, 10, 1):
        cv2.imwrite(str(tmp_path / f"frame{index}.png"), picture(index)[..., ::-1])
    source = open_source(tmp_path)
    assert [path.stem for path in source.files] == ["frame1", "frame2", "frame10"]
    assert (source.in_place, source.num_frames, source.rate) == (False, 3, 24)
    assert (next(source.decode())[0] == picture(1)).all()


def test_jpegs_are_used_in_place_unless_a_tag_turns_them(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "0.jpg")
    assert open_source(tmp_path).in_place
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1).transpose(1, 0, 2)).save(tmp_path / "1.jpg", exif=exif)
    source = open_source(tmp_path)
    assert (source.in_place, source.size) == (False, SIZE)
    assert [frame.shape[1::-1] for frame, _ in source.decode()] == [SIZE, SIZE]


@pytest.fixture
def davis(tmp_path):
    for name in ("bear", "tennis"):
        for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            folder = tmp_path / part / "480p" / name
            folder.mkdir(parents=True)
            for index in range(3):
                if suffix == "jpg":
                    Image.fromarray(picture(index)).save(folder / f"{index:05d}.jpg")
                elif index != 1:
                    write_labels(folder / f"{index:05d}.png", np.zeros(SIZE[::-1], np.uint8))
    shutil.rmtree(tmp_path / "Annotations" / "480p" / "tennis")
    return tmp_path


def test_a_sequence_in_davis_layout_with_masks_or_without(davis):
    assert davis_sequences(davis) == ["bear", "tennis"]
    bear, tennis = open_source(davis, "bear"), open_source(davis, "tennis")
    assert (bear.kind, bear.name, bear.in_place) == ("davis", "bear", True)
    assert [path and path.stem for path in bear.masks] == ["00000", None, "00002"]
    assert tennis.masks == ()


def test_objects_of_masks_are_counted_and_numbered(davis):
    """Whatever their labels; what is no mask of labels is an error that names the file."""

    def write(first, last):
        for name, labels in (("00000", first), ("00002", last)):
            stripes = np.resize(np.array(labels, np.uint8), SIZE[::-1])
            write_labels(davis / "Annotations/480p/bear" / f"{name}.png", stripes)
        source = open_source(davis, "bear")
        return source.count_objects(), source.mask_labels, np.unique(source.read_mask(2)).tolist()

    assert write([0, 1, 2, 255], [0, 1]) == (2, (1, 2), [0, 1])
    assert write([0, 1], [0, 1, 2]) == (1, (1, 2), [0, 1, 2])
    assert write([0, 100, 200], [0, 200, 255]) == (2, (100, 200), [0, 2, 255])
    assert write([0, 7], [0, 3, 7]) == (2, (3, 7), [0, 1, 2])
    assert write([0, 255], [0, 0]) == (1, (255,), [0])
    assert write([0, 0], [0, 0]) == (1, (), [0])
    source = open_source(davis, "tennis")
    assert (source.count_objects(), source.mask_labels, source.read_mask(0)) == (1, (), None)
    Image.new("RGB", SIZE).save(davis / "Annotations/480p/bear/00000.png")
    with pytest.raises(DataError, match=r"00000\.png: a RGB image"):
        open_source(davis, "bear").count_objects()


def test_bad_input_is_one_clear_line(tmp_path, davis, write_video):
    text = tmp_path / "notes.txt"
    text.write_text("not a video")
    empty = tmp_path / "empty"
    empty.mkdir()
    unequal = tmp_path / "unequal"
    unequal.mkdir()
    for index, size in enumerate([SIZE, SIZE, (32, 24)]):
        Image.fromarray(picture(index, size)).save(unequal / f"{index}.jpg")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.jpg").write_bytes(b"\xff\xd8nonsense")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(write_video("whole.mp4").read_bytes()[:300])
    cases = {
        text: "not a readable video",
        headless: "not a readable video",
        sound: "only sound",
        tmp_path / "absent": "no such file or folder",
        empty: "no pictures",
        unequal: r"2.jpg is 32x24, but the others are 64x48",
        broken: "not a readable picture",
        davis: r"2 sequences; choose by data.sequences=\[NAME\] from: bear, tennis",
    }
    for path, says in cases.items():
        with pytest.raises(DataError, match=says) as error:
            open_source(path)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
    with pytest.raises(DataError, match="no sequence goat"):
        open_source(davis, "goat")


def test_limits(tmp_path, write_video):
    path = write_video()
    with pytest.raises(DataError, match=r"exceed limits.pixels=1000; scale"):
        open_source(path, limits=Limits(pixels=1000))
    with pytest.raises(DataError, match=r"more frames than limits.frames=5; cut"):
        open_source(path, limits=Limits(frames=5))
    assert 7680 * 4320 > Limits().pixels > 3840 * 2160


def test_a_file_that_changes_its_size(write_video, monkeypatch):
    source = open_source(write_video())
    object.__setattr__(source, "size", (32, 24))
    with pytest.raises(DataError, match="frame 0 is 64x48, but the first is 32x24; re-encode"):
        next(source.decode())
