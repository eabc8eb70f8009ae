"""Tests of the plan of a round, and of rounds on unusual but legal videos."""

import numpy as np
import pytest
import torch

from ivos.engine import ATNetSegmenter, Segmenter, plan_round
from ivos.engine.padding import Padding
from ivos.interaction import ScribbleError
from ivos.networks import ATNet


def test_plan_of_a_first_round():
    plan = plan_round(3, [], 7)
    assert (plan.start, plan.end) == (0, 6)
    assert list(plan.backward) == [2, 1, 0]
    assert list(plan.forward) == [4, 5, 6]
    assert set(plan.weights.values()) == {1.0}


def test_plan_between_annotations():
    """From 50 towards 10 and 100 of 200: ends pulled in by a hundredth, weights falling to a half."""
    plan = plan_round(50, [100, 10, 50, 10], 200)
    assert plan.start == 50 - int((50 - 11) * 0.99 + 0.5) == 11
    assert plan.end == 50 + int((99 - 50) * 0.99 + 0.5) == 99
    assert plan.weights[50] == 1
    assert plan.weights[30] == 0.5 + 0.5 * 20 / 40
    assert plan.weights[75] == 0.5 + 0.5 * 25 / 50
    far = plan_round(150, [10], 300)
    assert far.start == 150 - int(139 * 0.99 + 0.5) == 12
    assert far.end == 299
    assert far.weights[299] == 1


def test_plan_next_to_annotations():
    plan = plan_round(4, [3, 5], 9)
    assert (plan.start, plan.end) == (4, 4)
    assert list(plan.backward) == list(plan.forward) == []
    assert plan_round(0, [0], 1).weights == {0: 1.0}


@pytest.mark.parametrize("size", [(61, 87), (64, 96), (5, 40), (1, 1), (33, 31)])
def test_padding(size):
    padding = Padding.to_multiple_of_32(*size)
    height, width = padding.padded_size
    assert (height, width) == (size[0] + 32 - size[0] % 32, size[1] + 32 - size[1] % 32)
    assert (padding.top, padding.left) == ((height - size[0]) // 2, (width - size[1]) // 2)
    array = np.random.default_rng(0).random((2, *size), np.float32)
    padded = padding.pad(array)
    assert padded.shape == (2, height, width)
    assert np.array_equal(padding.crop(torch.from_numpy(padded)).numpy(), array)
    assert np.array_equal(padding.pad_tensor(torch.from_numpy(array)).numpy(), padded)
    labels = np.random.default_rng(0).integers(0, 256, (3, *size), np.uint8)
    assert np.array_equal(padding.pad_tensor(torch.from_numpy(labels)).numpy(), padding.pad(labels))
    if size == (61, 87):  # reflected, the edge not repeated
        assert np.array_equal(padded[:, padding.top - 1], padded[:, padding.top + 1])


def stroke(x, y, object_id=1):
    return {"path": [[x, y], [x + 0.2, y]], "object_id": object_id}


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    return ATNetSegmenter(ATNet(width=4, depths=(1, 1, 1, 1), decoder_width=8))


@pytest.mark.parametrize("shape", [(3, 20, 30), (1, 64, 64), (2, 7, 100), (2, 1, 1)])
def test_odd_videos(segmenter, shape):
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert isinstance(segmenter, Segmenter)
    segmenter.start(frames, 2)
    for frame in (shape[0] - 1, 0, 0):
        masks = segmenter.interact(frame, [stroke(0.3, 0.5), stroke(0.5, 0.2, 2), stroke(0.1, 0.1, 0)])
        assert masks.shape == shape
        assert masks.dtype == np.uint8
        assert masks.max() <= 2
        assert segmenter.probabilities.shape == (shape[0], 2, *shape[1:])
        assert segmenter.probabilities.dtype == np.float32
    assert not np.shares_memory(masks, segmenter.interact(0, []))


def test_masks_are_the_best_object_above_the_threshold(segmenter):
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), np.uint8)
    segmenter.network.anet.decoder.head[-1].bias.data += 2
    segmenter.network.tnet.decoder.head[-1].bias.data += 1.4
    segmenter.start(frames, 3)
    masks = segmenter.interact(1, [stroke(0.3, 0.5)])
    p = segmenter.probabilities
    assert np.array_equal(masks, np.where(p.max(1) > 0.8, p.argmax(1) + 1, 0))
    assert len(np.unique(masks)) > 1


def test_a_new_video_forgets_the_old_one(segmenter):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 3, 40, 50, 3), np.uint8)
    segmenter.start(second, 1)
    segmenter.interact(1, [stroke(0.3, 0.5)])
    expected = segmenter.probabilities
    segmenter.start(first, 2)
    segmenter.interact(0, [stroke(0.5, 0.5)])
    segmenter.start(second, 1)
    segmenter.interact(1, [stroke(0.3, 0.5)])
    assert np.array_equal(segmenter.probabilities, expected)


def test_wrong_calls_are_named(segmenter):
    with pytest.raises(RuntimeError, match="call start"):
        segmenter.interact(0, [])
    with pytest.raises(ValueError, match=r"frames: uint8 \[T, h, w, 3\]"):
        segmenter.start(np.zeros((2, 4, 4, 3), np.float32), 1)
    with pytest.raises(ValueError, match="num_objects"):
        segmenter.start(np.zeros((2, 4, 4, 3), np.uint8), 0)
    segmenter.start(np.zeros((2, 4, 4, 3), np.uint8), 1)
    with pytest.raises(ValueError, match="frames 0 to 1, got 2"):
        segmenter.interact(2, [])
    with pytest.raises(ScribbleError, match="object 2, but the highest object number is 1"):
        segmenter.interact(0, [stroke(0.1, 0.1, 2)])
