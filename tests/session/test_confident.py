"""Tests of the protocol that follows the confidence, and of the confidence's error."""

import doctest

import numpy as np
import pytest

from ivos.runtime.errors import UserError
from ivos.session import DavisConfident, Sample, SessionSettings, confident, run_session
from ivos.session.confident import calibration, confidence_pairs
from ivos.video.clip import Clip


class Sure:
    """All background; its confidence rises by .2 a round and is lowest where it is told."""

    def __init__(self, lowest, per_object=False):
        self.lowest, self.per_object, self.rounds = lowest, per_object, 0

    def start(self, frames, num_objects):
        self.shape, self.num_objects = frames.shape[:3], num_objects

    def interact(self, frame, strokes):
        self.rounds += 1
        return np.zeros(self.shape, np.uint8)

    def confidence(self):
        sure = np.full(self.shape[0], 0.35 + 0.2 * self.rounds, np.float32)
        sure[self.lowest] -= 0.1
        return np.repeat(sure[:, None], self.num_objects, axis=1) if self.per_object else sure


def make_clip():
    labels = np.zeros((5, 40, 50), np.uint8)
    labels[:, 5:25, 5:30], labels[:, 28:36, 10:40] = 1, 2
    return Clip("made", np.zeros((5, 40, 50, 3), np.uint8), labels, 2)


def run(segmenter, **options):
    protocol, sample = DavisConfident(**options), Sample(make_clip())
    return list(run_session(segmenter, sample, protocol.on(sample, SessionSettings(), "J")))


@pytest.mark.parametrize("per_object", [False, True])
def test_the_least_confident_frame_is_prompted_until_all_are_confident(per_object):
    found = run(Sure(3, per_object), stop=0.8)
    # .45, .65, .85 on frame 3
    assert [each.number for each in found] == [1, 2, 3]
    assert found[1].frame == 3
    assert found[2].frame not in (found[0].frame, 3)
    pairs = confidence_pairs(found[0])
    assert pairs.shape == ((10, 2) if per_object else (5, 2))
    assert pairs[:, 0].min() == pytest.approx(0.45)


def test_a_segmenter_without_confidence_is_named():
    class Silent(Sure):
        confidence = property()

    with pytest.raises(UserError, match="segmenter Silent: this protocol needs the method confidence"):
        run(Silent(0))

    class Wrong(Sure):
        def confidence(self):
            return np.full(3, 0.5)

    with pytest.raises(UserError, match=r"segmenter Wrong: confidence must return floats in \[0, 1\]"):
        run(Wrong(0))
    with pytest.raises(UserError, match=r"protocol\.stop: must be a number from 0 up to 1"):
        DavisConfident(stop=2)


def test_calibration_by_hand():
    """Two bins: .1 and .1 with J 0 and .4, .95 with J .75: gaps .1 and .2 of two thirds and one third."""
    found = calibration([0.1, 0.1, 0.95, np.nan], [0.0, 0.4, 0.75, 1.0])
    assert found.error == pytest.approx((0.1 + 0.3 + 0.2) / 3)
    assert found.calibration_error == pytest.approx(0.1 * 2 / 3 + 0.2 / 3)
    assert found.pairs == 3
    assert calibration([1.0], [1.0]).error == 0
    assert calibration([], []).pairs == 0
    assert doctest.testmod(confident).attempted > 0
    assert doctest.testmod(confident).failed == 0
