"""SA-V on miniature copies: val as it unpacks, train unpacked from mp4 and run lengths."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ivos.data.datasets.sav import SAV
from ivos.data.tools.check import main as check
from ivos.data.tools.extract_sav_train import main, unpack
from ivos.data.training.mini_sequences import MiniSequences
from ivos.session.objects import split_objects
from ivos.video.files import DataError
from ivos.video.palette import write_labels
from ivos.video.run_lengths import decode_runs
from ivos.video.writer import write_video

CONF = Path(__file__).parents[2] / "conf"


def put(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, mask.astype(np.uint8))


@pytest.fixture
def sav(tmp_path, clips):
    """Val: ``one`` with object 001 inside object 000 and 002 from the third mask on, ``two`` with one."""
    place = tmp_path / "SA-V/sav_val"
    for name, (frames, labels) in zip(("one", "two"), clips, strict=True):
        for t in range(21):
            picture = place / f"JPEGImages_24fps/{name}/{t:05d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(picture), frames[min(t // 4, 5), ..., ::-1])
        for t in range(6):
            where = place / f"Annotations_6fps/{name}"
            put(where / f"000/{4 * t:05d}.png", labels[t] > 0)
            if name == "one":
                put(where / f"001/{4 * t:05d}.png", labels[t] == 2)
            if name == "one" and t >= 2:
                put(where / f"002/{4 * t:05d}.png", np.eye(*labels[t].shape) * 255)
    (place / "sav_val.txt").write_text("one\ntwo\n")
    return tmp_path / "SA-V"


def test_reads_what_is_there(sav, clips, capsys):
    # the last frame, 20, has a mask; frames between the masks have none
    one, two = SAV(sav, index=False)
    assert (one.num_frames, one.num_objects, one.labels_in_files) == (6, 3, (1, 2, 3))
    assert [path.stem for path in one.frames] == [f"{4 * t:05d}" for t in range(6)]
    assert one.begins == (0, 0, 2)
    labels, mine = one.load_annotations(), clips[0][1]
    diagonal = np.eye(*mine.shape[1:], dtype=bool)
    for t in range(6):
        hand, person = mine[t] == 2, mine[t] == 1
        if t >= 2:  # the thinnest lies on top, then the hand, then the person
            assert (labels[t][diagonal] == 3).all()
            hand, person = hand & ~diagonal, person & ~diagonal
        assert (labels[t][hand] == 2).all()
        assert (labels[t][person] == 1).all()
    np.testing.assert_array_equal(two.load_annotations(), clips[1][1] > 0)
    np.testing.assert_array_equal(one.areas[:, 0], (mine > 0).sum((1, 2)))
    assert (one.areas[:2, 2] == 0).all()
    assert check(["sav", str(sav), "--split", "val"]) == 0
    assert "2 of 80x64" in capsys.readouterr().out


def test_objects_that_overlap_are_whole_one_by_one(sav, clips):
    """Of SAM 2's protocols, which go object by object; known from its first mask on."""
    person, hand, line, two = split_objects(SAV(sav))
    np.testing.assert_array_equal(person.load_annotations(), clips[0][1] > 0)
    np.testing.assert_array_equal(hand.load_annotations(), clips[0][1] == 2)
    assert (line.load_annotations() > 0).sum() == 4 * 64
    assert line.known[:, 0].tolist() == [False, False, True, True, True, True]
    assert (person.name, hand.sequence, two.name) == ("one_1", "one", "two_1")


def test_is_a_choice_of_both_programs(sav):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", overrides=["data=sav", f"data.root={sav}"])
        assert [v.name for v in instantiate(cfg.data)] == ["one", "two"]
        cfg = compose("evaluate", overrides=["data=sav", f"data.root={sav / 'sav_val'}"])
        assert len(instantiate(cfg.data)) == 2
        choice = ["data@data.train=sav", f"data.train.root={sav}"]
        cfg = compose("train", overrides=["experiment=anet", *choice])
        assert len(instantiate(cfg.data.train)) == 2


def test_an_object_hidden_by_its_like_is_not_drawn(sav):
    for t in range(6):  # 001 is 000 pixel by pixel
        place = sav / "sav_val/Annotations_6fps/one"
        (place / f"001/{4 * t:05d}.png").write_bytes((place / f"000/{4 * t:05d}.png").read_bytes())
    videos = SAV(sav, videos=["one"])
    drawn = [MiniSequences(videos, num_frames=2, crop=64)[n] for n in range(6)]
    assert all("objects [1]" not in one["name"] for one in drawn)


def test_all_that_is_wrong_is_named(sav, truncate):
    place = sav / "sav_val"
    truncate(place / "Annotations_6fps/one/001/00008.png")
    (place / "Annotations_6fps/one/000/00012.png").unlink()
    (place / "JPEGImages_24fps/two/00016.jpg").unlink()
    (place / "Annotations_6fps/two/x").mkdir()
    with pytest.raises(DataError) as error:
        SAV(sav)
    text = "\n".join(error.value.problems)
    for part in (
        "one/000: no masks on frames on which other objects have one: 00012",
        "001/00008.png: unreadable",
        "two/x: no masks",
    ):
        assert part in text
    (place / "Annotations_6fps/two/x").rmdir()
    with pytest.raises(DataError) as error:
        SAV(sav, videos=["two"])
    assert "two/*/00016.png: masks without a frame" in error.value.problems[0]
    with pytest.raises(DataError, match="is not SA-V as released"):
        SAV(sav, "test")
    with pytest.raises(DataError, match=r"uv run -m ivos\.data\.tools\.extract_sav_train"):
        SAV(sav, "train")


def encode(mask):
    """COCO's run lengths, as its description says: columns, runs as differences, base 32 from ``0`` up."""
    flat, runs, value = mask.T.ravel().tolist(), [0], 0
    for pixel in flat:
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = pixel
    text = ""
    for index, run in enumerate(runs):
        left = run - runs[index - 2] if index > 2 else run
        while True:
            digit, left = left & 31, left >> 5
            if (left == -1 and digit & 16) or (left == 0 and not digit & 16):
                text += chr(48 + digit)
                break
            text += chr(48 + (digit | 32))
    return {"size": list(mask.shape), "counts": text}


def test_run_lengths():
    # pycocotools.mask.encode of these, by hand: 7 of 0, 2 of 1, 3 of 0, 1, 3 of 0
    mask = np.zeros((4, 4), np.uint8)
    mask.T.ravel()[:] = 0
    columns = np.zeros(16, np.uint8)
    columns[[7, 8, 12]] = 1
    assert (decode_runs({"size": [4, 4], "counts": "723O0"}) == columns.reshape(4, 4).T).all()
    rng = np.random.default_rng(0)
    for share in (0, 0.01, 0.3, 0.9, 1):
        mask = (rng.random((37, 53)) < share).astype(np.uint8)
        np.testing.assert_array_equal(decode_runs(encode(mask)), mask)
    for wrong in ({"size": [4, 4], "counts": "7"}, {"size": [2, 2], "counts": "~"}):
        with pytest.raises(ValueError, match=r"run lengths"):
            decode_runs(wrong)


@pytest.fixture
def mp4(tmp_path, clips):
    """Two videos of SA-V's train, 21 frames each, the second without its masks."""
    folder = tmp_path / "train/sav_000"
    folder.mkdir(parents=True)
    for name, (frames, labels) in zip(("sav_000001", "sav_000002"), clips, strict=True):
        write_video(folder / f"{name}.mp4", (frames[min(t // 4, 5)] for t in range(21)), 24)
        masklet = [[encode((m == n).astype(np.uint8)) for n in (1, 2)] for m in labels]
        (folder / f"{name}_manual.json").write_text(json.dumps({"masklet": masklet}))
    return folder.parent


def test_train_is_unpacked_from_its_videos(mp4, clips, tmp_path, capsys):
    assert main([str(mp4), str(tmp_path / "SA-V"), "--processes", "1"]) == 0
    assert "2 of 2 videos" in capsys.readouterr().out
    first, second = SAV(tmp_path / "SA-V", "train")
    for video, (frames, labels) in zip((first, second), clips, strict=True):
        np.testing.assert_array_equal(video.load_annotations(), labels)
        assert np.abs(video.load_frames().astype(int) - frames).mean() < 12  # both are lossy
    before = (tmp_path / "SA-V/sav_train/JPEGImages_24fps/sav_000001").stat().st_mtime_ns
    assert main([str(mp4), str(tmp_path / "SA-V"), "--processes", "1"]) == 0
    assert (tmp_path / "SA-V/sav_train/JPEGImages_24fps/sav_000001").stat().st_mtime_ns == before


def test_videos_that_cannot_be_unpacked_are_named_and_the_others_kept(mp4, tmp_path, capsys):
    (mp4 / "sav_000/sav_000002_manual.json").write_text('{"masklet": 3}')
    assert main([str(mp4), str(tmp_path / "SA-V"), "--processes", "1"]) == 2
    assert "sav_000002_manual.json: not a file with masklets" in capsys.readouterr().err
    assert len(SAV(tmp_path / "SA-V", "train")) == 1
    assert not list((tmp_path / "SA-V/sav_train").glob(".*"))
    assert "missing" in unpack(mp4 / "sav_000/sav_000001.mp4", tmp_path / "x", ["auto"])
    assert main([str(tmp_path / "none"), str(tmp_path)]) == 2
