"""Segmenters to compare with, and the figures of a validation session."""

import numpy as np
import pytest
import torch

from ivos.engine import Segmenter
from ivos.interaction import rasterise
from ivos.interaction.samples import Clip
from ivos.networks import ATNet
from ivos.training.baselines import CopiedMask, DilatedStrokes
from ivos.training.validation import Round, SessionResult, figure_names, simulate_session


def stroke(x, y, object_id):
    return {"path": [[x, y], [x + 0.2, y]], "object_id": object_id}


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (7, 40, 60, 3), np.uint8)


@pytest.fixture
def copied():
    torch.manual_seed(0)
    return CopiedMask(ATNet(width=8, depths=[1, 1, 1, 1], decoder_width=16), threshold=0.3)


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


def test_nothing_passes_a_threshold_of_one(frames, copied):
    copied.threshold = 1.0
    copied.start(frames, 2)
    assert not copied.interact(0, [stroke(0.2, 0.3, 1)]).any()


def session(num_frames, *rounds):
    """A result from (annotated frame, quality [T, N]) of each round."""
    labels = np.zeros((num_frames, 4, 4), np.uint8)
    clip = Clip("clip", np.zeros((num_frames, 4, 4, 3), np.uint8), labels, len(rounds[0][1][0]))
    return SessionResult(clip, [Round(t, [], labels, np.array(quality, float)) for t, quality in rounds])


def test_figures_tell_annotated_and_propagated_apart():
    result = session(
        3,
        (1, [[0.1, 0.3], [0.8, 1.0], [0.0, 0.2]]),
        (0, [[0.6, 0.8], [0.9, 0.9], [0.4, 0.2]]),
    )
    figures = result.figures()
    assert list(figures) == figure_names(2)
    expected = {
        "J": (0.4 + 3.8 / 6) / 2, "J_annotated_round_1": 0.9, "J_propagated_round_1": 0.15,
        "J_annotated_round_2": 0.8, "J_propagated_round_2": 0.3,
    }  # fmt: skip
    assert figures == pytest.approx(expected)


def test_figures_of_the_first_and_last_of_many_rounds():
    rounds = [(t, [[0.1 * t + 0.2]] * 4) for t in (2, 2, 1)]
    figures = session(4, *rounds).figures()
    assert set(figures) == set(figure_names(3))
    assert figures["J_annotated_round_3"] == pytest.approx(0.3)
    assert not any("round_2" in name for name in figures)


def test_no_figure_of_propagated_frames_where_none_is_left():
    figures = session(2, (0, [[0.5], [0.1]]), (1, [[0.6], [0.8]])).figures()
    assert set(figure_names(2)) - set(figures) == {"J_propagated_round_2"}
    assert figures["J_annotated_round_2"] == pytest.approx(0.7)
    assert session(1, (0, [[0.5]])).figures() == {"J": 0.5, "J_annotated_round_1": 0.5}


def test_session_of_thick_strokes(clips):
    result = simulate_session(DilatedStrokes(), clips[0], 2, 0)
    assert result.rounds[0].frame == clips[0].first_frame
    figures = result.figures()
    assert figures["J_annotated_round_1"] > figures["J_propagated_round_1"]
    assert result.rounds[1].jaccard.mean() > result.rounds[0].jaccard.mean()
