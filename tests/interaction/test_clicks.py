"""Tests of the rules for clicks against slow versions written from their descriptions."""

import secrets

import cv2
import numpy as np
import pytest

from ivos.interaction import clicks as module
from ivos.interaction.clicks import (
    ClickError,
    check_clicks,
    click_on_error,
    click_radius,
    clicks_from_strokes,
    clicks_on_errors,
    error_centre,
    strokes_from_clicks,
    translate,
    understood_prompts,
)
from ivos.interaction.raster import rasterise
from ivos.runtime.errors import UserError


@pytest.fixture(scope="module")
def rng():
    seed = secrets.randbits(32)
    print("seed", seed)  # shown where a test fails
    return np.random.default_rng(seed)


def blobs(rng, shape, share=None):
    """A random mask of smooth blobs, now and then empty or full."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), rng.uniform(0.3, 4))
    share = rng.choice([0, 0.02, 0.2, 0.5, 0.8, 1]) if share is None else share
    return noise < np.quantile(noise, share) if 0 < share < 1 else np.full(shape, bool(share))


def slow_depths(wrong):
    """Squared distance of each wrong pixel to the nearest that is not, all pairs; the frame has a rim."""
    rimmed = np.pad(wrong, 1)
    right = np.argwhere(~rimmed)
    depths = np.zeros(rimmed.shape, int)
    for y, x in np.argwhere(rimmed):
        depths[y, x] = ((right - (y, x)) ** 2).sum(axis=1).min()
    return depths[1:-1, 1:-1]


def slow_centres(truth, predicted):
    """Return the clicks that the rule allows, as (x, y, missing): the deepest pixels of the deeper kind.

    Where several pixels are equally deep, the last digits of OpenCV's depths decide, which depend on the
    position; :func:`test_ties_are_broken_as_in_sam_2` tests these cases.
    """
    depths = {True: slow_depths(truth & ~predicted), False: slow_depths(predicted & ~truth)}
    deepest = max(one.max() for one in depths.values())
    return {(x, y, kind) for kind, one in depths.items() for y, x in np.argwhere(one == deepest) if deepest}


def test_ties_are_broken_as_in_sam_2():
    """SAM 2 transforms the padded whole frame; the float32 depths of a crop break ties in another way."""
    draw = np.random.default_rng(0)
    for _ in range(150):
        mask = np.zeros((120, 214), np.uint8)
        centre = int(draw.integers(40, 180)), int(draw.integers(30, 90))
        axes = int(draw.integers(8, 40)), int(draw.integers(8, 30))
        cv2.ellipse(mask, centre, axes, float(draw.integers(0, 180)), 0, 360, 1, -1)
        depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 0)[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        assert error_centre(mask > 0, np.zeros_like(mask, bool)) == (x, y, True)


def test_a_click_of_a_later_round_is_a_ring_of_the_segmenters_radius():
    class Ringed:
        click_radius = 0.1

    class Clicking:
        prompts, click_radius = ("clicks",), 0.1

    assert (click_radius(Ringed()), click_radius(Clicking()), click_radius(object())) == (0.1, 0, 0)
    click = {"point": [0.5, 0.02], "positive": True, "object_id": 2}
    (ring,) = translate([click], ["strokes"], radius=0.1, aspect=2.0)
    assert ring["object_id"] == 2
    path = np.array(ring["path"])
    assert path.min() >= 0
    assert np.allclose(path[0], path[-1])
    below = path[path[:, 1] > 0.02] - (0.5, 0.02)
    assert np.allclose(np.hypot(2 * below[:, 0], below[:, 1]), 0.1)  # a circle in pixels
    assert translate([click], ["strokes"]) == [{"path": [[0.5, 0.02]], "object_id": 2}]
    Ringed.click_radius = True
    with pytest.raises(UserError, match=r"Ringed\.click_radius: a number from 0 to 0\.5, got True"):
        click_radius(Ringed())


def test_error_centre_equals_a_slow_search_of_all_pairs(rng):
    kinds = set()
    for _ in range(150):
        shape = tuple(rng.integers(3, 40, 2))
        truth, predicted = blobs(rng, shape), blobs(rng, shape)
        allowed, found = slow_centres(truth, predicted), error_centre(truth, predicted)
        assert found in allowed if allowed else found is None, (truth, predicted)
        kinds.add(found and found.missing)
    assert kinds >= {True, False}


def test_first_click_is_the_objects_centre():
    truth = np.zeros((20, 30), np.uint8)
    truth[4:9, 10:19] = 2
    assert click_on_error(truth, np.zeros_like(truth), 2) == {
        "point": [12 / 30, 6 / 20], "positive": True, "object_id": 2,
    }  # fmt: skip
    assert click_on_error(truth, truth, 2) is None
    assert click_on_error(truth, np.zeros_like(truth), 1) is None


def test_the_rim_counts_as_right():
    truth = np.ones((5, 11), bool)
    assert error_centre(truth, ~truth) == (2, 2, True)  # the first of the row in the middle, 3 deep


def test_void_is_never_wrong():
    truth = np.full((20, 20), 255, np.uint8)
    truth[:4, :4] = 1
    predicted = np.ones_like(truth)
    assert click_on_error(truth, predicted, 1) is None
    assert clicks_on_errors(truth, predicted, 1, min_area=1) == []


def slow_survivors(error):
    """Erode by a cross until nothing is left; what was there last."""
    left = np.pad(error, 1)
    while True:
        eroded = left.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                eroded &= np.roll(left, step, axis)
        if not eroded.any():
            return left[1:-1, 1:-1]
        left = eroded


def slow_pieces(mask):
    """Pieces of a mask in reading order, as sorted lists of (y, x), by flooding."""
    left, pieces = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        front = {min(left)}
        piece = set()
        while front:
            piece |= front
            left -= front
            front = {(y + j, x + i) for y, x in front for j in (-1, 0, 1) for i in (-1, 0, 1)} & left
        pieces.append(sorted(piece))
    return pieces


def slow_s3(error, limit, min_area):
    if not error.any():
        return []
    regions = slow_pieces(error)
    centres = []
    for piece in slow_pieces(slow_survivors(error))[:limit]:
        mean = np.mean(piece, axis=0)
        y, x = piece[int(((np.array(piece) - mean) ** 2).sum(axis=1).argmin())]
        if len(next(region for region in regions if (y, x) in region)) >= min_area:
            centres.append((x, y))
    return centres


def test_s3_equals_slow_erosion(rng):
    number = 0
    for _ in range(160):
        shape = tuple(rng.integers(4, 36, 2))
        error, limit, area = blobs(rng, shape), int(rng.integers(1, 4)), int(rng.integers(1, 40))
        found = module._eroded_centres(error, limit, area)
        assert found == slow_s3(error, limit, area), error
        number += len(found)
    assert number > 50


def test_s3_takes_misses_as_positive_and_excess_as_negative():
    truth, predicted = np.zeros((2, 40, 60), np.uint8)
    truth[5:25, 5:25] = 1
    predicted[5:25, 5:12] = 1  # misses 12:25
    predicted[30:38, 40:58] = 1  # too much
    truth[30:34, 2:6] = 2  # 16 pixels: too small
    clicks = clicks_on_errors(truth, predicted, 2)
    assert [(c["positive"], c["object_id"]) for c in clicks] == [(True, 1), (False, 1), (False, 1)][
        : len(clicks)
    ]
    for click in clicks:
        x, y = (np.array(click["point"]) * (60, 40)).round().astype(int)
        assert (truth[y, x] == 1) == click["positive"]
    assert len(clicks_on_errors(truth, predicted, 2, min_area=16)) == len(clicks) + 1
    assert sum(c["positive"] for c in clicks_on_errors(truth, 0 * truth, 1, limit=1)) == 1


def line(y, label, *xs):
    return {"path": [[x, y] for x in xs], "object_id": label}


STROKES = [line(0.2, 1, 0.0, 0.1, 0.5), line(0.6, 1, 0.2, 0.3), line(0.8, 2, 0.4, 0.5, 0.9)]


def points(clicks, object_id):
    return [(tuple(c["point"]), c["positive"]) for c in clicks if c["object_id"] == object_id]


def test_s1_is_one_click_an_object_and_negatives_with_the_background_alone():
    assert clicks_from_strokes(STROKES, "S1") == [
        {"point": [0.1, 0.2], "positive": True, "object_id": 1},  # of (0 .. .3): mean (.22, .36)
        {"point": [0.5, 0.8], "positive": True, "object_id": 2},
    ]
    clicks = clicks_from_strokes([*STROKES, line(0.9, 0, 0.9)], "S1")
    assert points(clicks, 1) == [((0.9, 0.9), False), ((0.1, 0.2), True), ((0.5, 0.8), False)]
    assert points(clicks, 2) == [((0.9, 0.9), False), ((0.1, 0.2), False), ((0.5, 0.8), True)]


def test_s2_is_one_click_a_stroke_up_to_a_limit():
    clicks = clicks_from_strokes(STROKES, "S2")
    assert points(clicks, 1) == [((0.1, 0.2), True), ((0.2, 0.6), True), ((0.5, 0.8), False)]
    assert points(clicks, 2) == [((0.1, 0.2), False), ((0.2, 0.6), False), ((0.5, 0.8), True)]
    assert points(clicks_from_strokes(STROKES, "S2", limit=1), 1) == [((0.1, 0.2), True), ((0.5, 0.8), False)]


def test_a_click_becomes_a_disc_of_the_strokes_width():
    click = {"point": [10 / 40, 8 / 30], "positive": True, "object_id": 3}
    (stroke,) = strokes_from_clicks([click])
    assert stroke["object_id"] == 3
    drawn = rasterise([stroke], 30, 40) > 0
    along = rasterise([line(8 / 30, 3, 0.1, 0.8)], 30, 40) > 0
    assert drawn.sum(axis=0).max() == along.sum(axis=0).max()  # as thick as a stroke
    assert drawn[7, 9]  # the brush draws a pixel up and to the left


def test_negative_clicks_become_strokes_of_the_background_once():
    clicks = clicks_from_strokes(STROKES, "S2")
    clicks += [{"point": [0.7, 0.7], "positive": False, "object_id": n} for n in (1, 2)]
    strokes = strokes_from_clicks(clicks)
    assert [(s["object_id"], s["path"]) for s in strokes] == [
        (1, [[0.1, 0.2]]), (1, [[0.2, 0.6]]), (2, [[0.5, 0.8]]), (0, [[0.7, 0.7]]),
    ]  # fmt: skip


def test_prompts_are_translated_only_where_they_are_not_understood():
    click = {"point": [0.5, 0.5], "positive": False, "object_id": 1}
    mixed = [STROKES[0], click]
    assert translate(mixed, {"strokes", "clicks"}) == mixed
    assert translate(mixed, {"strokes"}) == [STROKES[0], {"path": [[0.5, 0.5]], "object_id": 0}]
    assert translate(mixed, {"clicks"}) == [{"point": [0.1, 0.2], "positive": True, "object_id": 1}, click]


def test_segmenters_say_what_they_understand():
    def having(**attributes):
        return type("Own", (), attributes)()

    assert understood_prompts(having()) == {"strokes"}
    assert understood_prompts(having(prompts="clicks")) == {"clicks"}
    assert understood_prompts(having(prompts=("clicks", "strokes"))) == {"clicks", "strokes"}
    assert understood_prompts(having(prompts=["boxes", "clicks"])) == {"boxes", "clicks"}
    with pytest.raises(UserError, match=r"Own\.prompts: one or more of strokes, clicks.* got 'words'"):
        understood_prompts(having(prompts="words"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"point": [2, 0]}, r"outside \[0, 1\]"),
        ({"point": "ab"}, r"must be \[x, y\]"),
        ({"object_id": 0}, "must be 1, 2"),
        ({"object_id": 3}, "object 3, but the highest object number is 2"),
        ({"positive": 1}, "must be true or false"),
    ],
)
def test_malformed_clicks_are_named(change, message):
    click = {"point": [0.5, 0.5], "positive": True, "object_id": 1}
    check_clicks([click], 2)
    with pytest.raises(ClickError, match=f"click 1 .*{message}"):
        check_clicks([click, {**click, **change}], 2)
