"""Tests that incomplete label images are refused and accepted ones can be read."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ivos.video.files import DataError, FileInfo, files_in, inspect_file, pictures_in, read_frame, read_mask
from ivos.video.reader import open_source

SIZE = (20, 15)


def write_mask(path, labels, **options):
    image = Image.fromarray(labels)
    image.putpalette([level for level in range(256) for _ in "rgb"])
    image.save(path, **options)


@pytest.fixture
def labels():
    return np.repeat(np.arange(5, dtype=np.uint8), 3)[:, None] * np.ones(SIZE[0], np.uint8)


def png(labels, rows, interlaced=0, bits=8):
    """A PNG with right check sums that holds some of its rows."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width = labels.shape
    pixels = b"".join(b"\0" + row.tobytes() for row in labels[:rows])
    head = struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, interlaced)
    chunks = [(b"IHDR", head), (b"PLTE", bytes(768)), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "WEBP"])
def test_a_mask_is_a_png_whatever_its_name(kind, tmp_path, labels):
    path = tmp_path / "00000.png"
    Image.fromarray(labels).save(path, format=kind)
    assert inspect_file(path, "mask").problem.startswith(f"a {kind} file, not PNG, whatever its suffix")
    with pytest.raises(DataError, match=f"a {kind} file"):
        read_mask(path)


def test_a_mask_without_some_of_its_rows_is_incomplete(tmp_path, labels):
    path = tmp_path / "00000.png"
    path.write_bytes(png(labels, 15))
    assert inspect_file(path, "mask").size == SIZE
    np.testing.assert_array_equal(read_mask(path), labels)
    path.write_bytes(png(labels, 7))
    with Image.open(path) as image:
        assert (np.asarray(image)[7:] == 0).all()  # what Pillow makes of it
    assert inspect_file(path, "mask").problem == "incomplete: only 46 % of its rows exist"


@pytest.mark.parametrize("count", [2, 4, 16, 256])
def test_masks_of_any_depth_are_whole(count, tmp_path):
    """1, 2, 4 and 8 bits a pixel, and a width that fills no byte."""
    path = tmp_path / "00000.png"
    labels = (np.arange(13 * 11) % min(count, 255)).astype(np.uint8).reshape(13, 11)
    write_mask(path, labels, bits=count.bit_length() - 1)
    found = inspect_file(path, "mask")
    assert not found.problem
    assert dict(found.areas) == {int(k): int((labels == k).sum()) for k in np.unique(labels)}
    np.testing.assert_array_equal(read_mask(path), labels)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 9), (20, 15)])
def test_interlaced_masks(size, tmp_path):
    """Their rows come in seven passes; OpenCV cannot write them, so the passes are written here."""
    width, height = size
    labels = (np.arange(width * height) % 5).astype(np.uint8).reshape(height, width)
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [labels[y::down, x::across] for x, y, across, down in steps]
    pixels = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    whole = png(labels, height, interlaced=1)
    plain = zlib.compress(b"".join(b"\0" + row.tobytes() for row in labels))
    for content, complete in ((pixels, True), (pixels[:-1], False)):
        packed = zlib.compress(content)
        chunk = struct.pack(">I", len(packed)) + b"IDAT" + packed
        old = struct.pack(">I", len(plain)) + b"IDAT" + plain
        start = whole.index(old)
        data = whole[:start] + chunk + struct.pack(">I", zlib.crc32(b"IDAT" + packed))
        path = tmp_path / "00000.png"
        path.write_bytes(data + whole[start + len(old) + 4 :])
        assert bool(inspect_file(path, "mask").problem) != complete
    path.write_bytes(data + b"")
    assert inspect_file(path, "mask").problem


def test_bytes_after_the_end_of_a_mask_do_no_harm(tmp_path, labels):
    path = tmp_path / "00000.png"
    write_mask(path, labels)
    path.write_bytes(path.read_bytes() + b"\0\1")
    assert not inspect_file(path, "mask").problem


@pytest.mark.parametrize("suffix", ["ppm", "tga", "pcx", "im", "sgi"])
def test_what_the_check_accepts_the_run_can_read(suffix, tmp_path):
    """Pillow and OpenCV know different formats."""
    path = tmp_path / "00000.jpg"
    Image.new("RGB", SIZE, (200, 100, 50)).save(tmp_path / f"x.{suffix}")
    (tmp_path / f"x.{suffix}").rename(path)
    if inspect_file(path, "frame").problem:
        with pytest.raises(DataError):
            read_frame(path)
    else:
        assert read_frame(path).shape == (*SIZE[::-1], 3)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 5}])
def test_jpegs_of_all_sorts(options, tmp_path):
    path = tmp_path / "00000.jpg"
    Image.new("RGB", SIZE).save(path, **options)
    assert inspect_file(path, "frame").size == SIZE
    cv2.imwrite(str(path), np.zeros((3, 1), np.uint8))
    assert inspect_file(path, "frame").size == (1, 3)
    Image.new("CMYK", SIZE).save(path, **options)
    assert not inspect_file(path, "frame").problem
    assert read_frame(path).shape == (*SIZE[::-1], 3)


def test_folders_and_pipes_are_no_files(tmp_path):
    (tmp_path / "00000.jpg").write_bytes(b"x")
    (tmp_path / "00001.jpg").mkdir()
    os.mkfifo(tmp_path / "00002.jpg")
    (tmp_path / "00003.jpg").symlink_to(tmp_path / "00000.jpg")
    (tmp_path / "._00004.jpg").write_bytes(b"x")
    assert [path.name for path in files_in(tmp_path, ".jpg")] == ["00000.jpg", "00003.jpg"]
    assert files_in(tmp_path / "nowhere", ".jpg") == []


def test_names_are_in_natural_order_and_suffixes_of_any_case(tmp_path):
    names = ["10.JPG", "9.jpg", "a2b10.png", "a2b9.jpeg", "a10.bmp", "\u00b2.tif", "1.txt", "010.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    order = ["a2b9.jpeg", "a2b10.png", "a10.bmp", "\u00b2.tif", "9.jpg", "010.jpg", "10.JPG"]
    assert sorted(path.name for path in pictures_in(tmp_path)) == sorted(order)
    digits = [path.name for path in pictures_in(tmp_path) if path.stem.isascii() and path.stem.isdigit()]
    assert digits == ["9.jpg", "010.jpg", "10.JPG"]
    others = [path.name for path in pictures_in(tmp_path) if path.name[0] == "a"]
    assert others == ["a2b9.jpeg", "a2b10.png", "a10.bmp"]
    (tmp_path / "9.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"9\.jpg and 9\.png are two pictures of the same name"):
        pictures_in(tmp_path)


def stored(path, mode):
    """Write a picture of some kind, and return the 8-bit RGB picture that it shows."""
    grey = (np.arange(SIZE[0] * SIZE[1]) % 251).astype(np.uint8).reshape(SIZE[::-1])
    colour = np.stack([grey, grey[::-1], 255 - grey], -1)
    if mode == "16 bits":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif mode == "16 bits RGB":
        cv2.imwrite(str(path), colour[..., ::-1].astype(np.uint16) * 257)
        return colour
    elif mode == "RGBA":
        Image.fromarray(np.dstack([colour, grey])).save(path)
        return colour
    elif mode == "CMYK":
        Image.fromarray(colour).convert("CMYK").save(path)
        return colour
    else:
        Image.fromarray(grey).convert(mode).save(path)
    return np.repeat(grey[..., None], 3, 2)


KINDS = [("16 bits", "png"), ("16 bits", "tif"), ("16 bits RGB", "png"), ("16 bits RGB", "tiff"),
         ("RGBA", "png"), ("RGBA", "tif"), ("L", "png"), ("LA", "png"), ("L", "bmp"),
         ("CMYK", "tif")]  # fmt: skip


@pytest.mark.parametrize(("mode", "suffix"), KINDS)
def test_both_readers_decode_every_kind_of_picture_alike(mode, suffix, tmp_path):
    expected = stored(path := tmp_path / f"0.{suffix}", mode)
    assert inspect_file(path, "frame") == FileInfo(SIZE)
    np.testing.assert_array_equal(read_frame(path), expected)
    ((shown, _),) = open_source(tmp_path).decode()
    np.testing.assert_array_equal(shown, expected)


def test_cmyk_jpegs_are_decoded_alike(tmp_path):
    Image.radial_gradient("L").convert("RGB").convert("CMYK").save(tmp_path / "0.jpg")
    ((shown, _),) = open_source(tmp_path).decode()
    np.testing.assert_array_equal(shown, read_frame(tmp_path / "0.jpg"))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pictures_of_32_bits_are_refused(kind, tmp_path):
    path = tmp_path / "0.tif"
    Image.fromarray(np.zeros(SIZE[::-1], kind)).save(path)
    assert "32-bit values; save it with 8 or 16 bits" in inspect_file(path, "frame").problem
    with pytest.raises(DataError, match="32-bit values"):
        read_frame(path)
    with pytest.raises(DataError, match="32-bit values"):
        next(open_source(tmp_path).decode())


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif", "png"])
def test_the_size_of_a_turned_picture_is_that_of_what_is_decoded(suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(tmp_path / f"0.{suffix}", exif=exif)
    source = open_source(tmp_path)
    ((shown, _),) = source.decode()
    assert shown.shape[1::-1] == source.size
    path = tmp_path / f"0.{suffix}"
    assert inspect_file(path, "frame").size == read_frame(path).shape[1::-1]
