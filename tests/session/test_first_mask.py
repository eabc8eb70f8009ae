"""Tests of the semi-supervised protocol: which masks are given and which count."""

import numpy as np
import pytest

from ivos.runtime.errors import UserError
from ivos.session import Davis, FirstMask, Sample, SessionSettings, run_session
from ivos.session.first_mask import semi_supervised_scores
from ivos.video.clip import Clip


class Repeating:
    """Gives every frame the labels of the frame that was given last; remembers what it was given."""

    prompts = ("masks",)

    def start(self, frames, num_objects):
        self.shape, self.given = frames.shape[:3], []

    def interact(self, frame, strokes):
        assert frame == self.given[-1][0]
        assert not strokes  # nothing is drawn
        return np.broadcast_to(self.given[-1][1], self.shape).astype(np.uint8)

    def adopt(self, frame, labels):
        self.given.append((frame, labels.copy()))
        return labels


def make_clip():
    """Object 1 moves from frame 0 on, object 2 stands still from frame 3 on, object 3 is never seen."""
    labels = np.zeros((6, 20, 30), np.uint8)
    for t in range(6):
        labels[t, 2:8, t : t + 8] = 1
        if t >= 3:
            labels[t, 12:18, 20:28] = 2
    return Clip("made", np.zeros((6, 20, 30, 3), np.uint8), labels, 3)


def run(segmenter, clip):
    protocol, sample = FirstMask(), Sample(clip)
    settings = protocol.adapt(SessionSettings())
    return list(run_session(segmenter, sample, protocol.on(sample, settings, "J_AND_F")))


def test_each_object_is_given_where_it_first_appears():
    clip, segmenter = make_clip(), Repeating()
    (only,) = run(segmenter, clip)
    assert [frame for frame, _ in segmenter.given] == [0, 3]
    first, second = (labels for _, labels in segmenter.given)
    np.testing.assert_array_equal(first, clip.labels[0])
    # What is already there keeps its present mask, not the true one.
    np.testing.assert_array_equal(second == 1, first == 1)
    np.testing.assert_array_equal(second == 2, clip.labels[3] == 2)
    np.testing.assert_array_equal(only.masks[:3], np.broadcast_to(first, (3, 20, 30)))
    np.testing.assert_array_equal(only.masks[3:], np.broadcast_to(second, (3, 20, 30)))


def test_an_object_is_nowhere_before_its_mask_is_given():
    class Guessing(Repeating):
        def interact(self, frame, strokes):
            masks = super().interact(frame, strokes).copy()
            masks[:, 12:18, 20:28] = 2
            return masks

    (only,) = run(Guessing(), make_clip())
    assert not (only.masks[:3] == 2).any()
    assert (only.masks[3:] == 2).any()


def test_means_by_the_benchmarks_rule():
    """Neither the first nor the last frame counts, nor frames before the object appears."""
    quality = np.array([[1, 1, 1.0], [0.5, 1, 1], [0.7, 1, 1], [0.6, 1, 1], [0.4, 0.8, 1], [0, 0, 1]])
    areas = np.array([[5, 0, 0], [5, 0, 0], [5, 0, 0], [0, 9, 0], [5, 9, 0], [5, 9, 7]])
    found = semi_supervised_scores(quality, areas)
    assert found[:2] == pytest.approx([(0.5 + 0.7 + 0.6 + 0.4) / 4, (1 + 0.8) / 2])
    assert np.isnan(found[2])  # seen on the last frame alone


def test_a_segmenter_that_takes_no_masks_is_named():
    class Drawing:
        def start(self, frames, num_objects):
            pass

        def interact(self, frame, strokes):
            raise AssertionError("nothing is drawn")

    with pytest.raises(
        UserError,
        match=r"segmenter Drawing: this protocol gives masks as prompts, but .* no method adopt",
    ):
        run(Drawing(), make_clip())


def test_a_segmenter_of_masks_alone_is_named_in_other_protocols():
    sample = Sample(make_clip())
    protocol = Davis().on(sample, SessionSettings(), "J")
    with pytest.raises(UserError, match="segmenter Repeating: takes only masks as prompts"):
        list(run_session(Repeating(), sample, protocol))
