"""Tests of J and F against the official scorer."""

import doctest

import numpy as np
import pytest

from ivos.metrics import arrays, f_measure, jaccard

CASES = ["moving", "empty_and_full", "noise", "tennis_void255", "border"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("metric", "key"), [(jaccard, "J"), (f_measure, "F")])
def test_equals_the_official_scorer(golden, case, metric, key):
    arrays = {
        name.split("/")[1]: value for name, value in golden("davis").items() if name.startswith(case + "/")
    }
    found = metric(arrays["gt"], arrays["pred"], int(arrays["num_objects"]))
    assert found.dtype == np.float64
    assert np.abs(found - arrays[key]).max() <= 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_equals_davisinteractive_on_random_blobs(seed):
    """Blobs of many sizes, at the borders too, empty and full masks, void pixels, odd frame sizes."""
    from ivos.evaluation import davisinteractive_compat

    davisinteractive_compat.install()
    from davisinteractive.metrics import batched_f_measure, batched_jaccard

    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    yx = np.indices((height, width))
    gt, pred = np.zeros((2, 6, height, width), np.uint8)
    for labels in (*gt[:-1], *pred[1:]):
        for label in rng.choice([1, 2, 3, 255], 4):
            centre = rng.uniform(-5, (height + 5, width + 5))[:, None, None]
            radii = rng.uniform(1, 60, 2)[:, None, None]
            labels[(((yx - centre) / radii) ** 2).sum(0) < 1] = label
    gt[2] = pred[3] = 1
    for ours, official in ((jaccard, batched_jaccard), (f_measure, batched_f_measure)):
        expected = official(gt, pred, average_over_objects=False, nb_objects=4)
        assert np.array_equal(ours(gt, pred, 4), expected)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 2, 4\)"):
        jaccard(np.zeros((1, 2, 3), int), np.zeros((1, 2, 4), int), 1)


def test_examples_in_the_docstrings():
    assert doctest.testmod(arrays).failed == 0
    assert doctest.testmod(arrays).attempted > 0
