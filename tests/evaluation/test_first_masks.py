"""Sets of which only first masks have been published: masks for their servers, and no scores."""

import json
import logging

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl

from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.video_folders import VideoFolders
from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.data.miniature import write_youtube_vos
from ivos.evaluation import SessionSettings, evaluate, leaderboard
from ivos.runtime.errors import UserError
from ivos.session import Davis, FirstMask
from ivos.video.files import DataError, read_mask
from ivos.video.palette import write_labels


class Repeating:
    """Gives every frame the labels that were given last."""

    prompts = ("masks",)

    def start(self, frames, num_objects):
        self.shape = frames.shape[:3]

    def interact(self, frame, strokes):
        return np.broadcast_to(self.given, self.shape).astype(np.uint8)

    def adopt(self, frame, labels):
        self.given = labels
        return labels


@pytest.fixture
def trainer():
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)


def labels():
    """Object 1 stands still from the start, object 2 from frame 2 of four on."""
    found = np.zeros((4, 20, 30), np.uint8)
    found[:, 2:9, 2:9] = 1
    found[2:, 11:18, 15:25] = 2
    return found


@pytest.fixture
def youtube_vos(tmp_path):
    """``valid``: two masks of four, the second one of the new object alone; numbers 1 and 2."""
    root = write_youtube_vos(
        tmp_path / "YouTube-VOS", [(np.zeros((4, 20, 30, 3), np.uint8), labels())], "valid"
    )
    masks = root / "valid/Annotations/video0"
    for name in ("00005.png", "00015.png"):
        (masks / name).unlink()
    write_labels(masks / "00010.png", np.where(labels()[2] == 2, 2, 0).astype(np.uint8))
    return root


def test_masks_of_all_frames_are_written_and_nothing_is_scored(youtube_vos, trainer, tmp_path):
    videos = YouTubeVOS(youtube_vos, "valid", first_masks=True)
    assert not videos[0].known.any()
    run = tmp_path / "run"
    summary = evaluate(Repeating(), videos, SessionSettings(), run, trainer, protocol=FirstMask())
    assert summary["J_AND_F"] == {"masks": "masks/001/01"}
    written = sorted((run / "masks/001/01/video0").iterdir())
    assert [path.name for path in written] == ["00000.png", "00005.png", "00010.png", "00015.png"]
    np.testing.assert_array_equal([read_mask(path) for path in written], labels())
    assert json.loads((run / "summary.json").read_text()) == summary["J_AND_F"]
    assert not (run / "curve.png").exists()
    again = evaluate(Repeating(), videos, SessionSettings(), run, trainer, protocol=FirstMask(), resume=True)
    assert again == summary
    assert leaderboard.main([str(run)]) == 2


def test_other_protocols_need_true_masks(youtube_vos, trainer, tmp_path):
    videos = YouTubeVOS(youtube_vos, "valid", first_masks=True)
    with pytest.raises(UserError, match=r"protocol=davis: needs true masks.*protocol=first_mask"):
        evaluate(Repeating(), videos, SessionSettings(), tmp_path / "run", trainer, protocol=Davis())


def test_an_object_without_a_mask_is_named(youtube_vos):
    write_labels(youtube_vos / "valid/Annotations/video0/00010.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match="video video0: lists object 2, which no mask shows"):
        YouTubeVOS(youtube_vos, "valid", first_masks=True)


def test_mose_and_the_test_set_of_davis(tmp_path):
    for place in (tmp_path / "MOSE/valid/{}/bear", tmp_path / "DAVIS/{}/480p/bear"):
        for t in range(3):
            picture = tmp_path / str(place).format("JPEGImages") / f"{t:05d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(picture), np.zeros((20, 30, 3), np.uint8))
        mask = tmp_path / str(place).format("Annotations") / "00000.png"
        mask.parent.mkdir(parents=True)
        write_labels(mask, labels()[0] * 3)
    (tmp_path / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "DAVIS/ImageSets/2017/test-dev.txt").write_text("bear\n")
    mose = VideoFolders("MOSE", tmp_path / "MOSE", "valid", first_masks=True)
    davis = DavisFolder(tmp_path / "DAVIS", "test-dev", first_masks=True)
    for (video,) in (mose, davis):
        assert (video.num_frames, video.num_objects, video.labels_in_files) == (3, 1, (3,))
        np.testing.assert_array_equal(video.load_annotations(), [labels()[0], *np.zeros((2, 20, 30))])
        assert video.areas.tolist() == [[49], [0], [0]]
    assert [video.num_frames for video in VideoFolders("MOSE", tmp_path / "MOSE", "valid")] == [1]
    with pytest.raises(DataError, match="frame without a mask"):
        DavisFolder(tmp_path / "DAVIS", "test-dev")
