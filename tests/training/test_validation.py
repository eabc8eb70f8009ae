"""Tests of the validation sessions and of what they log."""

import numpy as np
import pytest

from ivos.segmenters import DilatedStrokes
from ivos.session import Round
from ivos.training.validation import SessionResult, metric_names, simulate_session
from ivos.video.clip import Clip


def session(num_frames, *rounds):
    """A result from (annotated frame, quality [T, N]) of each round."""
    labels = np.zeros((num_frames, 4, 4), np.uint8)
    clip = Clip("clip", np.zeros((num_frames, 4, 4, 3), np.uint8), labels, len(rounds[0][1][0]))
    every = [
        Round(number, t, [], labels, np.array(quality, float), None, 0.0)
        for number, (t, quality) in enumerate(rounds, start=1)
    ]
    return SessionResult(clip, every)


def test_metrics_tell_annotated_and_propagated_apart():
    result = session(
        3,
        (1, [[0.1, 0.3], [0.8, 1.0], [0.0, 0.2]]),
        (0, [[0.6, 0.8], [0.9, 0.9], [0.4, 0.2]]),
    )
    metrics = result.metrics()
    assert list(metrics) == metric_names(2)
    expected = {
        "J": (0.4 + 3.8 / 6) / 2, "J_annotated_round_1": 0.9, "J_propagated_round_1": 0.15,
        "J_annotated_round_2": 0.8, "J_propagated_round_2": 0.3,
    }  # fmt: skip
    assert metrics == pytest.approx(expected)


def test_metrics_of_the_first_and_last_of_many_rounds():
    rounds = [(t, [[0.1 * t + 0.2]] * 4) for t in (2, 2, 1)]
    metrics = session(4, *rounds).metrics()
    assert set(metrics) == set(metric_names(3))
    assert metrics["J_annotated_round_3"] == pytest.approx(0.3)
    assert not any("round_2" in name for name in metrics)


def test_no_metric_of_propagated_frames_where_none_is_left():
    metrics = session(2, (0, [[0.5], [0.1]]), (1, [[0.6], [0.8]])).metrics()
    assert set(metric_names(2)) - set(metrics) == {"J_propagated_round_2"}
    assert metrics["J_annotated_round_2"] == pytest.approx(0.7)
    assert session(1, (0, [[0.5]])).metrics() == {"J": 0.5, "J_annotated_round_1": 0.5}


def test_session_of_thick_strokes(clips):
    result = simulate_session(DilatedStrokes(), clips[0], 2, 0)
    assert result.rounds[0].frame == clips[0].first_frame
    metrics = result.metrics()
    assert metrics["J_annotated_round_1"] > metrics["J_propagated_round_1"]
    assert result.rounds[1].jaccard.mean() > result.rounds[0].jaccard.mean()
