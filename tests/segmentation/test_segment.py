"""Whole videos from masks, strokes and clicks: the program and the Python call."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import ivos
from ivos.interaction import Stroke
from ivos.runtime.errors import UserError
from ivos.segmentation.job import coco, run
from ivos.segmentation.main import main
from ivos.segmentation.prompts import VideoFrames, from_masks
from ivos.segmenters import CopySegmenter, DilatedStrokes
from ivos.video.palette import write_labels
from ivos.video.run_lengths import decode_runs

T, SIZE = 4, (40, 60)
STROKE: Stroke = {"path": [[0.3, 0.4], [0.4, 0.5]], "object_id": 3}


@pytest.fixture
def video(tmp_path):
    """A folder of pictures with names of its own."""
    folder = tmp_path / "clip (1)"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for t in range(T):
        frame = rng.integers(0, 60, (*SIZE, 3), np.uint8)
        frame[10:30, 15 + t : 35 + t] = 200
        Image.fromarray(frame).save(folder / f"f{8 + t}.png")
    return folder


def labels(*boxes):
    found = np.zeros(SIZE, np.uint8)
    for number, top, left in boxes:
        found[top : top + 12, left : left + 15] = number
    return found


FIRST, LAST = labels((2, 10, 15), (5, 25, 40)), labels((2, 12, 18))


def masks_in(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_masks_of_two_frames_by_the_program(video, tmp_path, capsys):
    """The masks that were given stay as they are, gaps of numbers included; names are those of the frames."""
    given = tmp_path / "masks" / video.name
    given.mkdir(parents=True)
    write_labels(given / "f8.png", FIRST)
    write_labels(given / "f11.png", LAST)
    out = tmp_path / "out"
    command = [
        str(video),
        "--masks",
        str(given.parent),
        "--output",
        str(out),
        "--segmenter",
        "copy",
        "--coco",
    ]
    main([*command, "--overlay"])
    assert capsys.readouterr().out.strip() == str(out / video.name)
    found = masks_in(out / video.name)
    assert list(found) == ["f10", "f11", "f8", "f9"]
    for name, expected in (("f8", FIRST), ("f9", FIRST), ("f10", LAST), ("f11", LAST)):
        assert np.array_equal(found[name], expected)
    content = json.loads((out / f"{video.name}-coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["f8", "f9", "f10", "f11"]
    one = next(one for one in content["annotations"] if one["category_id"] == 5)
    assert np.array_equal(decode_runs(one["segmentation"]), FIRST == 5)
    assert one["bbox"] == [40, 25, 15, 12]
    assert [path.suffix for path in out.glob("*-overlay.*")] in ([".mp4"], [".webm"])
    with pytest.raises(SystemExit):
        main(command)
    assert "exists already; add --resume" in capsys.readouterr().err
    main([*command, "--resume"])
    assert not capsys.readouterr().out


def test_the_python_call_gives_the_same(video):
    frames = ivos.read_video(video)
    for source in (video, frames):
        found = ivos.segment(source, masks={0: FIRST, 3: LAST}, segmenter=CopySegmenter())
        assert np.array_equal(found, [FIRST, FIRST, LAST, LAST])


def test_strokes_and_clicks_from_files(video, tmp_path):
    strokes = tmp_path / "strokes.json"
    strokes.write_text(json.dumps({"sequence": "x", "scribbles": [[], [STROKE], [], []]}))
    expected = ivos.segment(video, strokes={1: [STROKE]}, segmenter=CopySegmenter())
    assert set(np.unique(expected)) == {0, 3}
    assert np.array_equal(ivos.segment(video, strokes=strokes, segmenter=CopySegmenter()), expected)
    folder = tmp_path / "clicks"
    folder.mkdir()
    click = {"frame": 0, "point": [0.4, 0.5], "positive": True, "object_id": 7}
    (folder / f"{video.name}.json").write_text(json.dumps({"clicks": [click]}))
    found = ivos.segment(video, clicks=folder, segmenter=CopySegmenter())
    assert set(np.unique(found)) == {0, 7}


def test_a_live_segmenter_reports_every_frame(video):
    network = ivos.ATNetSegmenter(ivos.load("untrained"), short_side=32)
    frames, seen = ivos.read_video(video), []
    info = VideoFrames("x", tuple("abcd"), (60, 40))
    found = run(
        network, frames, from_masks({0: FIRST, 3: LAST}, info), lambda done, of: seen.append((done, of))
    )
    assert np.array_equal(found[0], FIRST)
    assert np.array_equal(found[3], LAST)
    assert seen == sorted(seen)
    assert seen[-1] == (2 * T, 2 * T)
    assert len(set(seen)) > T


def test_a_mask_in_black_and_white_is_object_1_of_the_first_frame(video, tmp_path):
    path = tmp_path / "first.png"
    Image.fromarray((FIRST > 0).astype(np.uint8) * 255).save(path)
    found = ivos.segment(video, masks=path, segmenter=CopySegmenter())
    assert np.array_equal(found, np.stack([FIRST > 0] * T))


def test_errors_are_one_line(video, tmp_path, capsys):
    info = VideoFrames("x", ("a", "b"), (60, 40))
    folder = tmp_path / "empty"
    folder.mkdir()
    write_labels(tmp_path / "small.png", np.ones((20, 30), np.uint8))
    write_labels(tmp_path / "none.png", np.zeros(SIZE, np.uint8))
    for masks, message in (
        (tmp_path / "nosuch", "masks: .*nosuch: no such file or folder"),
        (folder, r"masks: .*empty: no masks \(\*.png\)"),
        (tmp_path / "small.png", "masks: .*small.png: is 30x20, but the frames are 60x40"),
        (tmp_path / "none.png", "masks: there is no object in .*none.png"),
        ({7: FIRST}, "masks: frame 7: x has frames 0 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            from_masks(masks, info)
    write_labels(folder / "c.png", FIRST)
    with pytest.raises(UserError, match=r"empty: .*c: x has no frames of these names \(a to b\)"):
        from_masks(folder, info)
    with pytest.raises(UserError, match="give exactly one kind of prompts: masks, strokes or clicks"):
        ivos.segment(video, segmenter=CopySegmenter())
    with pytest.raises(UserError, match="DilatedStrokes does not accept masks, only strokes"):
        ivos.segment(video, masks={0: FIRST}, segmenter=DilatedStrokes())
    with pytest.raises(SystemExit, match="2"):
        main(
            [
                str(tmp_path / "nosuch.mp4"),
                "--masks",
                "x",
                "--output",
                str(tmp_path / "o"),
                "--segmenter",
                "copy",
            ]
        )
    assert capsys.readouterr().err.startswith("error: ")


def test_many_videos_from_a_list_and_from_a_folder(video, tmp_path, capsys):
    second = video.parent / "second"
    video.rename(second)
    first = video.parent / "many" / "first"
    first.parent.mkdir()
    shutil.copytree(second, first)
    write_labels(tmp_path / "mask.png", FIRST)
    (tmp_path / "videos.txt").write_text(f"\ufeff# both\nmany\n\n{second}\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["--masks", str(tmp_path / "mask.png"), "--segmenter", "copy", "--quiet"]
    main([str(tmp_path / "videos.txt"), "--output", str(out), *arguments])
    assert sorted(path.name for path in out.iterdir()) == ["first", "second"]
    assert all(np.array_equal(mask, FIRST) for mask in masks_in(out / "first").values())
    main([str(first.parent), "--output", str(tmp_path / "of_folder"), *arguments])
    assert [path.name for path in (tmp_path / "of_folder").iterdir()] == ["first"]
    for content, message in (
        ("a.mp4\n", "line 1: a.mp4: no such file or folder"),
        ("#\n", "lists no videos"),
    ):
        (tmp_path / "videos.txt").write_text(content)
        with pytest.raises(SystemExit):
            main([str(tmp_path / "videos.txt"), "--output", str(tmp_path / "o"), *arguments])
        assert message in capsys.readouterr().err


def test_sam2_by_the_program(video, tmp_path, tiny_sam2, capsys):
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    write_labels(tmp_path / "mask.png", FIRST)
    arguments = [str(video), "--masks", str(tmp_path / "mask.png"), "--segmenter", "sam2", "--device", "cpu"]
    main([*arguments, "--output", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "sam2")])
    found = masks_in(tmp_path / "out" / video.name)
    assert len(found) == T
    assert np.array_equal(found["f8"], FIRST)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*arguments, "--output", str(tmp_path / "none")])
    assert "--checkpoint: name a folder or a model of the hub" in capsys.readouterr().err


def test_a_list_of_frames():
    frames = np.zeros((T, *SIZE, 3), np.uint8)
    found = ivos.segment(list(frames), masks={0: FIRST}, segmenter=CopySegmenter())
    assert np.array_equal(found, ivos.segment(frames, masks={0: FIRST}, segmenter=CopySegmenter()))


def test_coco_of_an_empty_video():
    content = coco("x", ["a"], np.zeros((1, 4, 4), np.uint8))
    assert (content["annotations"], content["categories"]) == ([], [])
