"""Tests of the simulated users of training."""

import cv2
import numpy as np
import pytest

from ivos.interaction import check_strokes, simulate
from ivos.interaction.simulate import Deformation, SimulatedUser, sample_points
from ivos.interaction.stroke_kinds import STROKE_KINDS
from ivos.runtime.errors import UserError
from ivos.video.clip import Clip
from ivos.video.labels import areas, most_telling_frames

NOTHING = Deformation(rotation=0, scale=0, shear=0, shift=0, noise=0, blunder=0)
SHIFTED = Deformation(rotation=0, scale=0, shear=0, shift=0.3, noise=0, blunder=0)


@pytest.fixture(scope="module")
def mask():
    """A disc of which a strip is void."""
    y, x = np.indices((90, 120))
    disc = ((y - 45) ** 2 + (x - 50) ** 2 < 28**2).astype(np.uint8)
    disc[:, 70:] *= 255
    return disc


def pixels(strokes, shape):
    """Rows and columns that the points of strokes fall on."""
    points = np.concatenate([stroke["path"] for stroke in strokes]) * shape[::-1]
    x, y = np.round(points).astype(int).T
    return y, x


def test_points_lie_inside_and_follow_the_density(mask):
    for seed in range(20):
        points = sample_points(mask, np.random.default_rng(seed), (0.01, 0.01))
        assert len(points) == round(0.01 * (mask == 1).sum())
        check_strokes(points, 1)
        assert all(len(point["path"]) == 1 and point["object_id"] == 1 for point in points)
        y, x = pixels(points, mask.shape)
        assert (mask[y, x] == 1).all()
        assert len(set(zip(y, x, strict=True))) == len(points)


def test_densities_lie_between_lowest_and_highest(mask):
    area = (mask == 1).sum()
    numbers = [len(sample_points(mask, np.random.default_rng(seed), (0.002, 0.05))) for seed in range(100)]
    assert round(0.002 * area) <= min(numbers) < 0.004 * area
    assert 0.025 * area < max(numbers) <= round(0.05 * area)


def test_points_of_the_smallest_and_the_largest():
    rng, mask = np.random.default_rng(0), np.zeros((10, 12), np.uint8)
    assert sample_points(mask, rng, (0.01, 0.02)) == []
    assert sample_points(np.full_like(mask, 255), rng, (0.01, 0.02)) == []
    mask[3:5, 4:6] = 1
    assert len(sample_points(mask, rng, (0.001, 0.002))) == 1
    assert len(sample_points(mask, rng, (5, 5))) == 4


def test_same_generator_same_points(mask):
    drawn = [sample_points(mask, np.random.default_rng(seed), (0.001, 0.02)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_deformation_is_a_faulty_mask(mask):
    deform = Deformation(lost=0.1)
    faulty = [deform(mask, np.random.default_rng(seed)) for seed in range(30)]
    again = [deform(mask, np.random.default_rng(seed)) for seed in range(30)]
    truth, quality = mask == 1, []
    for one, two in zip(faulty, again, strict=True):
        assert np.array_equal(one, two)
        assert one.shape == mask.shape
        assert one.dtype == np.uint8
        assert set(np.unique(one)) <= {0, 1}
        quality.append((one & truth).sum() / (one | truth).sum())
    assert 0.5 < np.median(quality) < 0.95
    assert 0 < quality.count(0) < 10


def test_deformation_by_nothing_and_to_nothing(mask):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        assert np.mean(NOTHING(mask, rng) != (mask == 1)) < 0.001  # single pixels that stick out
        assert not Deformation(lost=1)(mask, rng).any()
        assert not Deformation()(np.where(mask == 1, 0, mask), rng).any()


def test_blunders_bite_and_bulge(mask):
    truth = mask == 1
    blunders = Deformation(rotation=0, scale=0, shear=0, shift=0, noise=0, blunder=1)
    faulty = [blunders(mask, np.random.default_rng(seed)) == 1 for seed in range(20)]
    assert sum((truth & ~one).any() for one in faulty) > 10
    assert all((one & ~truth).any() for one in faulty)


@pytest.mark.parametrize("points", [0, 1], ids=["robot", "points"])
def test_first_round(mask, points):
    user = SimulatedUser(point_prob=points)
    for seed in range(5):
        previous, positive, negative = channels = user.first_round(mask, np.random.default_rng(seed))
        assert channels.shape == (3, *mask.shape)
        assert channels.dtype == np.float32
        assert (previous == 0.5).all()
        assert not negative.any()
        assert positive.max() > 0
        assert positive[mask == 1].sum() > 0.6 * positive.sum()  # the brush is five pixels wide
        assert np.array_equal(channels, user.first_round(mask, np.random.default_rng(seed)))
        strokes = user.first_strokes(mask, np.random.default_rng(seed))
        assert {stroke["object_id"] for stroke in strokes} == {1}
        y, x = pixels(strokes, mask.shape)
        assert (mask[y, x] == 1).mean() > 0.95
        assert (mask[y, x] != 255).all()


def test_first_round_of_nothing(mask):
    previous, positive, negative = SimulatedUser().first_round(mask * 0, np.random.default_rng(0))
    assert (previous == 0.5).all()
    assert not positive.any()
    assert not negative.any()


def test_corrections_lie_on_what_is_wrong(mask):
    user = SimulatedUser(deformation=SHIFTED)
    missed_drawn = added_drawn = 0
    for seed in range(10):
        faulty = SHIFTED(mask, np.random.default_rng(seed))
        missed, added = (mask == 1) & (faulty == 0), (mask == 0) & (faulty == 1)
        strokes = user.correct(faulty, mask, np.random.default_rng(seed))
        for label, wrong in ((1, missed), (0, added)):
            drawn = [stroke for stroke in strokes if stroke["object_id"] == label]
            if drawn:
                y, x = pixels(drawn, mask.shape)
                assert wrong[y, x].mean() > 0.8  # curves cut corners
                assert (mask[y, x] != 255).mean() > 0.95
        previous, positive, negative = user.later_round(mask, np.random.default_rng(seed))
        assert np.array_equal(previous, faulty)
        assert not negative[faulty == 0].any()
        for channel, wrong in ((positive, missed), (negative, added)):
            assert channel.any() <= wrong.any()
            assert channel[wrong].sum() >= 0.5 * channel.sum()
        missed_drawn += positive.any()
        added_drawn += negative.any()
    assert missed_drawn > 5
    assert added_drawn > 2


def test_a_perfect_mask_is_left_alone(mask, monkeypatch):
    monkeypatch.setattr(simulate, "KEEP_FIRST", 0)
    user = SimulatedUser(deformation=NOTHING)
    previous, positive, negative = user.later_round(mask, np.random.default_rng(0))
    assert np.mean(previous != (mask == 1)) < 0.001
    assert not positive.any()
    assert not negative.any()
    monkeypatch.setattr(simulate, "KEEP_FIRST", 1)
    again = user.later_round(mask, np.random.default_rng(0))
    assert again[1].any()


def test_share_of_later_rounds(mask):
    user = SimulatedUser(correction_prob=0.25, point_prob=1, deformation=NOTHING)
    first = [(user(mask, np.random.default_rng(seed))[0] == 0.5).all() for seed in range(200)]
    assert 0.65 < np.mean(first) < 0.85
    assert (SimulatedUser(correction_prob=0)(mask, np.random.default_rng(0))[0] == 0.5).all()
    assert not (SimulatedUser(correction_prob=1)(mask, np.random.default_rng(0))[0] == 0.5).any()


def test_a_lost_object_is_drawn_anew(mask, monkeypatch):
    monkeypatch.setattr(simulate, "KEEP_FIRST", 0)
    user = SimulatedUser(deformation=Deformation(lost=1))
    previous, positive, negative = user.later_round(mask, np.random.default_rng(0))
    assert not previous.any()
    assert positive.any()
    assert not negative.any()


def frame(**counts):
    """Labels [4, 5] with so many pixels of each: one=3, two=2, void=4."""
    values = {"one": 1, "two": 2, "three": 3, "void": 255}
    flat = [values[name] for name, count in counts.items() for _ in range(count)]
    return np.array(flat + [0] * (20 - len(flat)), np.uint8).reshape(4, 5)


def test_areas():
    labels = np.stack([frame(one=3, two=2, void=4), frame(), frame(two=20)])
    assert areas(labels, 2).tolist() == [[3, 2], [0, 0], [0, 20]]
    assert areas(labels, 1).tolist() == [[3], [0], [0]]
    assert areas(labels, 3)[:, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("frames", "order"),
    [
        ([{"one": 20}, {"one": 1, "two": 1}, {}], [1, 0, 2]),
        ([{"one": 9, "two": 2}, {"one": 3, "two": 3}, {"one": 1, "two": 19}], [1, 0, 2]),
        ([{"one": 2}, {"two": 5}, {"one": 5}, {"one": 5, "void": 9}], [1, 2, 3, 0]),
        ([{"one": 1, "void": 19}, {"one": 2}], [1, 0]),
        ([{"void": 20}, {}, {"three": 1}], [2, 0, 1]),
        ([{}, {}], [0, 1]),
    ],
    ids=["most objects", "largest smallest", "earliest", "void", "one tiny", "nothing"],
)
def test_most_telling_frames(frames, order):
    labels = np.stack([frame(**counts) for counts in frames])
    assert most_telling_frames(labels, 3) == order
    assert Clip("clip", np.zeros((*labels.shape, 3), np.uint8), labels, 3).first_frame == order[0]


def blob():
    region = np.zeros((96, 128), np.uint8)
    cv2.ellipse(region, (60, 50), (35, 20), 20, 0, 360, 1, -1)
    return region


@pytest.mark.parametrize("kind", STROKE_KINDS)
def test_every_kind_of_stroke_lies_where_it_should(kind):
    """Strokes of a first round are on the object, those of corrections on the two kinds of errors."""
    region, near = blob(), 1 + (8 if kind in ("click", "box") else 0)
    around = cv2.dilate(region, np.ones((2 * near + 1, 2 * near + 1)))
    if kind == "box":
        left, top, width, height = cv2.boundingRect(around)
        around[top : top + height, left : left + width] = 1
    user = SimulatedUser(**{f"{kind}_prob": 1.0})
    for seed in range(20):
        strokes = user.first_strokes(region, np.random.default_rng(seed))
        assert strokes
        check_strokes(strokes, 1)
        assert {stroke["object_id"] for stroke in strokes} == {1}
        pixels = np.concatenate([np.round(np.multiply(s["path"], (128, 96))) - 1 for s in strokes]).astype(
            int
        )
        assert around[pixels[:, 1], pixels[:, 0]].all()
        again = user.first_strokes(region, np.random.default_rng(seed))
        assert again == strokes
    if kind == "box":
        return
    faulty = np.roll(region, 30, 1)
    for stroke in user.correct(faulty, region, np.random.default_rng(0)):
        wrong = (region > faulty) if stroke["object_id"] else (region < faulty)
        x, y = (np.round(np.multiply(stroke["path"], (128, 96))) - 1).astype(int).T
        assert cv2.dilate(wrong.astype(np.uint8), np.ones((9, 9)))[y, x].all()


def test_shapes_of_the_kinds_of_strokes():
    region = blob()
    distance = cv2.distanceTransform(region, cv2.DIST_L2, 5)

    def depth(kind):
        paths = [p for seed in range(30) for p in STROKE_KINDS[kind](region, np.random.default_rng(seed))]
        at = np.round(np.concatenate(paths)).astype(int)
        return float(distance[at[:, 1], at[:, 0]].mean())

    assert depth("boundary") < 6 < 10 < depth("skeleton")
    lengths = {len(STROKE_KINDS["click"](region, np.random.default_rng(seed))[0]) for seed in range(20)}
    assert lengths == {1, 17}  # points and rings


def test_kinds_of_strokes_leave_other_users_unchanged():
    """Without them nothing more is drawn from the generator, and tiny objects fall back to the others."""
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    assert SimulatedUser()._kind(rng) is None
    assert rng.bit_generator.state == before
    speck = np.zeros((96, 128), np.uint8)
    speck[10, 10:13] = 1
    assert SimulatedUser(curve_prob=1.0).first_strokes(speck, rng)
    share = [SimulatedUser(click_prob=0.3, box_prob=0.2)._kind(rng) for _ in range(2000)]
    assert 0.25 < share.count("click") / 2000 < 0.35
    assert 0.45 < share.count(None) / 2000 < 0.55
    for wrong in ({"click_prob": -0.1}, {"click_prob": 0.6, "box_prob": 0.6}):
        with pytest.raises(UserError, match="sum of at most 1"):
            SimulatedUser(**wrong)
