"""Tests of segmentation at a smaller size than that of the frames."""

import importlib
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

from ivos.engine import ATNetSegmenter, LiveSegmenter, Segmenter
from ivos.engine.resizing import Resizing
from ivos.engine.thresholding import to_labels
from ivos.networks import load
from ivos.runtime.errors import UserError
from tests.support.lively import lively

STROKES = [{"path": [[0.3, 0.4], [0.6, 0.5]], "object_id": 1}]


@pytest.fixture(scope="module")
def network():
    return load("untrained")


def frames(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), np.uint8)
    return np.stack([cv2.resize(frame, (width, height)) for frame in small])


def working(segmenter):
    """Probabilities at the size that the networks work at, [T, N, h, w]."""
    video = segmenter._current()
    return video.padding.crop(video.probabilities[:, : video.num_objects]).numpy()


def test_the_networks_see_the_small_size(network):
    segmenter = ATNetSegmenter(network, short_side=64)
    assert isinstance(segmenter, Segmenter)
    video = frames(150, 200)
    segmenter.start(video, 2)
    masks = segmenter.interact(1, STROKES)
    assert masks.shape == video.shape[:3]
    assert masks.dtype == np.uint8
    assert working(segmenter).shape == (3, 2, 64, 85)
    assert segmenter.probabilities.shape == (3, 2, 150, 200)
    best = segmenter.probabilities.max(1)
    assert np.array_equal(masks > 0, best > 0.8)


def test_small_frames_stay_as_they_are(network):
    video, plain, scaled = frames(60, 80), ATNetSegmenter(network), ATNetSegmenter(network, short_side=64)
    results = []
    for segmenter in (plain, scaled):
        segmenter.start(video, 1)
        results.append(segmenter.interact(0, STROKES))
    assert np.array_equal(*results)
    assert np.array_equal(plain.probabilities, scaled.probabilities)


@pytest.mark.parametrize("size", [16, 64.5, True, "240"])
def test_other_sizes_are_refused(network, size):
    with pytest.raises(UserError, match=r"segmenter\.short_side"):
        ATNetSegmenter(network, short_side=size)


# The verbs of a live segmenter: each is the engine's on frames that were made smaller beforehand.

LARGE, SMALL = (100, 140), (50, 70)
ROUNDS = [(2, 0.3, 1), (5, 0.6, 2), (2, 0.5, 0)]


def stroke(x, label):
    return [{"path": [[x, 0.4], [x + 0.1, 0.5]], "object_id": label}]


def enlarged(probabilities):
    """Labels at the large size from probabilities [N, h, w]."""
    large = [cv2.resize(one, LARGE[::-1], interpolation=cv2.INTER_LINEAR) for one in probabilities]
    return to_labels(torch.from_numpy(np.stack(large))).numpy()


@pytest.fixture(scope="module")
def lively_network():
    return lively(width=8, decoder_width=32)


@pytest.fixture(params=[{}, {"undo_gib": 1}, {"flow": True}], ids=str)
def pair(request, lively_network):
    """A scaled segmenter, and the engine on frames that were resized for it."""
    video = np.random.default_rng(0).integers(0, 256, (7, *SMALL, 3), np.uint8).repeat(2, 1).repeat(2, 2)
    small = np.stack([cv2.resize(one, SMALL[::-1], interpolation=cv2.INTER_AREA) for one in video])
    scaled = ATNetSegmenter(lively_network, short_side=50, **request.param)
    plain = ATNetSegmenter(lively_network, **request.param)
    scaled.start(video, 2)
    plain.start(small, 2)
    return scaled, plain


def as_the_engine(scaled, plain):
    return np.array_equal(working(scaled), plain.probabilities) and np.array_equal(
        scaled.confidence(), plain.confidence()
    )


def test_it_is_live(lively_network):
    assert isinstance(ATNetSegmenter(lively_network, short_side=50), LiveSegmenter)


def test_preview_and_propagate(pair):
    """Masks stream in the engine's order, each from its probabilities; the preview is the frame's own."""
    scaled, plain = pair
    for frame, x, label in ROUNDS:
        assert scaled.planned(frame) == plain.planned(frame)
        preview = scaled.preview(frame, stroke(x, label))
        assert np.array_equal(preview, enlarged(plain.preview_probabilities(frame, stroke(x, label))))
        steps = zip(
            scaled.propagate(frame, stroke(x, label)), plain.propagate(frame, stroke(x, label)), strict=True
        )
        for (target, labels), (expected, _) in steps:
            assert target == expected
            assert labels.dtype == np.uint8
            assert np.array_equal(labels, enlarged(plain.probabilities_of(target)))
            if target == frame:
                assert np.array_equal(labels, preview)
        assert as_the_engine(scaled, plain)
    assert len(np.unique(preview)) > 1


def test_interacting_is_propagating(pair):
    scaled, plain = pair
    for frame, x, label in ROUNDS:
        masks = scaled.interact(frame, stroke(x, label))
        plain.interact(frame, stroke(x, label))
        assert as_the_engine(scaled, plain)
        assert np.array_equal(masks, np.stack([enlarged(one) for one in plain.probabilities]))


def test_stop_replay_and_undo(pair):
    scaled, plain = pair
    whole = scaled.interact(5, stroke(0.6, 2))
    steps = scaled.propagate(2, stroke(0.3, 1))
    reached = [next(steps)[0] for _ in range(3)]
    steps.close()
    reach = min(reached), max(reached)
    assert reach[1] - reach[0] == 2
    stopped = working(scaled).copy()
    assert np.array_equal(scaled.undo(), whole)
    assert sorted(frame for frame, _ in scaled.propagate(2, stroke(0.3, 1), reach)) == sorted(reached)
    assert np.array_equal(working(scaled), stopped)
    plain.interact(5, stroke(0.6, 2))
    list(plain.propagate(2, stroke(0.3, 1), reach))
    assert as_the_engine(scaled, plain)
    scaled.undo()
    assert not scaled.undo().any()
    with pytest.raises(ValueError, match="no round to undo"):
        scaled.undo()


def test_an_iterator_that_is_dropped_ends_its_round(pair):
    scaled, plain = pair
    steps = scaled.propagate(2, stroke(0.3, 1))
    next(steps)
    del steps
    list(plain.propagate(2, stroke(0.3, 1), (2, 2)))
    assert as_the_engine(scaled, plain)


def test_wrong_arguments_are_told_at_the_call(pair):
    with pytest.raises(ValueError, match="frame: the video has frames 0 to 6"):
        pair[0].propagate(7, stroke(0.3, 1))
    with pytest.raises(ValueError, match="frame: the video has frames 0 to 6"):
        pair[0].preview(7, stroke(0.3, 1))


def test_an_object_added_in_the_middle(pair):
    for segmenter in pair:
        segmenter.interact(2, stroke(0.3, 1))
        assert segmenter.add_object() == 3
        segmenter.interact(5, stroke(0.6, 3))
    scaled, plain = pair
    assert as_the_engine(scaled, plain)
    assert scaled.probabilities.shape == (7, 3, *LARGE)


def test_confidence(pair):
    scaled, _ = pair
    assert not scaled.confidence().any()
    list(scaled.propagate(3, stroke(0.3, 1), (2, 3)))
    assert np.flatnonzero(scaled.confidence()).tolist() == [2, 3]


def test_only_touched_frames_are_enlarged(pair):
    scaled, plain = pair
    for each in pair:
        each.interact(5, stroke(0.6, 2))
        each.interact(0, stroke(0.2, 1))
    with mock.patch.object(Resizing, "enlarged", autospec=True, side_effect=Resizing.enlarged) as enlarge:
        masks = scaled.interact(1, stroke(0.3, 1))  # reaches up to frame 4
        assert sorted(scaled._video.rounds[-1].reach) == [1, 4]
        assert enlarge.call_count == 4
    plain.interact(1, stroke(0.3, 1))
    assert np.array_equal(masks, np.stack([enlarged(one) for one in plain.probabilities]))


def test_the_weights_settings_are_the_default(lively_network, tmp_path):
    """A segmenter used directly works as the weights' file asks; a file that says nothing changes nothing."""
    assert ATNetSegmenter(lively_network).short_side is None
    assert not ATNetSegmenter(lively_network).flow
    small = load("small")
    assert (ATNetSegmenter(small).short_side, ATNetSegmenter(small).flow) == (160, True)
    direct = ATNetSegmenter(small, short_side=None, flow=False)
    assert direct.short_side is None
    assert not direct.flow
    with pytest.warns(FutureWarning, match="ivos.segmenters.scaled has been renamed"):
        former = importlib.import_module("ivos.segmenters.scaled").atnet_segmenter
    assert (former(small).short_side, former(small).flow) == (None, False)
    assert former(small, short_side="trained", flow="trained").short_side == 160
