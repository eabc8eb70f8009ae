"""Tests of SBD on a miniature data set: what it reads, and its message about each fault."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ivos.data.datasets.sbd import SBD
from ivos.data.training import MiniSequences
from ivos.video.files import DataError, read_instances

INSIDE = "benchmark_RELEASE/dataset"


def problems(root, **options):
    with pytest.raises(DataError) as error:
        SBD(root, index=False, **options)
    return list(error.value.problems)


def test_reads_instances(sbd, clips):
    one, two = SBD(sbd)
    assert (one.name, one.size, one.num_frames) == ("2008_000000", (80, 64), 1)
    frames, labels = one.read([0])
    expected = clips[0][1][0].copy()
    expected[:4] = 255
    np.testing.assert_array_equal(labels[0], expected)
    assert np.abs(frames[0].astype(int) - clips[0][0][0]).mean() < 4  # but for JPEG
    np.testing.assert_array_equal(one.areas, [[(expected == n).sum() for n in (1, 2)]])
    assert (two.num_objects, two.areas.shape) == (1, (1, 1))  # object 2 is not on its first frame


@pytest.mark.parametrize("inside", ["", "benchmark_RELEASE", INSIDE])
def test_the_root_may_be_any_of_the_folders(sbd, inside):
    assert len(SBD(sbd / inside)) == 2


def test_subsets(sbd):
    assert [len(SBD(sbd, split)) for split in ("train", "val", "trainval")] == [2, 1, 2]
    (sbd / INSIDE / "train_noval.txt").write_text("2008_000001\n")
    assert [image.name for image in SBD(sbd, "train_noval")] == ["2008_000001"]
    with pytest.raises(DataError, match="no split 'test'; it has: train, train_noval, trainval, val"):
        SBD(sbd, "test")


def test_half_downloaded(sbd, truncate):
    folder = sbd / INSIDE
    (folder / "train.txt").write_text("2008_000000\n2008_000001\n2008_000002\n")
    truncate(folder / "img/2008_000000.jpg")
    truncate(folder / "inst/2008_000000.mat")
    (folder / "inst/2008_000001.mat").unlink()
    assert [problem.split(" (")[0] for problem in problems(sbd)] == [
        f"{INSIDE}/img/2008_000000.jpg: unreadable",
        f"{INSIDE}/inst/2008_000000.mat: unreadable",
        f"{INSIDE}/inst/2008_000001.mat: missing",
        f"{INSIDE}/img/2008_000002.jpg: missing",
        f"{INSIDE}/inst/2008_000002.mat: missing",
    ]


def test_faulty_images_can_be_left_out(sbd, truncate, caplog):
    truncate(sbd / INSIDE / "img/2008_000000.jpg")
    assert [image.name for image in SBD(sbd, skip_faulty=True)] == ["2008_000001"]
    assert "1 of 2 are faulty and left out" in caplog.text


def test_a_file_cut_off_anywhere_is_unreadable(sbd, tmp_path):
    """Whatever scipy raises then; a tail that is all padding may be missing."""
    whole = (sbd / INSIDE / "inst/2008_000000.mat").read_bytes()
    path = tmp_path / "cut.mat"
    for length in range(0, len(whole) - 8, max(1, len(whole) // 150)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=re.escape(str(path))):
            read_instances(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"GTcls": {"Segmentation": np.ones((64, 80), np.uint8)}}, "contains GTcls, not GTinst"),
        ({"x": 1, "a": 2}, "contains a, x, not GTinst"),
        ({"GTinst": {"Categories": 3}}, "GTinst has no Segmentation"),
        ({"GTinst": np.ones((64, 80))}, "GTinst has no Segmentation"),
        ({"GTinst": {"Segmentation": np.ones((64, 80))}}, "Segmentation is float64 [64, 80], not an image"),
        ({"GTinst": {"Segmentation": np.ones((4, 5, 3), np.uint8)}}, "Segmentation is uint8 [4, 5, 3]"),
        ({"GTinst": {"Segmentation": np.full((64, 80), 300, np.uint16)}}, "not an image of labels"),
    ],
)
def test_mat_files_of_the_wrong_kind(sbd, content, words):
    savemat(sbd / INSIDE / "inst/2008_000001.mat", content)
    (problem,) = problems(sbd)
    assert problem.startswith(f"{INSIDE}/inst/2008_000001.mat: ")
    assert words in problem


def test_files_that_are_no_mat_files(sbd):
    (sbd / INSIDE / "inst/2008_000000.mat").write_text(
        "not a MATLAB file, but long enough to have a header" * 9
    )
    seven = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" * 20
    (sbd / INSIDE / "inst/2008_000001.mat").write_bytes(seven)
    first, second = problems(sbd)
    assert "inst/2008_000000.mat: unreadable (" in first
    assert second.endswith("inst/2008_000001.mat: a MATLAB 7.3 file; the files of SBD have version 5")


def test_sizes_that_do_not_agree(sbd):
    path = sbd / INSIDE / "img/2008_000000.jpg"
    with Image.open(path) as image:
        image.resize((40, 32)).save(path)
    assert problems(sbd) == [
        f"{INSIDE}/inst/2008_000000.mat: is 80x64, but the video's frames are 40x32",
    ]


def test_no_layout_and_no_root(tmp_path):
    assert problems(tmp_path) == [f"{INSIDE}/img", f"{INSIDE}/inst"]
    with pytest.raises(DataError, match=r"data\.sbd_root=FOLDER"):
        SBD(None)


def test_an_image_without_instances_is_left_out_of_samples(sbd, caplog):
    empty = {"GTinst": {"Segmentation": np.zeros((64, 80), np.uint8)}}
    savemat(sbd / INSIDE / "inst/2008_000001.mat", empty)
    samples = MiniSequences(SBD(sbd), num_frames=1, window=0, crop=32)
    assert [video.name for video in samples.videos] == ["2008_000000"]
    assert "1 of 2 clips are not used" in caplog.text
