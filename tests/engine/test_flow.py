"""Optical flow, and what it does for T-Net."""

import cv2
import numpy as np
import pytest
import torch

from ivos.engine import ATNetSegmenter
from ivos.engine.optical_flow import OpticalFlow
from ivos.engine.thresholding import THRESHOLD, centred, off_centre, to_labels
from ivos.metrics import jaccard
from ivos.networks import load
from ivos.runtime.errors import UserError
from tests.support.lively import lively

SHIFT = 4  # pixels a frame
STROKES = [{"path": [[0.2, 0.4], [0.4, 0.5]], "object_id": 1}]


@pytest.fixture(scope="module")
def clip():
    """A textured rectangle that moves right over a textured ground: frames, labels."""
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), np.uint8), (0, 0), 2)
    frames = np.stack([(40 + 0.4 * noise[:64, :128]).astype(np.uint8)] * 10)
    labels = np.zeros(frames.shape[:3], np.uint8)
    for t in range(10):
        place = t, slice(16, 44), slice(14 + SHIFT * t, 50 + SHIFT * t)
        frames[place] = 150 + 0.4 * noise[100:128, 100:136]
        labels[place] = 1
    return frames, labels


def test_flow_finds_the_shift(clip):
    flow = OpticalFlow(list(clip[0]))
    inside = clip[1][3] == 1
    np.testing.assert_allclose(np.median(flow.between(3, 5)[inside], axis=0), [2 * SHIFT, 0], atol=0.2)
    assert np.abs(np.median(flow.between(3, 5)[~inside], axis=0)).max() < 0.2


def test_what_is_carried_can_be_trusted_but_where_it_comes_into_view(clip):
    frames, labels = clip
    total, weights = OpticalFlow(list(frames)).carry(4, {3: np.float32(labels[3][..., None])})
    carried = (total / weights[..., None])[..., 0] > 0.5
    assert jaccard(labels[4:5], carried[None].astype(np.uint8), 1).item() > 0.9
    uncovered = (labels[3] == 1) & (labels[4] == 0)
    assert weights[uncovered].mean() < 0.5 * weights[labels[4] == 1].mean()


def test_flows_are_kept_within_bounds(clip, monkeypatch):
    flow = OpticalFlow(list(clip[0]))
    found = flow.between(0, 1)
    assert flow.between(0, 1) is found
    monkeypatch.setattr("ivos.engine.optical_flow._KEPT", 6 * found.nbytes)
    for other in range(1, 10):
        flow.between(9 - other, 9)
    assert flow.between(0, 1) is not found
    np.testing.assert_array_equal(flow.between(0, 1), found)


def with_true_annotations(network, clip, **options):
    """A segmenter whose A-Net says the truth, whatever its weights."""
    segmenter = ATNetSegmenter(network, **options)
    anet = segmenter._anet

    def truth(frame, channels):
        logits, values = anet(frame, channels)
        padded = torch.from_numpy(segmenter._started().padding.pad(clip[1][frame] == 1).copy())
        return torch.where(padded, 8.0, -8.0).expand(logits.shape), values

    segmenter._anet = truth
    segmenter.start(clip[0], 1)
    return segmenter


def test_masks_follow_the_object_though_t_net_has_learnt_nothing(clip):
    network = load("untrained")
    quality = {}
    for flow in (False, True):
        masks = with_true_annotations(network, clip, flow=flow).interact(0, STROKES)
        quality[flow] = jaccard(clip[1], masks, 1)[1:]
    assert quality[False].mean() < 0.3
    assert quality[True].min() > 0.85


def test_t_net_is_heard_where_flow_is_lost(clip):
    """In a quarter of the picture that is another from one frame to the next."""
    frames, labels = clip[0].copy(), clip[1]
    rng = np.random.default_rng(2)
    frames[5:, :32, 64:] = rng.integers(0, 256, (32, 64, 3), np.uint8)  # a cut, in a quarter of the picture
    network = lively()
    segmenter = with_true_annotations(network, (frames, labels), flow=True)
    alone = with_true_annotations(network, (frames, labels))
    for each in (segmenter, alone):
        each.interact(4, STROKES)
    difference = np.abs(segmenter.probabilities[5, 0] - alone.probabilities[5, 0])
    assert difference[:32, 64:].mean() < 0.5 * difference[32:, :64].mean()


def test_thresholds_there_and_back():
    own = torch.linspace(0, 1, 101)
    torch.testing.assert_close(off_centre(centred(own)), own)
    assert centred(torch.tensor(THRESHOLD)).item() == pytest.approx(0.5)
    assert torch.equal(to_labels(own[None]) == 1, centred(own) > 0.5 + 1e-6)


def test_the_weights_say_whether(tmp_path):
    network = load("untrained")
    assert network.flow is None
    assert not ATNetSegmenter(network, flow="trained").flow
    assert ATNetSegmenter(network, flow=True).flow
    network.flow = True
    network.save(tmp_path / "net.pt")
    again = load(tmp_path / "net.pt")
    assert again.flow is True
    assert ATNetSegmenter(again).flow
    assert not ATNetSegmenter(again, flow=False).flow


def test_bad_options_and_frames_are_named(clip):
    with pytest.raises(UserError, match=r"segmenter\.flow: true, false or trained, got 'yes'"):
        ATNetSegmenter(load("untrained"), flow="yes")
    segmenter = ATNetSegmenter(load("untrained"), flow=True)
    with pytest.raises(UserError, match=r"segmenter\.flow: .* 12 pixels or more .* these have 128x8"):
        segmenter.start(clip[0][:, :8], 1)
    with pytest.raises(UserError, match=r"fast optical flow needs 32 pixels"):
        OpticalFlow(list(clip[0][:, :, :20]), "fast")
