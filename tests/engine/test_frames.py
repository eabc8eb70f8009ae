"""The frames that segmenters are given: arrays, lists of frames, and what is neither."""

import numpy as np
import pytest
import torch

from ivos.engine import ATNetSegmenter
from ivos.engine.frames import as_frames
from ivos.networks import ATNet
from ivos.segmenters import CopiedMask, CopySegmenter, DilatedStrokes, FlowSegmenter
from ivos.segmenters.sam2 import Sam2Segmenter

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
STROKE = {"path": [[0.3, 0.4], [0.4, 0.5]], "object_id": 1}


def network():
    torch.manual_seed(0)
    return ATNet(width=4, depths=(1, 1, 1, 1), decoder_width=8).eval()


MAKERS = {
    "atnet": lambda: ATNetSegmenter(network()),
    "copied": lambda: CopiedMask(network()),
    "strokes": DilatedStrokes,
    "copy": CopySegmenter,
    "flow": FlowSegmenter,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_list_of_frames_is_taken_like_an_array(name):
    found = []
    for frames in (FRAMES, list(FRAMES), torch.from_numpy(FRAMES)):
        segmenter = MAKERS[name]()
        segmenter.start(frames, 1)
        found.append(segmenter.interact(1, [STROKE]))
    assert found[0].any() or name in ("atnet", "copied")
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_sam2_takes_a_list_of_frames(tiny_sam2):
    segmenter = Sam2Segmenter(tiny_sam2(), device="cpu")
    segmenter.start(list(FRAMES), 1)
    labels = np.zeros(FRAMES.shape[1:3], np.uint8)
    labels[5:20, 10:30] = 1
    assert np.array_equal(segmenter.adopt(0, labels), labels)
    assert segmenter.interact(0, []).shape == FRAMES.shape[:3]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([FRAMES[0], FRAMES[0, :10]], "got frames of several sizes"),
        ([], "got float64"),
        (FRAMES[0], r"got uint8 \[32, 48, 3\]"),
        (FRAMES / 255, r"got float64 \[3, 32, 48, 3\]"),
        (FRAMES.transpose(0, 3, 1, 2), r"got uint8 \[3, 3, 32, 48\]"),
        (FRAMES[:0], r"got uint8 \[0, 32, 48, 3\]"),
        ("video.mp4", "got <U9"),
    ],
)
def test_other_frames_are_refused_in_a_line(frames, message):
    with pytest.raises(ValueError, match=r"frames: uint8 \[T, h, w, 3\] is needed, " + message):
        as_frames(frames)
    for name in MAKERS:
        with pytest.raises(ValueError, match="frames: uint8"):
            MAKERS[name]().start(frames, 1)


def test_an_array_is_not_copied():
    assert as_frames(FRAMES) is FRAMES
