"""Sessions on an imitated GPU, which refuses operations on tensors of both devices."""

import numpy as np
import pytest

from ivos.engine import ATNetSegmenter
from tests.support.imitated_gpu import GPU, imitated_gpu
from tests.support.lively import lively, lively_memory

PAPER, MEMORY = "paper", "memory"
SAME = {"batch_directions": True, "feature_batch_size": 4}  # the defaults on a GPU
CASES = [
    (PAPER, {"device_cache_gib": 1}),
    (PAPER, {"device_cache_gib": 1, "short_side": 40, "flow": True, "undo_gib": 1}),
    (PAPER, {"device_cache_gib": 0.0006}),  # probabilities in a file, features are computed again
    (PAPER, {"device_cache_gib": 0.0004, "short_side": 40, "flow": True, "undo_gib": 1}),
    (MEMORY, {"device_cache_gib": 1}),
    (MEMORY, {"device_cache_gib": 1, "short_side": 40, "flow": True, "undo_gib": 1}),
    (MEMORY, {"device_cache_gib": 0.0006}),
]


def video(num_frames):
    return np.random.default_rng(0).integers(0, 256, (num_frames, 50, 70, 3), np.uint8)


def stroke(x, label):
    return [{"path": [[x, 0.4], [x + 0.1, 0.5]], "object_id": label}]


@pytest.fixture(scope="module")
def make():
    return {PAPER: lambda: lively(width=8, decoder_width=32), MEMORY: lively_memory}


def session(segmenter):
    """Return what each operation of a session returns."""
    labels = np.zeros((50, 70), np.uint8)
    labels[10:20, 10:30] = 1
    segmenter.start(video(7), 2)
    return [
        segmenter.interact(2, stroke(0.3, 1) + stroke(0.6, 2)),
        segmenter.interact(5, stroke(0.6, 1)),
        segmenter.preview(1, stroke(0.5, 1)),
        segmenter.adopt(6, labels),
        segmenter.interact(6, []),
        segmenter.add_object(),
        segmenter.interact(0, stroke(0.2, 3)),
        segmenter.probabilities.copy(),
        segmenter.confidence(),
        segmenter.undo(),
    ]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_session_on_a_gpu_has_the_results_of_a_cpu(kind, options, make):
    expected = session(ATNetSegmenter(make[kind](), winograd=False, **SAME, **options))
    with imitated_gpu():
        found = session(ATNetSegmenter(make[kind]().to(GPU), **options))
    tolerance = 0.01 if options.get("flow") else 1e-4  # OpenCV rounds positions to 1/32 of a pixel
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).mean() < tolerance


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("kind", [PAPER, MEMORY])
def test_a_longer_video_makes_a_gpu_wait_no_more_often(kind, flow, make):
    """Within a round, no value is read back from one frame to the next."""
    counts = []
    with imitated_gpu() as reads:
        segmenter = ATNetSegmenter(make[kind]().to(GPU), flow=flow, short_side=40, device_cache_gib=1)
        for num_frames in (6, 12):
            segmenter.start(video(num_frames), 2)
            before = reads.total()
            segmenter.interact(3, stroke(0.3, 1) + stroke(0.6, 2))
            counts.append(reads.total() - before)
    assert 0 < counts[0] == counts[1], dict(reads)
