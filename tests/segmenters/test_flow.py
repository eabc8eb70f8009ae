"""Tests of the segmenters without weights, and of the example in docs/, on a moving square."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from ivos.engine import Segmenter
from ivos.metrics import jaccard
from ivos.runtime.errors import UserError
from ivos.segmenters import CopySegmenter, FlowSegmenter
from ivos.segmenters.grabcut_flow import cut_out
from ivos.session import Davis, DavisClicks, Sample, SessionSettings, run_session
from ivos.video.clip import Clip

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), np.uint8), (0, 0), 2)
    ground = (40 + 0.4 * noise[:96, :128]).astype(np.uint8)
    skin = (150 + 0.4 * noise[100:132, 100:140]).astype(np.uint8)
    frames, labels = np.stack([ground] * 8), np.zeros((8, 96, 128), np.uint8)
    for t in range(8):
        frames[t, 30:62, 10 + 5 * t : 50 + 5 * t] = skin
        labels[t, 30:62, 10 + 5 * t : 50 + 5 * t] = 1
    return Clip("square", frames, labels, 1)


def stroke(t, object_id=1):
    return {"path": [[(18 + 5 * t) / 128, 46 / 96], [(42 + 5 * t) / 128, 46 / 96]], "object_id": object_id}


def quality(clip, masks):
    return jaccard(clip.labels, masks, 1)[:, 0]


def test_an_object_is_cut_out_of_one_frame(clip):
    mask = cut_out(clip.frames[0], [stroke(0)], 1)
    assert quality(clip, np.stack([mask] * 8))[0] > 0.9


def test_a_click_takes_what_is_around_it_and_further_ones_correct(clip):
    """Larger than the disc that is drawn for a click by far; the rest of the frame stays background."""

    def click(x, y, object_id=1):
        return {"path": [[x / 128, y / 96]], "object_id": object_id}

    first = cut_out(clip.frames[0], [click(30, 46)], 1)
    assert quality(clip, np.stack([first] * 8))[0] > 0.85
    spoilt = first.copy()
    spoilt[:, 35:] = 0
    better = cut_out(clip.frames[0], [click(30, 46), click(44, 46)], 1, spoilt)
    assert quality(clip, np.stack([better] * 8))[0] > quality(clip, np.stack([spoilt] * 8))[0] + 0.1
    without = cut_out(clip.frames[0], [click(30, 46), click(100, 80), click(100, 84, 0)], 1, first)
    assert not without[84, 100]


@pytest.mark.parametrize("kind", [FlowSegmenter, CopySegmenter])
def test_a_preview_is_the_round_s_own_frame_and_changes_nothing(clip, kind):
    one, other = kind(), kind()
    for segmenter in (one, other):
        segmenter.start(clip.frames, 1)
        segmenter.interact(0, [stroke(0)])
    preview = one.preview(5, [stroke(5)])
    one.preview(2, [stroke(2, 0)])
    np.testing.assert_array_equal(one.interact(5, [stroke(5)]), other.interact(5, [stroke(5)]))
    assert quality(clip, np.stack([preview] * 8))[5] > 0.9


def test_flow_follows_and_copy_does_not(clip):
    flow, copy = FlowSegmenter(), CopySegmenter()
    results = []
    for segmenter in (flow, copy):
        assert isinstance(segmenter, Segmenter)
        segmenter.start(clip.frames, 1)
        results.append(quality(clip, segmenter.interact(0, [stroke(0)])))
    assert results[0].min() > 0.85
    assert results[1][0] > 0.9 > 0.3 > results[1][-1]


def test_two_annotated_frames_are_blended_and_what_lies_beyond_stays(clip):
    segmenter = FlowSegmenter()
    segmenter.start(clip.frames, 1)
    segmenter.interact(2, [stroke(2)])
    before = segmenter.interact(6, [stroke(6)])
    after = segmenter.interact(4, [stroke(4)])
    np.testing.assert_array_equal(after[[0, 1, 7]], before[[0, 1, 7]])
    assert quality(clip, after).min() > 0.85


def test_work_at_a_smaller_size_comes_back_at_the_frames(clip):
    segmenter = FlowSegmenter(short_side=48)
    segmenter.start(clip.frames, 1)
    masks = segmenter.interact(0, [stroke(0)])
    assert masks.shape == clip.labels.shape
    assert quality(clip, masks).mean() > 0.7


def test_flows_of_a_video_serve_its_next_object(clip):
    """As protocols go that take object by object; another video has flows of its own."""
    segmenter, fresh = FlowSegmenter(), FlowSegmenter()
    segmenter.start(clip.frames, 1)
    segmenter.interact(0, [stroke(0)])
    segmenter.start(clip.frames.copy(), 1)
    kept = dict(segmenter._video.flow._flows)
    assert kept
    fresh.start(clip.frames, 1)
    assert np.array_equal(segmenter.interact(7, [stroke(7)]), fresh.interact(7, [stroke(7)]))
    segmenter.start(clip.frames[::-1].copy(), 1)
    assert not segmenter._video.flow._flows


def test_repeatable(clip):
    runs = []
    for _ in range(2):
        segmenter = FlowSegmenter()
        segmenter.start(clip.frames, 1)
        runs.append(segmenter.interact(3, [stroke(3)]))
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("options", [{"short_side": 4}, {"flow": "slow"}, {"band": -1}, {"colour_scale": 0}])
def test_options_are_checked(options):
    with pytest.raises(UserError, match=f"segmenter.{next(iter(options))}"):
        FlowSegmenter(**options)


def test_the_example_in_docs_runs_in_every_session(clip):
    path = ROOT / "docs/examples/mine.py"
    assert len(path.read_text().splitlines()) <= 60
    spec = importlib.util.spec_from_file_location("mine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for protocol in (Davis(), DavisClicks()):
        on = protocol.on(Sample(clip), SessionSettings(max_interactions=2), "J")
        rounds = list(run_session(module.Mine(), Sample(clip), on))
        assert rounds[-1].jaccard.mean() > 0.5
