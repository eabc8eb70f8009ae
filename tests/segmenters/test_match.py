"""Tests of label propagation by pretrained features and optical flow, on an object that jumps."""

import cv2
import numpy as np
import pytest

from ivos.metrics import jaccard
from ivos.runtime.errors import UserError
from ivos.segmenters import FlowSegmenter, MatchSegmenter

STROKE = {"path": [[24 / 160, 48 / 96], [56 / 160, 48 / 96]], "object_id": 1}


@pytest.fixture(scope="module")
def jumping():
    """Frames and labels of a patterned square that moves by more than the flow can follow."""
    rng = np.random.default_rng(3)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (96, 160, 3), np.uint8), (0, 0), 6) // 2 + 30
    skin = np.kron(rng.integers(0, 2, (4, 5, 1)), np.ones((8, 8, 1))) * (190, 60, 20) + (30, 90, 30)
    frames, labels = np.stack([ground] * 4), np.zeros((4, 96, 160), np.uint8)
    for t, left in enumerate((20, 62, 100, 58)):
        frames[t, 32:64, left : left + 40], labels[t, 32:64, left : left + 40] = skin, 1
    return frames, labels


def test_similarity_finds_what_the_flow_loses(jumping):
    frames, labels = jumping
    quality = {}
    for name, segmenter in (("flow", FlowSegmenter()), ("match", MatchSegmenter(match=3.0, device="cpu"))):
        segmenter.start(frames, 1)
        masks = segmenter.interact(0, [STROKE])
        assert masks.shape == labels.shape
        quality[name] = jaccard(labels, masks, 1)[1:, 0].mean()
    assert quality["match"] > quality["flow"] + 0.2


def test_without_weight_it_is_the_flow_alone(jumping):
    frames, _ = jumping
    found = []
    for segmenter in (FlowSegmenter(), MatchSegmenter(match=0.0, device="cpu")):
        segmenter.start(frames, 1)
        segmenter.interact(0, [STROKE])
        found.append(segmenter.interact(2, [{"path": [[0.7, 0.5]], "object_id": 1}]))
    assert np.array_equal(*found)


def test_what_cannot_work_is_refused():
    with pytest.raises(UserError, match=r"segmenter\.match: must be a number from 0, got -1"):
        MatchSegmenter(match=-1)
    with pytest.raises(UserError, match=r"segmenter\.encoder: small has no frozen encoder"):
        MatchSegmenter(encoder="small")
