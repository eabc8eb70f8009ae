"""Tests of the loop over rounds: its requests, its results, and its end."""

import doctest

import numpy as np
import pytest

from ivos.data.datasets.davis import DavisFolder
from ivos.interaction.robot import Robot
from ivos.metrics import arrays as metrics
from ivos.session import (
    DavisProtocol,
    FramePrompts,
    RobotUser,
    Sample,
    Scores,
    SessionSettings,
    all_samples,
    davis,
    run_session,
)
from ivos.session.davis import worst_frame
from ivos.video.clip import Clip
from tests.support.discs import draw


class Shifted:
    """The ground truth, moved ever less; the calls it got."""

    def __init__(self, truth, step=8):
        self.truth, self.step, self.calls = truth, step, []

    def start(self, frames, num_objects):
        self.calls.append("start")

    def interact(self, frame, strokes):
        self.calls.append(frame)
        return np.roll(self.truth, self.step // len(self.calls[1:]), 2)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is added to ``clock[0]``."""
    now = [100.0]
    monkeypatch.setattr("ivos.session.rounds.monotonic", lambda: now[0])
    return now


class Script:
    """A protocol that has nothing to do with DAVIS: asks what it is told to, and ends when that is all."""

    def __init__(self, prompts, max_rounds=9, max_seconds=None, on_score=lambda: None):
        self.prompts, self.max_rounds, self.max_seconds = list(prompts), max_rounds, max_seconds
        self.on_score, self.seen = on_score, []

    def first(self):
        return self.prompts.pop(0)

    def score(self, masks):
        self.on_score()
        return Scores(np.full((len(masks), 1), 0.5))

    def next(self, last):
        self.seen.append(last.number)
        return self.prompts.pop(0) if self.prompts else None


STROKES = [{"path": [[0.1, 0.1], [0.5, 0.5]], "object_id": 1}]


def test_another_protocol_plugs_in(clips):
    """It says what is asked, and ends the session; without strokes the masks stay."""
    segmenter = Shifted(clips[0].labels)
    protocol = Script([FramePrompts(3, STROKES), FramePrompts(1, []), FramePrompts(5, STROKES)])
    rounds = list(run_session(segmenter, Sample(clips[0]), protocol))
    assert [(each.number, each.frame, list(each.strokes)) for each in rounds] == [
        (1, 3, STROKES), (2, 1, []), (3, 5, STROKES),
    ]  # fmt: skip
    assert segmenter.calls == ["start", 3, 5]
    assert rounds[1].masks is rounds[0].masks
    assert not np.array_equal(rounds[2].masks, rounds[1].masks)
    assert rounds[0].masks.dtype == np.uint8
    assert protocol.seen == [1, 2, 3]
    assert rounds[0].f_measure is None


def test_nothing_is_asked_after_the_last_round(clips):
    protocol = Script([FramePrompts(0, STROKES)] * 5, max_rounds=2)
    assert len(list(run_session(Shifted(clips[0].labels), Sample(clips[0]), protocol))) == 2
    assert protocol.seen == [1]


def late(clock, clip, taken, max_seconds=10, scoring=0, looking=0):
    """The rounds of a session in which round n takes ``taken[n - 1]`` seconds."""

    class Slow(Shifted):
        def start(self, frames, num_objects):
            super().start(frames, num_objects)
            clock[0] += 0.5

        def interact(self, frame, strokes):
            clock[0] += taken[len(self.calls) - 1]
            return super().interact(frame, strokes)

    def score():
        clock[0] += scoring

    protocol = Script([FramePrompts(0, STROKES)] * len(taken), max_seconds=max_seconds, on_score=score)
    rounds = []
    for each in run_session(Slow(clip.labels), Sample(clip), protocol):
        clock[0] += looking
        rounds.append(each)
    return rounds


def test_seconds_are_the_segmenters(clock, clips):
    """Its start belongs to round 1; scoring and looking on are not its time."""
    rounds = late(clock, clips[0], [1, 2, 3], max_seconds=None, scoring=50, looking=70)
    assert [each.seconds for each in rounds] == [1.5, 2, 3]


def test_a_round_after_the_limit_is_not_scored_and_ends_the_session(clock, clips):
    assert len(late(clock, clips[0], [4, 4, 4, 1])) == 2
    assert len(late(clock, clips[0], [9.5, 1])) == 1  # at the limit itself: in time
    assert late(clock, clips[0], [11, 1]) == []


def test_scoring_counts_towards_the_limit_but_looking_on_does_not(clock, clips):
    assert len(late(clock, clips[0], [1, 1, 1, 1], scoring=4)) == 2
    assert len(late(clock, clips[0], [1, 1, 1, 1], looking=1000)) == 4


def test_a_video_and_its_clip_have_the_same_session(tmp_path):
    draw(tmp_path, "discs", scribbles=(2, 0))
    draw(tmp_path, "none", size=(60, 44), scribbles=())
    settings = SessionSettings(metric="J_AND_F", max_interactions=4)
    for sample in all_samples(DavisFolder(tmp_path)):
        decoded = sample.decoded()
        again = Sample(Clip(**vars(decoded.clip)), sample.scribble, decoded.strokes)
        first, second = (
            list(run_session(Shifted(s.clip.labels), s, davis(s, settings, "J_AND_F")))
            for s in (decoded, again)
        )
        assert len(first) == 4
        assert first[0].frame == {"discs (1)": 2, "discs (2)": 0}.get(sample.title, first[0].frame)
        assert [each.strokes for each in first] == [each.strokes for each in second]
        assert all(np.array_equal(a.jaccard, b.jaccard) for a, b in zip(first, second, strict=True))
        assert first[0].f_measure.shape == first[0].jaccard.shape == (3, 2)
        with pytest.raises(TypeError, match="not decoded"):
            davis(sample, settings, "J")


def test_strokes_are_the_robots_under_the_key_of_the_round(clips):
    clip = clips[0]
    sample, robot = Sample(clip, 2), Robot()
    settings = SessionSettings(metric="J", max_interactions=3, seed=5)
    before, rounds = None, list(run_session(Shifted(clip.labels), sample, davis(sample, settings, "J")))
    for each in rounds:
        guess = before.masks[each.frame] if before else np.zeros_like(clip.labels[0])
        key = (5, clip.name, 2, each.number - 1)
        assert each.strokes == robot.strokes(guess, clip.labels[each.frame], clip.num_objects, key)
        if before:
            assert each.frame == worst_frame(
                before.jaccard.mean(1), {r.frame for r in rounds[1 : each.number - 1]}
            )
        before = each


def test_the_worst_frame():
    quality = np.array([0.5, 0.2, np.nan, 0.2, 0.9])
    assert worst_frame(quality, ()) == 1  # the earliest of equals
    assert worst_frame(quality, {1}) == 3
    assert worst_frame(quality, {0, 1, 3}) == 4
    assert worst_frame(quality, {0, 1, 3, 4}) == 1  # all were asked about; what is not known never is


@pytest.fixture
def late_object():
    """Object 2 begins on frame 3 of 5, object 1 on frame 1."""
    labels = np.zeros((5, 40, 60), np.uint8)
    labels[1:, 5:20, 5:20] = 1
    labels[3:, 20:35, 30:50] = 2
    return Clip("late", np.zeros((5, 40, 60, 3), np.uint8), labels, 2, begins=(1, 3))


def test_what_is_not_known_is_neither_scored_nor_asked_about(late_object):
    """The masks have object 2 from the beginning; what stands before its begin counts for nothing."""
    masks = late_object.labels.copy()
    masks[:, 20:35, 30:50] = 2  # everywhere
    masks[0, 5:20, 5:20] = 1
    masks[4, 20:35, 40:50] = 0  # the one true fault
    sample = Sample(late_object)
    user = RobotUser(sample, Robot(), 0)
    protocol = DavisProtocol(sample, user, "J_AND_F", 6)

    class Fixed:
        def start(self, frames, num_objects): ...
        def interact(self, frame, strokes):
            return masks

    rounds = list(run_session(Fixed(), sample, protocol))
    expected = np.array([[np.nan, np.nan], [1, np.nan], [1, np.nan], [1, 1], [1, 0.5]])
    np.testing.assert_array_equal(rounds[0].jaccard, expected)
    assert np.isnan(rounds[0].f_measure).tolist() == np.isnan(expected).tolist()
    assert rounds[1].frame == 4
    assert {s["object_id"] for s in rounds[1].strokes} == {2}
    assert [each.frame for each in rounds[2:]] == [1, 2, 3, 4]  # all that is known, and again
    assert not any(each.strokes for each in rounds[2:5])


def test_the_robot_leaves_only_the_unknown_alone(late_object):
    """A true fault on a frame before another object's begin is corrected all the same."""
    masks = late_object.labels.copy()
    masks[2, 20:35, 30:50] = 2  # not known
    masks[2, 5:20, 12:20] = 0  # object 1: wrong
    user = RobotUser(Sample(late_object), Robot(), 0)
    assert {s["object_id"] for s in user.correct(masks, 2, 1).strokes} == {1}
    known = Sample(Clip(**{**vars(late_object), "begins": ()}))
    assert {s["object_id"] for s in RobotUser(known, Robot(), 0).correct(masks, 2, 1).strokes} == {0, 1}


def test_where_all_begin_at_once_nothing_changes(clips):
    settings = SessionSettings(metric="J_AND_F", max_interactions=4)
    explicit = Clip(**{**vars(clips[0]), "begins": (0,) * clips[0].num_objects})
    results = []
    for clip in (clips[0], explicit):
        sample = Sample(clip)
        rounds = run_session(Shifted(clip.labels), sample, davis(sample, settings, "J_AND_F"))
        results.append([(each.frame, each.strokes, each.jaccard.tolist()) for each in rounds])
    assert results[0] == results[1]


def test_means():
    values = np.random.default_rng(0).uniform(size=(70, 3))
    assert metrics.mean_over(values) == values.mean()
    assert np.array_equal(metrics.mean_over(values, 1), values.mean(1))
    values[:5, 1] = np.nan
    assert metrics.mean_over(values) == pytest.approx(np.nanmean(values))
    assert metrics.mean_over(values, 1) == pytest.approx(np.nanmean(values, 1))
    assert doctest.testmod(metrics).attempted > 0
    assert doctest.testmod(metrics).failed == 0
