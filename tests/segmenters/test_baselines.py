"""Tests of the segmenters that others are compared with."""

import numpy as np
import pytest

from ivos.engine import ATNetSegmenter, Segmenter
from ivos.engine import thresholding as masks
from ivos.interaction import rasterise
from ivos.segmenters.baselines import CopiedMask, DilatedStrokes
from tests.support.lively import lively, lively_memory


def stroke(x, y, object_id):
    return {"path": [[x, y], [x + 0.2, y]], "object_id": object_id}


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (7, 40, 60, 3), np.uint8)


@pytest.fixture
def copied(network, monkeypatch):
    monkeypatch.setattr(masks, "THRESHOLD", 0.3)  # an untrained network is not sure of anything
    return CopiedMask(network)


def test_baselines_are_segmenters(copied):
    assert isinstance(DilatedStrokes(), Segmenter)
    assert isinstance(copied, Segmenter)


def test_dilated_strokes(frames):
    segmenter = DilatedStrokes()
    segmenter.start(frames, 2)
    masks = segmenter.interact(2, [stroke(0.2, 0.3, 1), stroke(0.6, 0.7, 2)])
    assert masks.shape == frames.shape[:3]
    assert masks.dtype == np.uint8
    assert set(np.unique(masks[2])) == {0, 1, 2}
    assert not np.delete(masks, 2, axis=0).any()
    for label, drawn in ((1, stroke(0.2, 0.3, 1)), (2, stroke(0.6, 0.7, 2))):
        line = rasterise([drawn], 40, 60) > 0
        assert (masks[2][line] == label).all()
        assert (masks[2] == label).sum() > line.sum()


def test_dilated_strokes_of_later_rounds(frames):
    segmenter = DilatedStrokes()
    segmenter.start(frames, 2)
    first = segmenter.interact(2, [stroke(0.2, 0.3, 1)])
    kept = first.copy()
    second = segmenter.interact(2, [stroke(0.3, 0.3, 0), stroke(0.6, 0.7, 2)])
    assert np.array_equal(first, kept)  # what was handed out stays as it was
    assert 0 < (second[2] == 1).sum() < (first[2] == 1).sum()
    assert (second[2] == 2).any()
    third = segmenter.interact(5, [stroke(0.5, 0.5, 1)])
    assert np.array_equal(third[2], second[2])
    assert (third[5] == 1).any()
    segmenter.start(frames[:3], 2)
    assert not segmenter.interact(0, []).any()


def test_dilated_strokes_of_other_brushes(frames):
    sizes = []
    for diameter in (0.0, 0.1, 0.3):
        segmenter = DilatedStrokes(diameter)
        segmenter.start(frames, 1)
        sizes.append((segmenter.interact(0, [stroke(0.4, 0.5, 1)]) == 1).sum())
    assert sizes[0] == (rasterise([stroke(0.4, 0.5, 1)], 40, 60) > 0).sum()
    assert sizes[0] < sizes[1] < sizes[2]


def test_copied_masks_come_from_the_nearest_annotation(frames, copied):
    copied.start(frames, 2)
    first = copied.interact(1, [stroke(0.2, 0.3, 1), stroke(0.6, 0.7, 2)])
    assert first.shape == frames.shape[:3]
    assert first.dtype == np.uint8
    assert first.any()
    assert first.max() <= 2
    assert (first == first[1]).all()
    kept = first.copy()
    second = copied.interact(5, [stroke(0.5, 0.5, 1), stroke(0.1, 0.1, 0)])
    assert np.array_equal(first, kept)
    assert not np.array_equal(second[1], second[5])
    assert np.array_equal(second[1], first[1])
    assert all(np.array_equal(second[t], second[1]) for t in (0, 2, 3))  # 3: both are as near
    assert all(np.array_equal(second[t], second[5]) for t in (4, 6))


def test_copied_masks_start_afresh(frames, copied):
    copied.start(frames, 2)
    strokes = [stroke(0.2, 0.3, 1), stroke(0.6, 0.7, 2)]
    first = copied.interact(1, strokes)
    copied.interact(4, strokes)
    copied.start(frames, 2)
    assert np.array_equal(copied.interact(1, strokes), first)


def test_nothing_passes_a_threshold_of_one(frames, copied, monkeypatch):
    monkeypatch.setattr(masks, "THRESHOLD", 1.0)
    copied.start(frames, 2)
    assert not copied.interact(0, [stroke(0.2, 0.3, 1)]).any()


@pytest.mark.parametrize("make", [lively, lively_memory])
def test_the_copied_mask_is_a_nets_for_either_kind_of_network(make, frames):
    network, strokes = make(), [stroke(0.2, 0.3, 1), stroke(0.6, 0.7, 2)]
    copied, segmenter = CopiedMask(network), ATNetSegmenter(network, winograd=False)
    for each in (copied, segmenter):
        each.start(frames, 2)
    masks = copied.interact(3, strokes)
    assert np.mean(masks[3] == segmenter.preview(3, strokes)) > 0.999
    assert np.array_equal(masks[0], masks[3])
