"""Scoring that keeps up: ground truth kept for many predictions, and the metrics on tensors."""

import doctest

import numpy as np
import pytest
import torch

from ivos.interaction import davisinteractive_mend
from ivos.metrics import GroundTruth, f_measure, jaccard, tensors

davisinteractive_mend.install()

from davisinteractive.metrics import batched_f_measure, batched_jaccard  # noqa: E402


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
        for ours, official in (
            (kept.jaccard, batched_jaccard),
            (kept.f_measure, batched_f_measure),
        ):
            expected = official(truth, prediction, average_over_objects=False, nb_objects=4)
            assert np.array_equal(ours(prediction), expected)


def test_any_integer_type_and_labels_beyond_the_objects(scene):
    truth, (prediction, *_) = scene
    for dtype in (np.int64, np.int16, np.uint16):
        large = prediction.astype(dtype) + dtype(5) * (prediction == 3)
        assert np.array_equal(f_measure(truth, large, 3), f_measure(truth, large.astype(np.uint8), 3))
        assert np.array_equal(jaccard(truth.astype(dtype), large, 2), jaccard(truth, large, 2))


def test_on_tensors(scene, device):
    truth, predictions = scene
    for prediction in predictions:
        for ours, reference in ((tensors.jaccard, jaccard), (tensors.f_measure, f_measure)):
            found = ours(torch.from_numpy(truth).to(device), torch.from_numpy(prediction).to(device), 4)
            assert found.dtype == torch.float64
            assert found.device.type == device
            assert np.array_equal(found.cpu().numpy(), reference(truth, prediction, 4))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


@pytest.mark.parametrize("case", ["moving", "empty_and_full", "noise", "tennis_void255", "border"])
def test_on_tensors_equals_the_official_scorer(golden, case):
    arrays = {k.split("/")[1]: v for k, v in golden("davis").items() if k.startswith(case + "/")}
    truth, prediction = (torch.from_numpy(arrays[key].astype(np.uint8)) for key in ("gt", "pred"))
    for metric, key in ((tensors.jaccard, "J"), (tensors.f_measure, "F")):
        found = metric(truth, prediction, int(arrays["num_objects"])).numpy()
        assert np.abs(found - arrays[key]).max() <= 1e-12


def test_wrong_shapes_are_named():
    labels = np.zeros((1, 2, 3), np.uint8)
    for metric in (jaccard, f_measure):
        with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 2, 4\)"):
            metric(labels, np.zeros((1, 2, 4), np.uint8), 1)
        with pytest.raises(ValueError, match="num_objects: at least 1"):
            metric(labels, labels, 0)
    for metric in (tensors.jaccard, tensors.f_measure):
        with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(2, 3\)"):
            metric(torch.zeros(1, 2, 3), torch.zeros(2, 3), 1)
        with pytest.raises(ValueError, match="num_objects: at least 1"):
            metric(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), 0)


def test_examples_in_the_docstrings():
    assert doctest.testmod(tensors).failed == 0
    assert doctest.testmod(tensors).attempted > 0
