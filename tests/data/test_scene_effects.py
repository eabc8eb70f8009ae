"""Each effect of synthetic video switched on by itself, against the same clip without it."""

import dataclasses

import cv2
import numpy as np
import pytest

import ivos.data.synthetic.scene_builder
from ivos.data.synthetic import SyntheticSpec, render_clip
from ivos.video.labels import areas

MOVES = "motion rotation scaling deformation articulation leaving camera_pan camera_zoom camera_shake"
LOOKS = "backdrop_motion distractors occluders shadows camouflage lighting motion_blur defocus noise"
BARE = SyntheticSpec(
    num_clips=6, num_frames=10, width=64, height=64, max_objects=2, min_size=0.3, jpeg_quality=100,
    **dict.fromkeys(f"{MOVES} {LOOKS}".split(), 0),
)  # fmt: skip
CLIPS = range(6)


def clip(index, **effects):
    return render_clip(dataclasses.replace(BARE, **effects), index)


def visible(labels):
    """Pixels of each object on each frame [T, N]."""
    return areas(labels, int(labels.max()))


def sharpness(frames):
    return np.mean([cv2.Laplacian(frame, cv2.CV_64F).var() for frame in frames])


@pytest.mark.parametrize("name", ["motion", "rotation", "scaling", "deformation", "articulation"])
def test_objects_move_before_a_still_backdrop(name):
    strength = {"motion": 0.04, "rotation": 10, "scaling": 0.05}.get(name, 1)
    moved = []
    for index in CLIPS:
        frames, labels = clip(index, **{name: strength})
        backdrop = (labels == 0).all(0)
        inner = cv2.erode(backdrop.astype(np.uint8), np.ones((5, 5))) > 0
        assert np.ptp(frames[:, inner].astype(int), axis=0).max(initial=0) <= 5  # soft edges
        moved.append((labels != labels[0]).any())
    assert any(moved)  # a blob has no limbs to swing
    if name != "articulation":
        assert all(moved)


def test_leaving_objects_come_back():
    gone = back = 0
    for index in CLIPS:
        assert (visible(clip(index)[1]) > 0).all()
        for area in visible(clip(index, leaving=1, num_frames=26)[1]).T:
            assert area.min() < area[0]
            assert area[-1] == area[0]  # the longest trip takes 24 frames
            gone += area.min() == 0
            back += area[area.argmin() :].max() > 0
    assert gone > len(CLIPS) / 2
    assert back >= gone


def test_occluders_hide(monkeypatch):
    effects = {"occluders": 3, "num_frames": 4, "motion": 0.05}
    hidden = [clip(index, **effects) for index in CLIPS]
    draw = ivos.data.synthetic.scene_builder._occluder

    def transparent(spec, rng):
        figure = draw(spec, rng)
        figure.parts[0].image[..., 3] = 0
        return figure

    monkeypatch.setattr(ivos.data.synthetic.scene_builder, "_occluder", transparent)
    shrunk = 0
    for index, (frames, labels) in enumerate(hidden):
        open_frames, open_labels = clip(index, **effects)
        if not ((labels == open_labels) | (labels == 0)).all():
            continue  # hidden by more than half, the objects were placed anew
        assert not np.array_equal(frames, open_frames)
        shrunk += (labels != open_labels).any()
    assert shrunk >= 2


@pytest.mark.parametrize(
    ("name", "strength"),
    [("camera_pan", 0.05), ("camera_zoom", 0.05), ("camera_shake", 0.03), ("backdrop_motion", 0.05)],
)
def test_the_backdrop_moves(name, strength):
    for index in CLIPS:
        still, labels = clip(index)
        assert (still == still[0]).all()
        frames, moved = clip(index, **{name: strength})
        backdrop = (moved == 0).all(0)
        assert np.ptp(frames[:, backdrop].astype(int), axis=0).mean() > 2
        assert (moved != labels).any() == (name != "backdrop_motion")


def test_lighting_changes_brightness_and_no_mask():
    for index in CLIPS:
        still, labels = clip(index)
        frames, same = clip(index, lighting=1)
        assert np.array_equal(labels, same)
        assert (still == still[0]).all()
        assert frames.mean((1, 2, 3)).std() > 0.1


def test_shadows_only_darken():
    for index in CLIPS:
        (plain, labels), (shaded, same) = clip(index), clip(index, shadows=0.8)
        assert np.array_equal(labels, same)
        assert (shaded <= plain).all()
        assert shaded.mean() < plain.mean()


@pytest.mark.parametrize(
    ("name", "strength"), [("motion_blur", 1), ("defocus", 3)], ids=["motion_blur", "defocus"]
)
def test_blur_takes_detail_away(name, strength):
    ratio = []
    for index in CLIPS:
        moving = {"camera_pan": 0.05, "num_frames": 5}
        (sharp, labels), (blurred, same) = clip(index, **moving), clip(index, **moving, **{name: strength})
        ratio.append(sharpness(blurred) / sharpness(sharp))
        if name == "defocus":
            assert np.array_equal(labels, same)
    assert max(ratio) <= 1  # 1: a clip that happens to be in focus
    assert np.mean(ratio) < 0.8


def test_noise_is_fresh_on_each_frame():
    spread = []
    for index in CLIPS:
        (clean, labels), (noisy, same) = clip(index), clip(index, noise=0.1)
        assert np.array_equal(labels, same)
        grain = noisy.astype(float) - clean
        spread.append(grain.std())
        assert np.corrcoef(grain[0].ravel(), grain[1].ravel())[0, 1] < 0.2  # what is clipped agrees
    assert 3 < max(spread) < 0.1 * 255 * 1.2


def test_compression_and_texture():
    for index in CLIPS:
        plain, labels = clip(index)
        packed, same = clip(index, jpeg_quality=10)
        assert np.array_equal(labels, same)
        assert 0 < np.abs(packed.astype(float) - plain).mean() < 30
        assert sharpness(clip(index, texture=0)[0]) < sharpness(plain)
