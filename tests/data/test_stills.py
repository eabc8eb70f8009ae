"""Folders of stills on a miniature copy."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from ivos.data.datasets.static_images import Stills
from ivos.data.synthetic.stills import StillMotion
from ivos.data.tools.check import main
from ivos.data.training.mini_sequences import MiniSequences
from ivos.video.files import DataError
from ivos.video.palette import write_labels

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def stills(tmp_path, clips):
    """Grey masks with soft rims, coloured ones of one object in folders of folders, and one of labels."""
    frames, labels = clips[0]
    root = tmp_path / "static"
    for folder in ("DUTS-TR", "fss/ab_wheel", "own"):
        (root / folder).mkdir(parents=True)
    for t, path in enumerate(("DUTS-TR/a", "DUTS-TR/b", "fss/ab_wheel/1", "own/c")):
        cv2.imwrite(str(root / f"{path}.jpg"), frames[t, ..., ::-1])
        white = Image.fromarray(np.where(labels[t] > 0, 255, 60 * (t == 1)).astype(np.uint8))
        if path.startswith("DUTS"):
            white.save(root / f"{path}.png")
        elif path.startswith("fss"):
            white.convert("RGB").save(root / f"{path}.png")
        else:
            mask = np.choose(labels[t], [0, 3, 7]).astype(np.uint8)
            mask[0] = 255
            write_labels(root / f"{path}.png", mask)
    return root


def test_reads_what_is_there(stills, clips, capsys):
    found = {video.name: video for video in Stills(stills)}
    assert sorted(found) == ["DUTS-TR-a", "DUTS-TR-b", "fss-ab_wheel-1", "own-c"]
    for t, name in enumerate(sorted(found)[:3]):
        np.testing.assert_array_equal(found[name].load_annotations()[0], clips[0][1][t] > 0)
        assert (found[name].num_objects, found[name].num_frames) == (1, 1)
    labels = found["own-c"].load_annotations()[0]
    assert (labels[0] == 255).all()
    np.testing.assert_array_equal(labels[1:], clips[0][1][3, 1:])
    assert found["own-c"].labels_in_files == (3, 7)
    assert [v.name for v in Stills(stills, folders=["fss"])] == ["fss-ab_wheel-1"]
    assert main(["stills", str(stills)]) == 0
    assert "4 of 80x64" in capsys.readouterr().out
    again = [video.areas.tolist() for video in Stills(stills)]  # from the index
    assert again == [video.areas.tolist() for video in Stills(stills, index=False)]


def test_they_move_for_training(stills):
    sequences = MiniSequences(Stills(stills), num_frames=3, crop=64, stills=StillMotion())
    drawn = [sequences[n] for n in range(4)]
    assert all(one["frames"].shape == (3, 64, 64, 3) for one in drawn)
    assert all((one["masks"][:, 0] == 1).any() for one in drawn)


def test_is_a_choice_of_training(stills):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        choice = ["data@data.train=stills", f"data.train.root={stills}", "data.train.folders=[own]"]
        cfg = compose("train", overrides=["experiment=anet", *choice])
        assert len(instantiate(cfg.data.train)) == 1


def test_all_that_is_wrong_is_named(stills, truncate):
    truncate(stills / "DUTS-TR/a.png")
    (stills / "DUTS-TR/b.png").unlink()
    Image.new("L", (80, 64)).save(stills / "fss/ab_wheel/1.png")
    Image.new("L", (40, 64), 255).save(stills / "own/c.png")
    with pytest.raises(DataError) as error:
        Stills(stills)
    for part, problem in zip(
        ("DUTS-TR/a.png: unreadable", "DUTS-TR/b.png: missing", "1.png: shows no object", "is 40x64"),
        error.value.problems,
        strict=True,
    ):
        assert part in problem
    with pytest.raises(DataError, match=r"no such folder: .*ecssd"):
        Stills(stills, folders=["ecssd"])
    with pytest.raises(DataError, match=r"data/static.*data\.stills_root=FOLDER"):
        Stills()


def test_thin_plate_splines_bend_what_affine_maps_keep_straight():
    frame = np.zeros((64, 96, 3), np.uint8)
    labels = np.zeros((64, 96), np.uint8)
    frame[:, 40:56], labels[:, 40:56] = 255, 1
    still = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0}
    frames, masks = StillMotion(**still, thin_plate=0.05)(frame, labels, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(frames[0], frame)
    left = [(mask[8:56] == 1).argmax(1) for mask in masks]
    spread = [int(np.ptp(each)) for each in left]
    assert spread[0] == 0
    assert spread[3] >= 2
    for t in range(4):  # frame and mask move together
        agree = (frames[t, ..., 0] > 127) == (masks[t] == 1)
        assert agree[masks[t] != 255].mean() > 0.97
    plain = StillMotion()(frame, labels, 3, np.random.default_rng(5))
    again = StillMotion(thin_plate=0.0)(frame, labels, 3, np.random.default_rng(5))
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_array_equal(one, other)
    tiny = StillMotion(thin_plate=1e-9)(frame, labels, 3, np.random.default_rng(5))
    assert np.abs(tiny[0].astype(int) - plain[0]).mean() < 1  # the affine map is the same
