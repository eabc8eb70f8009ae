"""The seeded robot."""

import numpy as np
import pytest

from ivos.interaction import check_strokes
from ivos.interaction.robot import Robot


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
