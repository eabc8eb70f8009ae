"""Tests of the protocols with clicks, with segmenters whose results are known."""

from itertools import pairwise

import numpy as np
import pytest

from ivos.evaluation.report import r_auc
from ivos.interaction.clicks import click_on_error, is_click
from ivos.runtime.errors import UserError
from ivos.session import Davis, DavisClicks, Sam2Offline, Sam2Online, Sample, SessionSettings, run_session
from ivos.video.clip import Clip


def make_clip(num_objects=1, length=10, appears=0):
    labels = np.zeros((length, 60, 80), np.uint8)
    for t in range(appears, length):
        labels[t, 20:45, 10 + t : 50 + t] = 1
        if num_objects > 1:
            labels[t, 50:58, 20:40] = 2
    frames = np.full((*labels.shape, 3), 90, np.uint8)
    frames[labels > 0] = 200
    return Clip("made", frames, labels, num_objects)


class Own:
    """Draws a square around every positive click on all frames, erases at negative ones."""

    prompts = ("clicks",)

    def __init__(self, radius=6):
        self.radius, self.calls = radius, []

    def start(self, frames, num_objects):
        self.masks = np.zeros(frames.shape[:3], np.uint8)

    def interact(self, frame, prompts):
        self.calls.append((frame, prompts))
        for click in prompts:
            x, y = (np.array(click["point"]) * self.masks.shape[:0:-1]).round().astype(int)
            r = self.radius
            area = self.masks[:, max(0, y - r) : y + r, max(0, x - r) : x + r]
            area[...] = click["object_id"] if click["positive"] else 0
        return self.masks.copy()


class Previewing(Own):
    def __init__(self):
        super().__init__()
        self.previews = 0

    def preview(self, frame, prompts):
        self.previews += 1
        kept = self.masks.copy()
        mask = Own.interact(self, frame, prompts)[frame]
        self.calls.pop()
        self.masks = kept
        return mask


def rounds(settings, segmenter, clip, **options):
    session = settings.adapt(SessionSettings(**options))
    return list(run_session(segmenter, Sample(clip), settings.on(Sample(clip), session, "J_AND_F")))


def test_offline_clicks_three_times_on_the_worst_frame():
    clip, segmenter = make_clip(), Own()
    found = rounds(Sam2Offline(frames=4), segmenter, clip)
    assert [r.number for r in found] == [1, 2, 3, 4]
    assert found[0].frame == 0
    asked = [found[0].frame]
    for before, after in pairwise(found):
        quality = before.jaccard.mean(axis=1)
        quality[asked] = 2
        assert after.frame == quality.argmin()
        asked.append(after.frame)
    assert all(len(r.strokes) == 3 and all(map(is_click, r.strokes)) for r in found)
    assert len(segmenter.calls) == 12  # without a preview each click is seen by segmenting the video


def test_each_click_is_on_what_is_wrong_after_those_before_it():
    clip = make_clip()
    (only,) = rounds(Sam2Offline(frames=1), Own(), clip)
    replay = Own()
    replay.start(clip.frames, 1)
    mask = np.zeros_like(clip.labels[0])
    for click in only.strokes:
        assert click == click_on_error(clip.labels[0], mask, 1)
        mask = replay.interact(0, [click])[0]


def test_a_preview_gives_the_same_clicks_with_one_call_a_round():
    clip, segmenter = make_clip(), Previewing()
    found, expected = (
        rounds(Sam2Offline(frames=3), segmenter, clip),
        rounds(Sam2Offline(frames=3), Own(), clip),
    )
    assert [r.strokes for r in found] == [r.strokes for r in expected]
    assert [frame for frame, _ in segmenter.calls] == [r.frame for r in found]
    assert segmenter.previews == 9
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.masks, theirs.masks)


def test_online_pauses_where_the_mask_is_bad_and_never_looks_back():
    clip = make_clip()
    found = rounds(Sam2Online(threshold=0.75), Own(10), clip)
    frames = [r.frame for r in found]
    assert frames == sorted(set(frames))
    for before, after in pairwise(found):
        quality = before.jaccard[:, 0]
        assert after.frame == next(t for t in range(before.frame + 1, 10) if quality[t] < 0.75)
        np.testing.assert_array_equal(after.masks[: after.frame], before.masks[: after.frame])
    assert len(found) <= 8
    assert len(rounds(Sam2Online(threshold=0), Own(), clip)) == 1


def test_an_object_that_appears_late_is_first_clicked_where_it_appears():
    for protocol in (Sam2Offline(frames=2), Sam2Online(frames=2)):
        assert rounds(protocol, Own(), make_clip(appears=4))[0].frame == 4


def test_davis_clicks_chooses_frames_as_davis_and_clicks_on_both_kinds_of_error():
    clip = make_clip(2)
    found = rounds(DavisClicks(), Own(14), clip, max_interactions=3)
    assert [r.number for r in found] == [1, 2, 3]
    assert {c["object_id"] for c in found[0].strokes} == {1, 2}
    assert all(c["positive"] for c in found[0].strokes)
    assert any(not c["positive"] for r in found[1:] for c in r.strokes)


class TakesStrokes(Own):
    prompts = ("strokes",)

    def interact(self, frame, prompts):
        clicks = [
            {"point": s["path"][0], "positive": s["object_id"] > 0, "object_id": max(1, s["object_id"])}
            for s in prompts
        ]
        return super().interact(frame, clicks)


def test_segmenters_of_strokes_get_discs_and_those_of_clicks_points():
    clip = make_clip()
    found = rounds(Sam2Offline(frames=2), TakesStrokes(), clip)
    expected = rounds(Sam2Offline(frames=2), Own(), clip)
    np.testing.assert_array_equal(found[-1].masks, expected[-1].masks)
    segmenter = Own()
    rounds(Davis(), segmenter, clip, max_interactions=2)
    assert all(is_click(prompt) for _, prompts in segmenter.calls for prompt in prompts)


def test_repeatable():
    clip = make_clip(2)
    for protocol in (DavisClicks(), Davis()):
        one, two = (rounds(protocol, Own(), clip, max_interactions=3) for _ in range(2))
        assert [r.strokes for r in one] == [r.strokes for r in two]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m: m[:-1], r"returned masks \[9, 60, 80\], but \[10, 60, 80\] are needed"),
        (lambda m: m.astype(np.int64), "of int64, but uint8 is needed"),
        (lambda m: np.full(m.shape, np.nan), "NaN"),
        (lambda m: m + 7, "returned object"),
        (lambda m: None, "returned NoneType"),
        (lambda m: 1 / 0, "failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_bad_segmenter_is_named_and_its_rounds_so_far_are_kept(answer, message):
    class Bad(Own):
        def interact(self, frame, prompts):
            masks = super().interact(frame, prompts)
            return masks if len(self.calls) < 2 else answer(masks)

    clip = make_clip()
    protocol = DavisClicks().on(Sample(clip), SessionSettings(), "J")
    kept = []
    with pytest.raises(UserError, match=f"segmenter Bad: interact.*{message}"):
        kept.extend(run_session(Bad(), Sample(clip), protocol))
    session = run_session(Bad(), Sample(clip), DavisClicks().on(Sample(clip), SessionSettings(), "J"))
    assert next(session).number == 1
    with pytest.raises(UserError, match="segmenter Bad"):
        next(session)


def test_a_segmenter_that_cannot_start_is_named_in_one_line():
    class Bad(Own):
        def start(self, frames, num_objects):
            raise RuntimeError("no memory\nfor this")

    clip = make_clip()
    protocol = DavisClicks().on(Sample(clip), SessionSettings(), "J")
    with pytest.raises(UserError) as error:
        next(run_session(Bad(), Sample(clip), protocol))
    assert str(error.value) == "segmenter Bad: start of made failed: RuntimeError: no memory for this"


def test_time_models_and_options():
    assert Sam2Offline().seconds(600, 4) == pytest.approx((60 + 1 + 4.5) * 4)
    assert Sam2Online().seconds(600, 4) == pytest.approx(60 + 5.5 * 4)
    with pytest.raises(UserError, match=r"protocol\.clicks: must be a whole number from 1"):
        Sam2Offline(clicks=0)
    with pytest.raises(UserError, match=r"protocol\.threshold"):
        Sam2Online(threshold=1.5)


def test_r_auc_of_published_rounds():
    gis = [0.742, 0.807, 0.833, 0.843, 0.848, 0.853, 0.860, 0.865]  # GIS-RAmap, J&F on DAVIS 2017 val
    assert r_auc(gis) == pytest.approx(0.787, abs=5e-4)
