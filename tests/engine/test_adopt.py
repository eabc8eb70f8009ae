"""Tests of masks as prompts: a frame has exactly the given labels, and propagation starts from them."""

import numpy as np
import pytest

from ivos.engine import AdoptingSegmenter, ATNetSegmenter
from ivos.engine.thresholding import THRESHOLD
from ivos.interaction.clicks import understood_prompts
from tests.support.lively import lively

T, SIZE = 7, (50, 70)
OPTIONS = [
    {"winograd": False},
    {"winograd": False, "undo_gib": 1, "batch_directions": True},
    {"winograd": False, "flow": True, "device_cache_gib": 0.001},
    {"winograd": False, "short_side": 40},
]


def stroke(x, label):
    return [{"path": [[x, 0.4], [x + 0.1, 0.5]], "object_id": label}]


def boxes(**corners):
    """Labels with a box for each object: ``o1=(top, left)``."""
    labels = np.zeros(SIZE, np.uint8)
    for name, (top, left) in corners.items():
        labels[top : top + 20, left : left + 25] = int(name[1:])
    return labels


BOTH = boxes(o1=(5, 5), o2=(20, 40))


@pytest.fixture(scope="module")
def network():
    return lively()


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (T, *SIZE, 3), np.uint8)


@pytest.fixture(params=OPTIONS, ids=str)
def started(request, network, frames):
    def make(num_objects=2):
        segmenter = ATNetSegmenter(network, **request.param)
        segmenter.start(frames, num_objects)
        return segmenter

    return make


def as_one(labels, count=2):
    return np.stack([labels == number for number in range(1, count + 1)]).astype(np.float32)


def test_the_frame_has_exactly_these_labels(started):
    """Before and after propagation from it and from other frames; the others follow only a round."""
    segmenter = started()
    assert isinstance(segmenter, AdoptingSegmenter)
    assert "masks" in understood_prompts(segmenter)
    assert np.array_equal(segmenter.adopt(3, BOTH), BOTH)
    assert np.array_equal(segmenter.probabilities_of(3), as_one(BOTH))
    assert not segmenter.probabilities[[0, 1, 2, 4, 5, 6]].any()
    assert np.flatnonzero(segmenter.confidence()).tolist() == [3]
    assert segmenter.confidence()[3] == 1
    masks = segmenter.interact(3, [])
    assert np.array_equal(masks[3], BOTH)
    assert all(segmenter.probabilities_of(t).any() for t in range(T))
    assert segmenter.confidence().all()
    masks = segmenter.interact(5, stroke(0.6, 2))
    assert np.array_equal(masks[3], BOTH)
    assert np.array_equal(segmenter.probabilities[3], as_one(BOTH))


def test_strokes_on_the_frame_take_over(started):
    segmenter, drawn = started(), started()
    segmenter.adopt(3, BOTH)
    preview = segmenter.preview(3, stroke(0.2, 2))
    assert np.array_equal(segmenter.preview(3, []), BOTH)
    masks = segmenter.interact(3, stroke(0.2, 2))
    assert np.array_equal(masks[3], preview)
    assert not np.array_equal(masks[3], BOTH)
    drawn.interact(3, stroke(0.2, 2))
    assert not np.array_equal(drawn.probabilities, segmenter.probabilities)  # A-Net saw the mask
    assert np.array_equal(segmenter.undo()[3], BOTH)
    assert np.array_equal(segmenter.probabilities_of(3), as_one(BOTH))


def test_it_is_an_annotation_of_the_memory(started):
    """T-Net takes objects from it: another mask there gives other masks elsewhere, in a later round, too."""
    results = []
    for labels in (BOTH, boxes(o1=(25, 40), o2=(5, 5))):
        segmenter = started()
        segmenter.adopt(0, labels)
        assert len(segmenter._video.annotations) == 1
        segmenter.interact(0, [])
        assert len(segmenter._video.annotations) == 1  # the same annotation counts once
        segmenter.interact(6, stroke(0.3, 1))
        results.append(segmenter.probabilities.copy())
    # The masks in frames 1 to 5 come from frame 6 alone, and from what the memory says of the objects.
    assert np.abs(results[0][1:6] - results[1][1:6]).max() > 1e-3


def test_undo_and_replay(started):
    """Undo goes back bit for bit, with what was kept and without; a stopped round can be run again."""
    segmenter, other = started(), started()
    for each in (segmenter, other):
        each.interact(5, stroke(0.6, 2))
    segmenter.adopt(2, BOTH)
    steps = segmenter.propagate(2, [])
    reached = sorted(next(steps)[0] for _ in range(3))
    steps.close()
    assert reached == [1, 2, 3]
    segmenter.undo()
    assert not np.array_equal(segmenter.probabilities, other.probabilities)  # the adoption is there
    segmenter.undo()
    assert np.array_equal(segmenter.probabilities, other.probabilities)
    assert np.array_equal(segmenter._masks(segmenter._current()), other._masks(other._current()))
    for each in (segmenter, other):
        each.adopt(2, BOTH)
        masks = each.interact(2, [])
    assert np.array_equal(segmenter.probabilities, other.probabilities)
    assert np.array_equal(other.interact(2, []), masks)


def test_several_frames_first_and_then_from_each(started):
    """Between frames that were given, nothing is mixed with the emptiness before."""
    segmenter, alone = started(), started()
    last = boxes(o1=(10, 10), o2=(22, 40))
    for each in (segmenter, alone):
        each.adopt(0, BOTH)
    segmenter.adopt(6, last)
    segmenter.interact(0, [])
    masks = segmenter.interact(6, [])
    assert np.array_equal(masks[0], BOTH)
    assert np.array_equal(masks[6], last)
    assert all(segmenter.probabilities_of(t).any() for t in range(T))
    order = [frame for frame, _ in alone.propagate(0, [])]
    assert order == list(range(T))


def test_the_first_pass_is_not_dimmed(network, frames):
    segmenter, alone = (ATNetSegmenter(network, winograd=False) for _ in range(2))
    for each in (segmenter, alone):
        each.start(frames, 2)
        each.adopt(0, BOTH)
    segmenter.adopt(6, boxes(o1=(10, 10)), objects=[1])
    segmenter._video.rounds[-1].annotation = None  # not in the memory, so that T-Net's results are the same
    segmenter.interact(0, [])
    alone.interact(0, [])
    assert np.array_equal(segmenter.probabilities[:6], alone.probabilities[:6])


def test_some_of_the_objects(started):
    """Labels that describe one object leave the others as they are, outside it."""
    segmenter = started()
    segmenter.interact(3, stroke(0.3, 2))
    sure = segmenter.probabilities_of(3)[1].copy()
    labels = boxes(o1=(15, 20))
    found = segmenter.adopt(3, labels, objects=[1])
    assert np.array_equal(found == 1, labels == 1)
    second = (sure > THRESHOLD) & (labels == 0)  # where the first object gives way, too
    assert not ((found == 2) & ~second).any()
    assert np.array_equal(segmenter.probabilities_of(3)[0], labels == 1)
    if segmenter.short_side is None:
        assert np.array_equal(found == 2, second)
        assert np.array_equal(segmenter.probabilities_of(3)[1], np.where(labels, 0, sure))
    assert segmenter.add_object() == 3
    third = boxes(o3=(0, 0))
    found = segmenter.adopt(3, third, objects=[3])
    assert np.array_equal(found == 3, third == 3)
    assert np.array_equal(found == 1, (labels == 1) & (third == 0))
    masks = segmenter.interact(3, [])
    assert np.array_equal(masks[3], found)


def test_wrong_arguments_are_named(started):
    segmenter = started()
    for labels, options, message in (
        (BOTH.astype(int), {}, r"labels: uint8 \[50, 70\] is needed, got int64 \[50, 70\]"),
        (BOTH[1:], {}, r"labels: uint8 \[50, 70\] is needed, got uint8 \[49, 70\]"),
        (BOTH.tolist(), {}, r"labels: uint8 \[50, 70\] is needed, got <class 'list'>"),
        (boxes(o3=(0, 0)), {}, r"labels: they contain \[3\], but describe only the objects \[1, 2\]"),
        (BOTH, {"objects": [2]}, r"labels: they contain \[1\], but describe only the objects \[2\]"),
        (BOTH, {"objects": [0]}, r"objects: numbers from 1 to 2 are needed, got \[0\]"),
        (BOTH, {"objects": []}, r"objects: numbers from 1 to 2 are needed, got \[\]"),
    ):
        with pytest.raises(ValueError, match=message):
            segmenter.adopt(0, labels, **options)
    with pytest.raises(ValueError, match="frame: the video has frames 0 to 6, got 7"):
        segmenter.adopt(7, BOTH)
    assert not segmenter._video.rounds
