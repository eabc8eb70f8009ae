"""Tests of YouTubeVOS on a miniature data set: what it reads, and its message about each fault."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.data.training import MiniSequences
from ivos.video.files import DataError
from ivos.video.palette import write_labels


def problems(root, **options):
    with pytest.raises(DataError) as error:
        YouTubeVOS(root, index=False, **options)
    return list(error.value.problems)


@pytest.fixture
def meta(youtube_vos):
    """Function that edits meta.json's videos in place."""
    path = youtube_vos / "train/meta.json"

    def edit(change):
        content = json.loads(path.read_text())
        change(content["videos"])
        path.write_text(json.dumps(content))

    return edit


def test_reads_videos_frames_and_ranges(youtube_vos, clips):
    one, two = YouTubeVOS(youtube_vos)
    assert [one.name, two.name] == ["video0", "video1"]
    assert (one.size, one.num_frames, one.num_objects, one.begins) == ((80, 64), 6, 2, (0, 0))
    assert two.begins == (0, 2)
    frames, labels = two.read([5, 1])
    np.testing.assert_array_equal(labels, clips[1][1][[5, 1]])
    assert np.abs(frames.astype(int) - clips[1][0][[5, 1]]).mean() < 4  # but for JPEG
    expected = [[(mask == n).sum() for n in (1, 2)] for mask in clips[1][1]]
    np.testing.assert_array_equal(two.areas, expected)


def test_numbers_with_gaps_are_counted_through(youtube_vos, meta):
    """Objects 3 and 200 of the files are objects 1 and 2, and there are no others."""

    def change(videos):
        objects = videos["video1"]["objects"]
        videos["video1"]["objects"] = {"200": objects["2"], "3": objects["1"]}

    meta(change)
    before = YouTubeVOS(youtube_vos, videos=["video0"])[0]
    expected = []
    for path in sorted((youtube_vos / "train/Annotations/video1").iterdir()):
        with Image.open(path) as image:
            labels = np.asarray(image)
        expected.append(labels)
        write_labels(path, np.choose(labels, [0, 3, 200]).astype(np.uint8))
    video = YouTubeVOS(youtube_vos)[1]
    assert (video.num_objects, video.begins, video.file_labels) == (2, (0, 2), (3, 200))
    np.testing.assert_array_equal(video.load_annotations(), expected)
    assert video.areas.tolist() == [[(mask == n).sum() for n in (1, 2)] for mask in expected]
    assert video.known.tolist() == [[True, t >= 2] for t in range(6)]
    assert YouTubeVOS(youtube_vos)[0] == before


def test_frames_without_a_mask_are_passed_over(youtube_vos):
    images = youtube_vos / "train/JPEGImages/video0"
    shutil.copy(images / "00005.jpg", images / "00006.jpg")
    (video, _) = YouTubeVOS(youtube_vos)
    assert [path.stem for path in video.frames] == ["00000", "00005", "00010", "00015", "00020", "00025"]


def test_videos_can_be_chosen(youtube_vos, tmp_path):
    (tmp_path / "some.txt").write_text("video1\n")
    assert [v.name for v in YouTubeVOS(youtube_vos, videos=tmp_path / "some.txt")] == ["video1"]
    assert [v.name for v in YouTubeVOS(youtube_vos, videos=["video0"])] == ["video0"]
    with pytest.raises(DataError, match="no video video9; it has: video0, video1"):
        YouTubeVOS(youtube_vos, videos=["video9"])
    with pytest.raises(DataError, match=r"none\.txt: no such list"):
        YouTubeVOS(youtube_vos, videos=str(tmp_path / "none.txt"))


def test_mini_sequences_keep_to_an_objects_range(youtube_vos):
    videos = YouTubeVOS(youtube_vos, videos=["video1"])
    samples = MiniSequences(videos, num_frames=4, window=7, crop=32, max_objects=2)
    before = 0
    for number in range(60):
        sample = samples[number]
        chosen, objects = (
            json.loads(part.split(" ", 1)[1]) for part in sample["name"].split(", ", 1)[1].split(", o")
        )
        for mask, label in zip(sample["masks"], objects, strict=True):
            for frame, picture in zip(chosen, mask, strict=True):
                early = label == 2 and frame < 2
                before += early
                assert (picture == 255).all() == early
    assert before  # the late object was followed backward beyond its beginning


def test_half_downloaded(youtube_vos, truncate):
    train = youtube_vos / "train"
    truncate(train / "JPEGImages/video0/00005.jpg")
    truncate(train / "Annotations/video0/00010.png")
    (train / "JPEGImages/video0/00015.jpg").unlink()
    (train / "Annotations/video0/00020.png").unlink()
    shutil.rmtree(train / "Annotations/video1")
    found = problems(youtube_vos)
    assert [problem.split(" (")[0] for problem in found] == [
        "train/JPEGImages/video0/00015.jpg: missing",
        "train/Annotations/video0/00020.png: missing",
        "train/JPEGImages/video0/00005.jpg: unreadable",
        "train/Annotations/video0/00010.png: unreadable",
        "train/Annotations/video1: no masks",
    ]
    shutil.rmtree(train / "JPEGImages/video1")
    assert "train/JPEGImages/video1: no frames (*.jpg, *.png, ...)" in problems(youtube_vos)


def test_faulty_videos_can_be_left_out(youtube_vos, truncate, caplog):
    train = youtube_vos / "train"
    truncate(train / "JPEGImages/video0/00005.jpg")
    assert [v.name for v in YouTubeVOS(youtube_vos, skip_faulty=True)] == ["video1"]
    assert "1 of 2 are faulty and left out" in caplog.text
    truncate(train / "JPEGImages/video1/00005.jpg")
    assert len(problems(youtube_vos, skip_faulty=True)) == 2


def test_masks_in_colour_or_grey_levels(youtube_vos, grey):
    masks = youtube_vos / "train/Annotations/video0"
    with Image.open(masks / "00000.png") as image:
        image.convert("RGB").save(masks / "00000.png")
    grey(masks / "00005.png")
    first, second = problems(youtube_vos)
    assert first.startswith("train/Annotations/video0/00000.png: a RGB image, not a mask with a palette")
    assert second.startswith("train/Annotations/video0/00005.png: a greyscale mask with the value")


def test_sizes_that_do_not_agree(youtube_vos):
    path = youtube_vos / "train/JPEGImages/video0/00000.jpg"
    with Image.open(path) as image:
        image.resize((40, 32)).save(path)
    assert problems(youtube_vos) == [
        "train/JPEGImages/video0/00000.jpg: is 40x32, but the video's frames are 80x64"
    ]


def test_meta_and_masks_that_do_not_agree(youtube_vos, meta):
    def change(videos):
        videos["video0"]["objects"]["7"] = {"category": "ghost", "frames": ["00000"]}
        del videos["video1"]["objects"]["2"]

    meta(change)
    found = problems(youtube_vos)
    assert found[0] == "train/meta.json: video video0: lists object 7, which no mask shows"
    assert found[1] == "train/Annotations/video1/00010.png: shows object 2, which is not in meta.json"
    assert len(found) == 5


def test_meta_naming_what_is_not_there(youtube_vos, meta):
    def change(videos):
        videos["video0"]["objects"]["1"]["frames"].append("00030")
        videos["video2"] = {"objects": {"1": {"category": "x", "frames": ["00000"]}}}

    meta(change)
    assert problems(youtube_vos) == [
        "train/JPEGImages/video0/00030.jpg: missing",
        "train/Annotations/video0/00030.png: missing",
        "train/JPEGImages/video2: no frames (*.jpg, *.png, ...)",
        "train/Annotations/video2: no masks (*.png)",
    ]


@pytest.mark.parametrize(
    ("video", "words"),
    [
        ({"objects": {}}, "objects none"),
        ({"objects": {"0": {"frames": ["00000"]}}}, "numbers from 1"),
        ({"objects": {"1": {"frames": []}}}, "lists object 1 without frames"),
        ({"objects": {"1": {}}}, "not of the form"),
        ({"objects": {"one": {"frames": ["00000"]}}}, "not of the form"),
        ({"objects": {"1": {"frames": "00000"}}}, "not of the form"),
        ({"objects": {"1": {"frames": [0]}}}, "not of the form"),
        ([], "not of the form"),
    ],
)
def test_malformed_videos_in_meta(youtube_vos, meta, video, words):
    meta(lambda videos: videos.update(odd=video))
    (problem,) = problems(youtube_vos)
    assert problem.startswith("video odd: ")
    assert words in problem


def test_names_in_meta_that_lead_elsewhere(youtube_vos, meta):
    meta(lambda videos: videos.update({"../../x": videos["video0"]}))
    (problem,) = problems(youtube_vos)
    assert problem.startswith("video: '../../x' is not possible as the name of a video")


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{", "[]", "{}", '{"videos": []}', '{"videos": {}}'])
def test_malformed_meta(youtube_vos, text):
    (youtube_vos / "train/meta.json").write_text(text)
    with pytest.raises(
        DataError, match=r"meta\.json: (not a readable JSON file|not a meta\.json of YouTube-VOS)"
    ):
        YouTubeVOS(youtube_vos)


def test_no_layout_and_no_root(tmp_path, youtube_vos):
    assert problems(tmp_path) == ["train/meta.json", "train/JPEGImages", "train/Annotations"]
    assert problems(youtube_vos, split="valid")[0] == "valid/meta.json"
    with pytest.raises(DataError, match=r"data\.youtube_vos_root=FOLDER"):
        YouTubeVOS(None)
