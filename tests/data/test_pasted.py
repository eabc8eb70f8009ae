"""Tests that copy-paste clips depend on their numbers alone, and of messages about faulty folders."""

import hashlib

import cv2
import numpy as np
import pytest

from ivos.data.copy_paste.clip import render
from ivos.data.copy_paste.config import CopyPasteConfig
from ivos.data.copy_paste.objects import cutout_object
from ivos.data.copy_paste.pictures import Pictures
from ivos.data.copy_paste.samples import CopyPasteSamples
from ivos.interaction.simulate import SimulatedUser, negative_for_others
from ivos.runtime.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(9):
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC))
    return root


@pytest.fixture(scope="module")
def pictures(folder):
    return Pictures(folder)


def test_a_clip_is_a_function_of_its_seed(pictures):
    clips = [
        render(pictures, CopyPasteConfig(), (64, 96), range(3), np.random.default_rng(5)) for _ in range(2)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*clips, strict=True))
    frames, labels = clips[0]
    assert frames.shape == (3, 64, 96, 3)
    assert labels.shape == (3, 64, 96)
    other, _ = render(pictures, CopyPasteConfig(), (64, 96), range(3), np.random.default_rng(6))
    assert not np.array_equal(frames, other)


def test_things_move_and_the_light_is_not_what_labels_follow(pictures):
    still = CopyPasteConfig(speed=(1e-9, 1e-9), bend=0.0, noise=0.0, jpeg=100, light=0.0)
    quick = CopyPasteConfig(speed=(0.03, 0.03))
    moved = []
    for spec in (still, quick):
        changed = [
            float((labels[0] != labels[-1]).mean())
            for seed in range(12)
            for _, labels in [render(pictures, spec, (64, 64), range(6), np.random.default_rng(seed))]
        ]
        moved.append(np.mean(changed))
    assert moved[0] < 0.04  # limbs alone
    assert moved[1] > 0.1


def test_gaps_show_the_same_clip(pictures):
    spec = CopyPasteConfig(noise=0.0, jpeg=100, soft=0.0, light=0.0)
    every, labels = render(pictures, spec, (64, 64), range(5), np.random.default_rng(3))
    some, some_labels = render(pictures, spec, (64, 64), [0, 2, 4], np.random.default_rng(3))
    assert np.array_equal(labels[::2], some_labels)
    assert np.array_equal(every[::2], some)


def test_mini_sequences_by_number(pictures):
    options = {"num_frames": 3, "window": 5, "size": (64, 96), "max_objects": 2, "min_area": 40}
    samples = CopyPasteSamples(pictures, user=SimulatedUser(correction_prob=0.5), seed=1, **options)
    again = CopyPasteSamples(pictures, user=SimulatedUser(correction_prob=0.5), seed=1, **options)
    for number in (7, 2):  # in any order
        sample, same = samples[number], again[number]
        assert sample["frames"].shape == (3, 64, 96, 3)
        assert 1 <= len(sample["masks"]) <= 2
        assert (sample["masks"][:, 0].sum((1, 2)) >= 40).all()
        assert sample["interaction"].shape == (len(sample["masks"]), 3, 64, 96)
        for key in ("frames", "masks", "interaction"):
            assert np.array_equal(sample[key], same[key])
    assert not np.array_equal(samples[7]["frames"], samples[2]["frames"])


def test_the_seventh_clip_looks_as_ever(pictures):
    """The generator's numbers, so that a recipe gives the same weights again; change them with the recipe."""
    frames, labels = render(pictures, CopyPasteConfig(), (64, 64), range(2), np.random.default_rng(7))
    assert [int((labels == label).sum()) for label in range(5)] == LABELS
    assert float(frames.mean()) == pytest.approx(MEAN, abs=1.0)


LABELS, MEAN = [5568, 636, 589, 50, 1349], 138.0


def test_subsets_share_no_picture(folder):
    train, val = Pictures(folder, split="train"), Pictures(folder, split="val")
    assert (len(train), len(val)) == (7, 2)
    assert not set(train.names) & set(val.names)


def test_what_is_wrong_with_a_folder(folder, tmp_path):
    with pytest.raises(UserError, match="pictures=FOLDER"):
        Pictures(None)
    with pytest.raises(UserError, match="no such folder"):
        Pictures(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        Pictures(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="1 of 1 pictures cannot be read"):
        Pictures(tmp_path / "broken")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes((folder / "0.png").read_bytes())
    assert len(Pictures(tmp_path / "one")) == 1
    with pytest.raises(UserError, match="a single picture is not enough"):
        Pictures(tmp_path / "one", split="train")
    with pytest.raises(UserError, match="no split 'test'"):
        Pictures(folder, split="test")
    with pytest.raises(UserError, match="multiples of 32"):
        CopyPasteSamples(Pictures(folder), size=(60, 64))
    with pytest.raises(UserError, match="num_frames=5: with window=3"):
        CopyPasteSamples(Pictures(folder), num_frames=5, window=3)


def test_objects_of_pictures_with_masks_are_cut_out(tmp_path):
    """One picture holds a blue disc on grey: the disc is what moves, and no grey comes with it."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(2):
        mask = np.zeros((120, 160), np.uint8)
        picture = np.full((120, 160, 3), 128, np.uint8)
        if number:
            cv2.circle(mask, (60, 50), 30, 255, -1)
            picture[mask > 0] = (255, 0, 0)
        else:
            mask[:4, :4] = 255  # just enough pixels to count, of grey
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    pictures = Pictures(tmp_path)
    assert [(which, int(mask.sum())) for which, mask in pictures.objects] == [(0, 16), (1, 2821)]
    plain = CopyPasteConfig(
        num_things=(1, 1), cutouts=1.0, twins=0.0, occluders=0.0, clutter=0, bend=0.0, size=(0.3, 0.5),
        light=0.0, blur=0.0, soft=0.0, noise=0.0, jpeg=100,
    )  # fmt: skip
    discs = 0
    for seed in range(12):
        frames, labels = render(pictures, plain, (64, 64), range(2), np.random.default_rng(seed))
        inside = cv2.erode((labels[0] == 1).astype(np.uint8), np.ones((3, 3)), borderValue=0) > 0
        if inside.sum() > 50 and frames[0][inside].std(0).max() < 3:  # one colour, to its edge
            discs += 1
    assert discs >= 6


def test_masks_that_do_not_match_are_named(tmp_path):
    for root, masks in ((tmp_path / "fewer", 1), (tmp_path / "smaller", 2)):
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(root / "images" / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))
        for number in range(masks):
            cv2.imwrite(str(root / "masks" / f"{number}.png"), np.full((32, 32), 255, np.uint8))
    with pytest.raises(UserError, match="without counterpart") as error:
        Pictures(tmp_path / "fewer")
    assert "1.png: no mask" in str(error.value)
    with pytest.raises(UserError, match=r"its size differs from that of 0\.png"):
        Pictures(tmp_path / "smaller")


def test_clips_of_pictures_stay_as_they_were(masked):
    """With the default settings; the digest was computed before the settings grew."""
    digest = hashlib.sha256()
    for seed in range(24):
        spec = CopyPasteConfig(figures=0.1 + 0.3 * (seed % 2), cutouts=0.3)
        for part in render(masked, spec, (64, 96), range(2), np.random.default_rng(seed)):
            digest.update(part.tobytes())
    assert digest.hexdigest()[:16] == "61e6a0fae40304b2"


@pytest.fixture
def masked(tmp_path):
    """Three grey pictures, each with a masked disc that is lighter."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        mask = np.zeros((120, 160), np.uint8)
        cv2.circle(mask, (60 + 10 * number, 60), 30, 255, -1)
        picture = np.full((120, 160, 3), 60, np.uint8)
        picture[mask > 0] = 60 * number + 100
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    return Pictures(tmp_path)


@pytest.fixture
def cutouts(tmp_path):
    """Striped red discs with soft alpha; what is transparent is green."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for number in range(2):
        y, x = np.mgrid[:240, :320]
        alpha = np.clip(100.5 - np.hypot(x - 150, y - 120), 0, 1) * 255
        image = np.zeros((240, 320, 4), np.uint8)
        image[..., 1] = np.where(alpha > 0, 0, 255)
        image[..., 2] = np.where(alpha > 0, 255 * (x % 2), 0)
        image[..., 3] = alpha
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def test_cutouts_with_alpha_keep_their_resolution_and_colours(folder, cutouts):
    pictures = Pictures(folder, cutouts=cutouts)
    assert (len(pictures.objects), len(pictures.cutouts)) == (0, 2)
    colours, alpha = pictures.cutouts[0]
    assert colours.shape[:2] == alpha.shape == (201, 201)
    assert colours[..., 1].max() == 0  # nothing of the transparent green
    rng = np.random.default_rng(0)
    fine = CopyPasteConfig(cutout_resolution=256, cutout_tint=0.0)
    (part,) = cutout_object(pictures, fine, rng)
    assert part.image.shape == (203, 203, 4)
    row = part.image[101, 60:140, 0]
    assert np.ptp(row) > 200  # the stripes of one pixel are still there
    (coarse,) = cutout_object(pictures, CopyPasteConfig(cutout_tint=0.0), rng)
    assert coarse.image.shape == (88, 88, 4)
    for size, one in ((203, part), (88, coarse)):  # both are as large in a clip
        assert one.scale * size == pytest.approx(88, abs=1)
    spec = CopyPasteConfig(num_things=(1, 1), cutouts=1.0, cutout_resolution=256, twins=0, occluders=0)
    frames, labels = render(pictures, spec, (64, 96), range(2), np.random.default_rng(1))
    assert frames.shape == (2, 64, 96, 3)
    assert set(np.unique(labels)) <= {0, 1}
    assert len(Pictures(folder, cutouts=cutouts, split="train").cutouts) == 1
    (cutouts / "2.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(UserError, match="unusable cut-outs") as error:
        Pictures(folder, cutouts=cutouts)
    assert "2.png: not an 8-bit PNG with an alpha channel" in str(error.value)
    with pytest.raises(UserError, match="no cut-outs"):
        Pictures(folder, cutouts=folder / "none")


def test_several_objects_of_one_kind(masked):
    alone = {"num_things": (1, 1), "twins": 0.0, "occluders": 0.0}
    kind = CopyPasteConfig(**alone, same_kind=1.0, max_same_kind=2)
    most = [render(masked, kind, (64, 96), range(1), np.random.default_rng(s))[1].max() for s in range(12)]
    assert {1, 2, 3} >= set(map(int, most)) >= {2, 3}
    one = CopyPasteConfig(**alone)
    assert all(
        render(masked, one, (64, 96), range(1), np.random.default_rng(s))[1].max() <= 1 for s in range(6)
    )


def test_strokes_of_an_object_are_negative_for_the_others():
    channels = np.zeros((3, 3, 4, 5), np.float32)
    channels[0, 1, 0, 0] = channels[1, 1, 1, 1] = channels[2, 1, 2, 2] = 1
    channels[0, 2, 3, 3] = 0.5
    before = channels.copy()
    together = negative_for_others(channels)
    assert np.array_equal(channels, before)
    assert np.array_equal(together[:, :2], before[:, :2])
    assert [np.argwhere(negative).tolist() for negative in together[:, 2]] == [
        [[1, 1], [2, 2], [3, 3]],
        [[0, 0], [2, 2]],
        [[0, 0], [1, 1]],
    ]
    assert np.array_equal(negative_for_others(channels[:1]), channels[:1])


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_user_of_several_objects_draws_negative_strokes_in_the_first_round(everywhere):
    """Only for networks that keep negative strokes there; on about 60 % of the frames."""
    masks = np.zeros((2, 32, 48), np.uint8)
    masks[0, 8:24, 4:20] = masks[1, 8:24, 28:44] = 1
    user = SimulatedUser(correction_prob=0.0, negatives_everywhere=everywhere)
    drawn = [user.annotate(masks, np.random.default_rng(number)) for number in range(200)]
    negative = [(each[0, 2] > 0).any() for each in drawn]
    assert 90 < sum(negative) < 150 if everywhere else not any(negative)
    for each, some in zip(drawn, negative, strict=True):
        assert not (each[:, 0] != 0.5).any()
        if some:
            assert np.array_equal(each[0, 2], each[1, 1])
            assert np.array_equal(each[1, 2], each[0, 1])
