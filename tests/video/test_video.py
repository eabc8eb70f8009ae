"""Tests of Video and Clip with the same video on disk and in memory."""

import cv2
import numpy as np
import pytest

from ivos.video.clip import Clip
from ivos.video.files import DataError
from ivos.video.labels import known_pairs
from ivos.video.palette import write_labels
from ivos.video.video import Video

LABELS = np.zeros((4, 6, 8), np.uint8)
LABELS[:, 1:3] = 3
LABELS[2:, 4:] = 200
LABELS[:, 0] = 255


@pytest.fixture
def video(tmp_path):
    """Two objects, in the files 3 and 200; the masks of the second begin on frame 2."""
    frames, masks = [], []
    for t, labels in enumerate(LABELS):
        frames.append(tmp_path / f"{t}.jpg")
        masks.append(tmp_path / f"{t}.png")
        cv2.imwrite(str(frames[-1]), np.full((6, 8, 3), 50 * t, np.uint8))
        write_labels(masks[-1], labels)
    areas = np.stack([(label == LABELS).sum((1, 2)) for label in (3, 200)], -1)
    return Video("v", tuple(frames), tuple(masks), (), (8, 6), 2, areas, (0, 2), (3, 200))


def test_objects_are_numbered_without_gaps(video):
    frames, labels = video.read([3, 0])
    assert frames[:, 0, 0, 0].tolist() == [150, 0]
    assert np.unique(labels[0]).tolist() == [0, 1, 2, 255]
    np.testing.assert_array_equal(labels[0] == 2, LABELS[3] == 200)
    np.testing.assert_array_equal(video.load_annotations()[[3, 0]], labels)


def test_a_label_that_was_not_there_when_checked(video):
    write_labels(video.annotations[1], np.where(LABELS[1] == 3, 7, LABELS[1]).astype(np.uint8))
    with pytest.raises(DataError, match=r"1\.png: has labels that it did not have when it was checked"):
        video.load_annotations()


def test_a_clip_is_the_video_decoded(video):
    clip = video.load()
    np.testing.assert_array_equal(clip.frames, video.load_frames())
    np.testing.assert_array_equal(clip.labels, video.load_annotations())
    np.testing.assert_array_equal(clip.areas, video.areas)
    np.testing.assert_array_equal(clip.known, video.known)
    assert (clip.name, clip.num_objects, clip.num_frames) == ("v", 2, 4)


def test_what_is_known_before_an_objects_masks_begin(video):
    assert video.known.tolist() == [[True, False], [True, False], [True, True], [True, True]]
    assert video.load(range(1, 4)).known.tolist() == [[True, False], [True, True], [True, True]]
    assert video.load(range(2, 4)).known.all()
    clip = video.load()
    assert clip.only(1).known.tolist() == [[True, False]]
    assert clip.only(3).known.all()


def test_without_a_word_about_beginnings_all_is_known():
    assert known_pairs((), 3, 2).tolist() == [[True, True]] * 3
    assert Clip("c", np.zeros((3, 4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.uint8), 2).known.all()
    assert known_pairs((), 3, 0).shape == (3, 0)
