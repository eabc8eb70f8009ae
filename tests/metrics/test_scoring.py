"""Tests of scoring many predictions with ground truth that is prepared once."""

import numpy as np
import pytest

from ivos.evaluation import davisinteractive_compat
from ivos.metrics import GroundTruth, f_measure, jaccard

davisinteractive_compat.install()
official = pytest.importorskip("davisinteractive.metrics")


def blobs(rng, shape):
    """Labels with discs of many sizes, at the borders too, void pixels, an empty and a full frame."""
    yx = np.indices(shape[1:])
    labels = np.zeros(shape, np.uint8)
    for frame in labels[1:]:
        for label in rng.choice([1, 2, 3, 255], 4):
            centre = rng.uniform(-5, np.add(shape[1:], 5))[:, None, None]
            frame[(((yx - centre) / rng.uniform(1, 60)) ** 2).sum(0) < 1] = label
    labels[rng.integers(len(labels))] = 2
    return labels


@pytest.fixture(params=range(6))
def scene(request):
    """Ground truth and three predictions of it, from near to unrelated, of odd sizes."""
    rng = np.random.default_rng(request.param)
    shape = (5, *rng.integers(1, 110, 2))
    truth = blobs(rng, shape)
    return truth, [np.roll(truth, 2, 1), np.roll(truth, (1, -7), (1, 2)), blobs(rng, shape)]


def test_one_ground_truth_for_many_predictions(scene):
    """What it keeps of one call does not show in the next."""
    truth, predictions = scene
    kept = GroundTruth(truth, 4)
    for prediction in [*predictions, predictions[0]]:
        for ours, theirs in (
            (kept.jaccard, official.batched_jaccard),
            (kept.f_measure, official.batched_f_measure),
        ):
            expected = theirs(truth, prediction, average_over_objects=False, nb_objects=4)
            assert np.array_equal(ours(prediction), expected)


def test_any_integer_type_and_labels_beyond_the_objects(scene):
    truth, (prediction, *_) = scene
    for dtype in (np.int64, np.int16, np.uint16):
        large = prediction.astype(dtype) + dtype(5) * (prediction == 3)
        assert np.array_equal(f_measure(truth, large, 3), f_measure(truth, large.astype(np.uint8), 3))
        assert np.array_equal(jaccard(truth.astype(dtype), large, 2), jaccard(truth, large, 2))


def test_wrong_shapes_are_named():
    labels = np.zeros((1, 2, 3), np.uint8)
    for metric in (jaccard, f_measure):
        with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 2, 4\)"):
            metric(labels, np.zeros((1, 2, 4), np.uint8), 1)
        with pytest.raises(ValueError, match="num_objects: at least 1"):
            metric(labels, labels, 0)
