"""Tests of what a user needs besides whole rounds: preview, stop, undo, new objects, confidence."""

import json
from unittest import mock

import numpy as np
import pytest
import torch

from ivos.engine import ATNetSegmenter, LiveSegmenter, Segmenter
from ivos.engine.memory_runner import MemoryRunner
from ivos.engine.network_runner import NetworkRunner
from ivos.engine.state import confidence
from ivos.networks import MemoryATNet
from ivos.runtime.errors import UserError
from tests.support.lively import lively, lively_memory

T = 7
ROUNDS = [(2, 0.3, 1), (5, 0.6, 2), (2, 0.5, 0), (0, 0.4, 1)]
OPTIONS = [
    {"winograd": False},
    {"winograd": False, "undo_gib": 1},
    {"winograd": False, "undo_gib": 0.0003},  # keeps what one round changes, not two
    {"winograd": False, "batch_directions": True, "feature_batch_size": 2},
    {"winograd": False, "feature_batch_size": 3},
    {"winograd": False, "feature_batch_size": 4, "device_cache_gib": 0.001},
    {"winograd": False, "flow": True},
    {"winograd": False, "flow": True, "batch_directions": True, "undo_gib": 1},
    {"winograd": False, "device_cache_gib": 0.001},  # nearly nothing is kept from step to step
    {"memory": True},
    {"memory": True, "undo_gib": 1, "batch_directions": True},
    {"memory": True, "device_cache_gib": 0.001},
]


def stroke(x, label):
    return [{"path": [[x, 0.4], [x + 0.1, 0.5]], "object_id": label}]


@pytest.fixture(scope="module")
def network():
    return lively(width=8, decoder_width=32)


@pytest.fixture(scope="module")
def memory_network():
    return lively_memory()


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (T, 50, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def fused_copies():
    """The fused copies of the networks, which hold nothing of a video: each is made once."""
    return {}


@pytest.fixture(params=OPTIONS, ids=str)
def started(request, network, memory_network, frames, fused_copies, monkeypatch):
    """A function that makes a segmenter and starts it; all of one test are alike."""

    options = dict(request.param)
    chosen = memory_network if options.pop("memory", False) else network
    kind = MemoryRunner if chosen is memory_network else NetworkRunner
    copy = kind._copy_for_inference

    def copied_once(runner, winograd):
        if (kind, winograd) not in fused_copies:
            fused_copies[kind, winograd] = copy(runner, winograd)
        return fused_copies[kind, winograd]

    monkeypatch.setattr(kind, "_copy_for_inference", copied_once)

    def make(num_objects=2):
        segmenter = ATNetSegmenter(chosen, **options)
        segmenter.start(frames, num_objects)
        return segmenter

    return make


def stopped(rounds, count):
    """Take `count` frames of a round that is iterated over, and close it."""
    rounds = iter(rounds)
    reached = [next(rounds)[0] for _ in range(count)]
    rounds.close()
    return min(reached), max(reached)


def same(one, other):
    return np.array_equal(one.probabilities, other.probabilities) and np.array_equal(
        one._current().masks, other._current().masks
    )


def test_protocols(network):
    segmenter = ATNetSegmenter(network)
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter, LiveSegmenter)


def test_propagating_is_interacting(started):
    """Bit for bit, in each of four rounds; every frame of the plan comes once, the annotated one first."""
    whole, by_frames = started(), started()
    for frame, x, label in ROUNDS:
        before = whole._current().masks.copy()
        expected = whole.interact(frame, stroke(x, label))
        planned = by_frames.planned(frame)
        yielded = list(by_frames.propagate(frame, stroke(x, label)))
        order = [target for target, _ in yielded]
        assert order[0] == frame
        assert (min(order), max(order)) == planned
        assert sorted(order) == list(range(min(order), max(order) + 1))
        after = before
        for target, labels in yielded:
            assert labels.dtype == np.uint8
            after[target] = labels
        assert np.array_equal(after, expected)
        assert same(whole, by_frames)
    assert 0.02 < (expected > 0).mean() < 0.98


def test_both_directions_by_turns(started):
    order = [frame for frame, _ in started().propagate(2, stroke(0.3, 1))]
    assert order == [2, 1, 3, 0, 4, 5, 6]


def test_golden_session_by_propagation(golden, golden_network):
    """The released system's session within its tolerance, with previews before each round."""
    arrays = golden("session")
    segmenter = ATNetSegmenter(golden_network)
    segmenter.start(arrays["frames"], int(arrays["num_objects"]))
    (top, bottom), (left, right) = arrays["pad"]
    for number, (frame, strokes) in enumerate(json.loads(str(arrays["rounds"])), start=1):
        preview = segmenter.preview(frame, strokes)
        labels = dict(segmenter.propagate(frame, strokes))
        assert np.array_equal(labels[frame], preview)
        reference = arrays[f"probabilities_{number}"][..., top : -bottom or None, left : -right or None]
        assert np.abs(segmenter.probabilities - reference).max() < 5e-5
        expected = arrays[f"masks_{number}"]
        assert (np.stack(list(labels.values())) != expected[list(labels)]).mean() <= 0.0005


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_stopped_round_runs_again_as_it_was(started, count):
    """With the weights of the whole plan, on which the rounds after it build."""
    first, again = started(), started()
    untouched = None
    for segmenter in (first, again):
        segmenter.interact(5, stroke(0.6, 2))
        untouched = segmenter.probabilities.copy()
    reach = stopped(first.propagate(2, stroke(0.3, 1)), count)
    assert reach[1] - reach[0] + 1 == count
    assert sorted(frame for frame, _ in again.propagate(2, stroke(0.3, 1), reach)) == list(
        range(reach[0], reach[1] + 1)
    )
    assert same(first, again)
    changed = (first.probabilities != untouched).any((1, 2, 3))
    assert set(np.flatnonzero(changed)) == set(range(reach[0], reach[1] + 1))
    for segmenter in (first, again):
        segmenter.interact(0, stroke(0.4, 1))
    assert same(first, again)


def test_a_stopped_round_keeps_the_weights_of_the_whole(started):
    whole, part = started(), started()
    for segmenter in (whole, part):
        segmenter.interact(5, stroke(0.6, 2))
    whole.interact(1, stroke(0.3, 1))
    reach = stopped(part.propagate(1, stroke(0.3, 1)), 4)
    reached = slice(reach[0], reach[1] + 1)
    assert np.array_equal(whole.probabilities[reached], part.probabilities[reached])


def test_reach_in_one_direction(started):
    """An end that a round never stopped at by itself; too far is as far as the plan goes."""
    segmenter = started()
    assert [frame for frame, _ in segmenter.propagate(3, stroke(0.3, 1), (1, 3))] == [3, 2, 1]
    assert sorted(frame for frame, _ in segmenter.propagate(3, stroke(0.3, 1), (-9, 99))) == list(range(T))


def test_undo_of_a_stopped_round_and_the_round_after_it(started):
    undone, never = started(), started()
    for segmenter in (undone, never):
        segmenter.interact(5, stroke(0.6, 2))
    stopped(undone.propagate(2, stroke(0.3, 1)), 4)
    assert not same(undone, never)
    masks = undone.undo()
    assert np.array_equal(masks, never._current().masks)
    assert same(undone, never)
    assert np.array_equal(undone.confidence(), never.confidence())
    for segmenter in (undone, never):
        segmenter.interact(3, stroke(0.4, 1))
    assert same(undone, never)


def test_undo_to_the_beginning(started):
    """Each undo gives the state of the round before; a second way up gives the same."""
    segmenter = started()
    states = [segmenter.probabilities.copy()]
    for frame, x, label in ROUNDS:
        segmenter.interact(frame, stroke(x, label))
        states.append(segmenter.probabilities.copy())
    for expected in reversed(states[:-1]):
        segmenter.undo()
        assert np.array_equal(segmenter.probabilities, expected)
    assert not segmenter.confidence().any()
    with pytest.raises(ValueError, match="no round to undo"):
        segmenter.undo()
    for (frame, x, label), expected in zip(ROUNDS, states[1:], strict=True):
        segmenter.interact(frame, stroke(x, label))
        assert np.array_equal(segmenter.probabilities, expected)


def test_undo_within_its_budget_runs_no_network(network, frames):
    for undo_gib, again in ((1, 0), (0, 1)):
        segmenter = ATNetSegmenter(network, undo_gib=undo_gib)
        segmenter.start(frames, 2)
        segmenter.interact(2, stroke(0.3, 1))
        segmenter.interact(5, stroke(0.6, 2))
        anet = segmenter._networks.fused.anet
        with mock.patch.object(anet, "forward", wraps=anet.forward) as counted:
            segmenter.undo()
            assert counted.call_count == again
            segmenter.undo()
            assert counted.call_count == again


def test_preview(started):
    """The same labels as the round's on its frame, no change, and A-Net does not run again in the round.

    A-Net of the memory network runs twice, at two sizes, for objects without a previous mask.
    """
    segmenter, other = started(), started()
    for frame, x, label in ROUNDS:
        before = segmenter.probabilities.copy()
        anet = segmenter._networks.fused.anet
        with mock.patch.object(anet, "forward", wraps=anet.forward) as counted:
            segmenter.preview(frame, stroke(0.7, 1))
            preview = segmenter.preview(frame, stroke(x, label))
            calls = counted.call_count
            assert calls in ((2, 3, 4) if isinstance(segmenter.network, MemoryATNet) else (2,))
            assert np.array_equal(segmenter.probabilities, before)
            labels = dict(segmenter.propagate(frame, stroke(x, label)))
            assert counted.call_count == calls
        assert np.array_equal(labels[frame], preview)
        other.interact(frame, stroke(x, label))
        assert same(segmenter, other)


def test_a_preview_of_another_state_does_not_count(started):
    segmenter, other = started(), started()
    segmenter.preview(2, stroke(0.3, 1))
    for each in (segmenter, other):
        each.interact(5, stroke(0.6, 2))
    segmenter.preview(2, drawn := stroke(0.3, 1))
    drawn[0]["path"].append([0.9, 0.9])  # the caller's list goes on growing
    for each in (segmenter, other):
        each.interact(2, drawn)
    assert same(segmenter, other)


def test_an_object_added_before_the_first_round(started):
    late, early = started(2), started(3)
    assert late.add_object() == 3
    for segmenter in (late, early):
        segmenter.interact(2, stroke(0.3, 3))
        segmenter.interact(5, stroke(0.3, 1))
    assert same(late, early)


def test_an_object_added_in_the_middle(started):
    """As if it had been there and nothing was drawn on it, but that its old probabilities are zero.

    In the first rounds of the other session the object is likely nowhere, so that no mask depends on it.
    """
    late, early = started(2), started(3)
    for frame, x, label in ROUNDS[:2]:
        masks = [segmenter.interact(frame, stroke(x, label)) for segmenter in (late, early)]
        if not np.array_equal(*masks):
            early._current().masks[:] = masks[0]
    assert late.add_object() == 3
    assert late.probabilities.shape[1] == 3
    assert not late.probabilities[:, 2].any()
    assert np.array_equal(late._current().masks, masks[0])
    for segmenter in (late, early):
        segmenter.interact(3, [*stroke(0.5, 3), *stroke(0.2, 1)])
    if isinstance(late.network, MemoryATNet):  # whose memory holds what the other session saw of the object
        assert late.probabilities[3, 2].any()
        assert late.probabilities.shape == early.probabilities.shape
        return
    one, other = late.probabilities, early.probabilities
    assert np.abs(one[:, :2] - other[:, :2]).max() < 2e-5
    assert np.abs(one[3] - other[3]).max() < 2e-5
    blend = late._current().rounds[-1].reach
    weights = [0.5 + 0.5 * abs(t - 2) / 1 if t < 3 else 0.5 + 0.5 * abs(t - 5) / 2 for t in range(T)]
    for t in range(blend[0], blend[1] + 1):
        old = 0 if t == 3 else (1 - weights[t]) * early_old(started, t)
        assert np.abs(one[t, 2] + old - other[t, 2]).max() < 2e-5


def early_old(started, t):
    """The third object's probabilities in a frame before the round, where it was there from the start."""
    segmenter = started(3)
    reference = started(2)
    for frame, x, label in ROUNDS[:2]:
        masks = reference.interact(frame, stroke(x, label))
        segmenter.interact(frame, stroke(x, label))
        segmenter._current().masks[:] = masks
    return segmenter.probabilities[t, 2]


def test_undo_across_an_added_object(started):
    segmenter, other = started(2), started(2)
    for each in (segmenter, other):
        each.interact(2, stroke(0.3, 1))
        each.add_object()
    segmenter.interact(4, stroke(0.5, 3))
    segmenter.undo()
    assert same(segmenter, other)
    for each in (segmenter, other):
        each.interact(5, stroke(0.5, 3))
    assert same(segmenter, other)
    segmenter.undo()
    segmenter.undo()
    assert segmenter.probabilities.shape[1] == 3
    assert not segmenter.probabilities.any()


def test_no_more_objects_than_labels(network, frames):
    segmenter = ATNetSegmenter(network)
    segmenter.start(frames[:1, :8, :8], 254)
    with pytest.raises(ValueError, match="already has 254 objects, the maximum"):
        segmenter.add_object()


def test_no_context_reaches_whoever_iterates(started):
    """Neither inference mode nor autocast, between frames and after a round that was left or that failed."""

    def outside():
        ones = torch.ones(2, 2, requires_grad=True)
        return not torch.is_inference_mode_enabled() and (ones @ ones).dtype == torch.bfloat16

    segmenter = started()
    with torch.autocast("cpu", torch.bfloat16):
        for _ in segmenter.propagate(2, stroke(0.3, 1)):
            assert outside()
        rounds = segmenter.propagate(3, stroke(0.3, 1))
        next(rounds)
        assert outside()
        with pytest.raises(KeyError):
            rounds.throw(KeyError("consumer"))
        assert outside()


def test_an_open_round_ends_where_another_verb_is_called(started):
    segmenter, other = started(), started()
    rounds = segmenter.propagate(2, stroke(0.3, 1))
    reach = [next(rounds)[0], next(rounds)[0]]
    segmenter.interact(5, stroke(0.6, 2))
    assert list(rounds) == []
    list(other.propagate(2, stroke(0.3, 1), (min(reach), max(reach))))
    other.interact(5, stroke(0.6, 2))
    assert same(segmenter, other)
    rounds = segmenter.propagate(2, stroke(0.3, 1))  # never begun
    del rounds
    assert same(segmenter, other)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), KeyError("any")])
def test_a_failed_round_changes_nothing(started, error):
    """In A-Net, or in the middle of the propagation; the round can be run again."""
    segmenter, other = started(), started()
    for each in (segmenter, other):
        each.interact(5, stroke(0.6, 2))
    expected = (UserError, "out of memory in a round.*Lower segmenter.device_cache_gib")
    if isinstance(error, KeyError):
        expected = (KeyError, "any")
    networks = segmenter._networks.fused
    step = "decode" if hasattr(networks.tnet, "decode") else "forward"
    for module, name, calls in ((networks.anet, "forward", 0), (networks.tnet, step, 1)):
        real = getattr(module, name)
        effects = [*[mock.DEFAULT] * calls, error]
        with (
            mock.patch.object(module, name, side_effect=effects, wraps=real),
            pytest.raises(expected[0], match=expected[1]),
        ):
            segmenter.interact(2, stroke(0.3, 1))
        assert same(segmenter, other)
    for each in (segmenter, other):
        each.interact(2, stroke(0.3, 1))
    assert same(segmenter, other)


def test_confidence_of_probabilities():
    surely = torch.zeros(2, 100, 100)
    assert confidence(surely) == 1
    surely[0, :50] = 0.99
    assert confidence(surely) == 1
    surely[1, 60:80] = 0.5  # above 0.2 and never above 0.8
    assert confidence(surely) == pytest.approx(1 / 2001)
    surely[1, 60:70] = 0.9
    assert confidence(surely) == pytest.approx(1001 / 2001)
    speck = torch.zeros(1, 100, 100)
    speck[0, 5, 5] = 0.5
    assert confidence(speck) == pytest.approx(0.5)


def test_confidence_by_frame(started):
    segmenter = started()
    assert not segmenter.confidence().any()
    stopped(segmenter.propagate(2, stroke(0.3, 1)), 3)
    sure = segmenter.confidence()
    assert sure.dtype == np.float32
    assert (sure > 0).tolist() == [False, True, True, True, False, False, False]
    segmenter.interact(5, stroke(0.6, 2))
    expected = [0, *(confidence(torch.from_numpy(p)) for p in segmenter.probabilities[1:])]
    assert np.allclose(segmenter.confidence(), expected)


def test_wrong_calls_are_named(network, frames):
    segmenter = ATNetSegmenter(network)
    verbs = (segmenter.undo, segmenter.confidence, segmenter.add_object)
    for call in (lambda: segmenter.preview(0, []), *verbs):
        with pytest.raises(RuntimeError, match="call start"):
            call()
    segmenter.start(frames, 2)
    with pytest.raises(ValueError, match="frames 0 to 6, got 7"):
        segmenter.propagate(7, [])  # at the call, not at the first frame
    with pytest.raises(ValueError, match=r"reach: \(3, 5\) does not contain the annotated frame 2"):
        segmenter.propagate(2, [], reach=(3, 5))
    with pytest.raises(UserError, match="object 3, but the highest object number is 2"):
        segmenter.preview(2, stroke(0.3, 3))
    with pytest.raises(UserError, match=r"segmenter\.undo_gib: must be a number from 0, got -1"):
        ATNetSegmenter(network, undo_gib=-1)
    assert not segmenter.probabilities.any()
