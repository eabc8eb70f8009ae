"""MOSE, LVOS, VOST, PUMaVOS and BL30K on miniature copies."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ivos.data.datasets.video_folders import VideoFolders
from ivos.data.tools.check import main
from ivos.video.files import DataError
from ivos.video.palette import write_labels

CONF = Path(__file__).parents[2] / "conf"
KINDS = ["MOSE", "LVOS", "VOST", "PUMaVOS", "BL30K"]


@pytest.fixture
def make(tmp_path, clips):
    """Function that writes a set of two videos, the second with labels 3 and 200, void, a frame unmasked."""

    def write(kind):
        root = tmp_path / kind
        place = root / "train" if kind in ("MOSE", "LVOS") else root
        for number, (frames, labels) in enumerate(clips):
            for t, (frame, mask) in enumerate(zip(frames, labels, strict=True), start=kind == "LVOS"):
                stem = f"{t:08d}" if kind == "LVOS" else f"{t:05d}"
                for folder in ("JPEGImages", "Annotations"):
                    (place / folder / f"vid{number}").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(place / f"JPEGImages/vid{number}/{stem}.jpg"), frame[..., ::-1])
                if number:
                    mask = np.choose(mask, [0, 3, 200]).astype(np.uint8)
                    mask[0, 0] = 255
                if t != 3 or not number:
                    write_labels(place / f"Annotations/vid{number}/{stem}.png", mask)
        if kind == "VOST":
            (root / "ImageSets").mkdir()
            (root / "ImageSets/train.txt").write_text("vid0\nvid1\n")
        return root

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_is_there(make, clips, kind, capsys):
    root = make(kind)
    one, two = VideoFolders(kind, root)
    assert (one.name, one.size, one.num_frames, one.num_objects) == ("vid0", (80, 64), 6, 2)
    np.testing.assert_array_equal(one.load_annotations(), clips[0][1])
    assert (two.num_frames, two.num_objects, two.file_labels) == (5, 2, (3, 200))
    assert two.known.all()
    labels = two.load_annotations()
    assert (labels[:, 0, 0] == 255).all()
    left_out = 2 if kind == "LVOS" else 3
    expected = np.delete(clips[1][1], left_out, axis=0)
    expected[:, 0, 0] = 255
    np.testing.assert_array_equal(labels, expected)
    assert [v.name for v in VideoFolders(kind, root, videos=["vid1"])] == ["vid1"]
    assert main([kind.lower(), str(root), "--split", "train"]) == 0
    assert "2 of 80x64" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_is_a_choice_of_both_programs(make, kind):
    root = make(kind)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", overrides=[f"data={kind.lower()}", f"data.root={root}", "data.split=train"])
        assert [v.name for v in instantiate(cfg.data)] == ["vid0", "vid1"]
        choice = [f"data@data.train={kind.lower()}", f"data.train.root={root}"]
        cfg = compose("train", overrides=["experiment=anet", *choice])
        assert len(instantiate(cfg.data.train)) == 2


def test_all_that_is_wrong_is_named(make, truncate):
    root = make("MOSE")
    truncate(root / "train/Annotations/vid0/00001.png")
    (root / "train/JPEGImages/vid1/00002.jpg").unlink()
    with pytest.raises(DataError) as error:
        VideoFolders("MOSE", root, index=False)
    first, second = error.value.problems
    assert first.startswith("train/Annotations/vid0/00001.png: unreadable")
    assert second == "train/Annotations/vid1/00002.png: mask without a frame"
    with pytest.raises(DataError, match="is not MOSE as released") as error:
        VideoFolders("MOSE", root, "test")
    assert error.value.problems == ("test/JPEGImages", "test/Annotations")
    with pytest.raises(DataError, match=r"data\.kind: must be one of MOSE"):
        VideoFolders("mose", root)
    with pytest.raises(DataError, match=r"data/LVOS.*data\.lvos_root=FOLDER"):
        VideoFolders("LVOS")
