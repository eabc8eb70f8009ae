"""Tests of the seeded robot."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import skimage.morphology

from ivos.evaluation import davisinteractive_compat
from ivos.interaction import check_strokes
from ivos.interaction.medial_axis import medial_axis
from ivos.interaction.robot import Robot, _bezier


@pytest.fixture(scope="module")
def labels():
    yx = np.indices((90, 120))
    truth = np.zeros((90, 120), np.uint8)
    truth[(yx[0] - 45) ** 2 + (yx[1] - 40) ** 2 < 30**2] = 1
    truth[20:60, 80:110] = 2
    truth[70:80, 80:] = 255
    return truth


def test_same_key_same_strokes_other_key_others(labels):
    robot, nothing = Robot(), np.zeros_like(labels)
    key = (0, "bear", 1, 1)
    others = [(1, "bear", 1, 1), (0, "lion", 1, 1), (0, "bear", 2, 1)]
    paths = [[s["path"] for s in robot.strokes(nothing, labels, 2, k)] for k in (key, key, *others)]
    assert paths[0] == paths[1]
    assert len({str(path) for path in paths}) > 1


def test_strokes_lie_in_what_is_wrong(labels):
    prediction = np.roll(labels, 12, 1)
    prediction[prediction == 255] = 0
    drawn = Robot().strokes(prediction, labels, 2)
    check_strokes(drawn, 2)
    assert {s["object_id"] for s in drawn} == {0, 1, 2}
    inside = []
    for s in drawn:
        x, y = (np.array(s["path"]) * (120, 90)).astype(int).T
        inside += ((labels[y, x] == s["object_id"]) & (prediction[y, x] != s["object_id"])).tolist()
    assert np.mean(inside) > 0.9  # Bézier curves cut corners


def test_nothing_to_correct(labels):
    assert Robot().strokes(labels, labels, 2) == []


def test_void_is_nobodys(labels):
    prediction = np.where(labels == 255, 1, labels)
    assert Robot().strokes(prediction, labels, 2) == []


def test_pieces_below_min_nb_nodes_get_no_stroke():
    truth = np.zeros((40, 40), np.uint8)
    truth[20, 10:13] = 1
    nothing = np.zeros_like(truth)
    assert len(Robot(min_nb_nodes=2).strokes(nothing, truth, 1)) == 1
    assert Robot(min_nb_nodes=4).strokes(nothing, truth, 1) == []


def official(settings, prediction, truth, num_objects, key):
    """davisinteractive's own robot, with the generator that ours would have."""
    davisinteractive_compat.install()
    InteractiveScribblesRobot = pytest.importorskip("davisinteractive.robot").InteractiveScribblesRobot

    ours, robot = Robot(), InteractiveScribblesRobot(**settings)
    ours.seed(*key)
    robot.rng = ours.rng
    drawn = robot.interact("", prediction[None], truth[None], nb_objects=num_objects, frame=0)
    return [{"path": s["path"], "object_id": s["object_id"]} for s in drawn["scribbles"][0]]


def blobs(rng, size):
    """Three wobbly objects, some with holes, some of a few pixels, at the borders too, and some void."""
    yx = np.indices(size)
    labels = np.zeros(size, np.uint8)
    for label in rng.choice([1, 2, 3, 255], 5, p=[0.3, 0.3, 0.3, 0.1]):
        dy, dx = yx - rng.uniform(-5, np.add(size, 5))[:, None, None]
        angle, distance = np.arctan2(dy, dx), np.hypot(dy, dx)
        radius = rng.uniform(2, 0.4 * max(size)) * (1 + 0.3 * np.sin(rng.integers(2, 7) * angle))
        hole = radius * rng.choice([0, 0.5])
        labels[(distance < radius) & (distance >= hole)] = label
    return labels


@pytest.mark.parametrize("seed", range(12))
def test_draws_what_the_official_robot_draws(seed):
    """Holes (cycles of the axis), borders, broken opening radii, openings that leave nothing at first."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(20, 160, 2))
    truth, prediction = blobs(rng, size), blobs(rng, size)
    settings = {
        "kernel_size": rng.choice([0, 0.15, 0.2, 0.6, 0.9]),
        "max_kernel_radius": rng.choice([3.5, 16]),
        "min_nb_nodes": int(rng.choice([1, 2, 4])),
        "nb_points": int(rng.choice([20, 1000])),  # with 20, long axes are kept as they are
    }
    robot, key = Robot(**settings), (seed, "blobs", 1, 2)
    for guess in (prediction, np.zeros_like(truth), np.roll(truth, 3, 0)):
        expected = official(settings, guess, truth, 3, key)
        assert robot.strokes(guess, truth, 3, key) == expected
    assert len(expected) > 0


def ragged(rng, size, num_objects=3):
    """Truth of smooth noise and a prediction of it with pushed boundaries, specks and holes."""

    def noise(scale):
        grid = rng.normal(size=(int(size[0] / scale) + 2, int(size[1] / scale) + 2)).astype(np.float32)
        return cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)

    coarse, fine = rng.uniform(6, 40), rng.uniform(1, 4)
    fields = [noise(coarse) for _ in range(num_objects + 1)]
    truth = np.argmax(fields, 0).astype(np.uint8)
    guess = np.argmax([f + rng.uniform(0.1, 0.8) * noise(fine) for f in fields], 0).astype(np.uint8)
    specks = rng.random(size) < rng.choice([0, 0.01, 0.1])
    guess[specks] = rng.integers(0, num_objects + 1, np.count_nonzero(specks))
    truth[noise(coarse) > 1.5] = 255
    return truth, guess


def seeds(number, quick):
    """As many seeds; those beyond the first few are for the slow suite."""
    return [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= quick)) for seed in range(number)]


@pytest.mark.parametrize("seed", seeds(24, 4))
def test_draws_what_the_official_robot_draws_on_ragged_errors(seed):
    """Many pieces, cycles within cycles, equal arms: what the paths' rules for ties decide."""
    rng = np.random.default_rng([seed, 11])
    strokes = 0
    for case in range(16):
        truth, guess = ragged(rng, tuple(rng.integers(12, 110, 2).tolist()))
        settings = {
            "kernel_size": rng.choice([0, 0, 0.05, 0.2]),  # 0: nothing is opened
            "max_kernel_radius": rng.choice([2.3, 16]),
            "min_nb_nodes": int(rng.choice([1, 2, 4])),
            "nb_points": int(rng.choice([3, 50])),
        }
        key = (seed, "ragged", case)
        expected = official(settings, guess, truth, 3, key)
        assert Robot(**settings).strokes(guess, truth, 3, key) == expected
        strokes += len(expected)
    assert strokes > 100


@pytest.mark.parametrize("seed", seeds(6, 1))
def test_draws_what_the_official_robot_draws_on_ragged_errors_of_480p(seed):
    rng = np.random.default_rng([seed, 480])
    truth, guess = ragged(rng, (480, 854), 2)
    settings = {"kernel_size": [0.02, 0, 0.2][seed % 3], "min_nb_nodes": 2}
    expected = official(settings, guess, truth, 2, (seed,))
    assert Robot(**settings).strokes(guess, truth, 2, (seed,)) == expected
    assert len(expected) > 2


def test_the_curves_are_those_of_the_official_robot():
    davisinteractive_compat.install()
    operations = pytest.importorskip("davisinteractive.utils.operations")
    rng = np.random.default_rng(0)
    for count in [*range(1, 60), *rng.integers(60, 1000, 20), 1000, 1001]:
        points = rng.integers(0, 854, (count, 2))
        for nb_points in (20, 1000):
            expected = operations.bezier_curve(points, nb_points)
            assert np.array_equal(_bezier(points, nb_points), expected)


def test_the_axis_of_a_frame_too_large_for_single_precision():
    mask = np.zeros((2100, 2101), np.uint8)
    mask[50:-40, 30:-60] = 1
    mask[1000, 1000] = 0
    ours = medial_axis(mask, np.random.default_rng(0))
    assert np.array_equal(
        ours, skimage.morphology.medial_axis(mask.astype(bool), rng=np.random.default_rng(0))
    )


def test_nothing_but_the_mend_knows_davisinteractive():
    """Neither the robot nor what trains and draws with it imports the GPL-licensed package."""
    code = (
        "import sys, ivos.interaction.simulate, ivos.interaction.robot, ivos.data.synthetic\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'davisinteractive']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_kernel_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match="kernel_size: must be a number from 0 to below 1, got 1"):
        Robot(kernel_size=1)


def test_draws_the_same_without_scikit_images_inner_loop(labels, monkeypatch):
    expected = Robot().strokes(np.zeros_like(labels), labels, 2)
    monkeypatch.setattr("ivos.interaction.medial_axis._skeletonize_loop", None)
    assert Robot().strokes(np.zeros_like(labels), labels, 2) == expected


def test_draws_what_the_official_robot_draws_on_real_frames(real_data):
    from ivos.data.datasets.davis import DavisFolder

    for video in DavisFolder(real_data / "davis", "train"):
        truth = video.load_annotations()[-1]
        for shift in (0, 9):
            guess = np.where(truth == 255, 0, np.roll(truth, shift, 1)) if shift else np.zeros_like(truth)
            key = (0, video.name, 1, shift)
            expected = official({"kernel_size": 0.2, "min_nb_nodes": 2}, guess, truth, video.num_objects, key)
            assert Robot().strokes(guess, truth, video.num_objects, key) == expected
