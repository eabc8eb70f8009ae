"""Tests of optical flow and of its fusion with T-Net."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ivos.engine import ATNetSegmenter
from ivos.engine.flow_fusion import FusionByOpenCV, FusionByTensors, _warped
from ivos.engine.optical_flow import _AHEAD, OpticalFlow, _inverse, pairs_of_passes, warp
from ivos.engine.resizing import Resizing
from ivos.engine.thresholding import THRESHOLD, centred, off_centre, to_labels
from ivos.metrics import jaccard
from ivos.networks import load
from ivos.runtime.errors import UserError
from tests.support.lively import lively

SHIFT = 4  # pixels a frame
STROKES = [{"path": [[0.2, 0.4], [0.4, 0.5]], "object_id": 1}]


@pytest.fixture(scope="module")
def clip():
    """A textured rectangle that moves right over a textured ground: frames, labels."""
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), np.uint8), (0, 0), 2)
    frames = np.stack([(40 + 0.4 * noise[:64, :128]).astype(np.uint8)] * 10)
    labels = np.zeros(frames.shape[:3], np.uint8)
    for t in range(10):
        place = t, slice(16, 44), slice(14 + SHIFT * t, 50 + SHIFT * t)
        frames[place] = 150 + 0.4 * noise[100:128, 100:136]
        labels[place] = 1
    return frames, labels


def test_flow_finds_the_shift(clip):
    flow = OpticalFlow(list(clip[0]))
    inside = clip[1][3] == 1
    np.testing.assert_allclose(np.median(flow.between(3, 5)[inside], axis=0), [2 * SHIFT, 0], atol=0.2)
    assert np.abs(np.median(flow.between(3, 5)[~inside], axis=0)).max() < 0.2


def test_what_is_carried_can_be_trusted_but_where_it_comes_into_view(clip):
    frames, labels = clip
    total, weights = OpticalFlow(list(frames)).carry(4, {3: np.float32(labels[3][..., None])})
    carried = (total / weights[..., None])[..., 0] > 0.5
    assert jaccard(labels[4:5], carried[None].astype(np.uint8), 1).item() > 0.9
    uncovered = (labels[3] == 1) & (labels[4] == 0)
    assert weights[uncovered].mean() < 0.5 * weights[labels[4] == 1].mean()


def test_flows_are_kept_within_bounds(clip, monkeypatch):
    flow = OpticalFlow(list(clip[0]))
    found = flow.between(0, 1)
    assert flow.between(0, 1) is found
    monkeypatch.setattr("ivos.engine.optical_flow._KEPT", 6 * found.nbytes)
    for other in range(1, 10):
        flow.between(9 - other, 9)
    assert flow.between(0, 1) is not found
    np.testing.assert_array_equal(flow.between(0, 1), found)


def test_flows_of_a_pool_are_those_of_one_thread(clip):
    """To the bit, whichever thread computes them, also where they are asked for in another order."""
    alone, pool = OpticalFlow(list(clip[0])), OpticalFlow(list(clip[0]))
    pairs = list(pairs_of_passes(4, [range(3, -1, -1), range(5, 10)]))
    pool.expect(pairs)
    assert pool._coming
    for pair in [*pairs[::-1], (9, 0)]:
        np.testing.assert_array_equal(pool.between(*pair), alone.between(*pair))


def test_pairs_are_those_that_the_passes_use_in_their_order(clip, monkeypatch):
    used, between = [], OpticalFlow.between

    def noting(flow, start, end):
        used.append((start, end))
        return between(flow, start, end)

    monkeypatch.setattr(OpticalFlow, "between", noting)
    segmenter = ATNetSegmenter(lively(width=4, decoder_width=8), flow=True)
    segmenter.start(clip[0], 1)
    segmenter.interact(3, STROKES)
    planned = list(pairs_of_passes(3, [range(2, -1, -1), range(4, 10)]))
    assert list(dict.fromkeys(used)) == planned
    assert planned[:6] == [(2, 3), (3, 2), (4, 3), (3, 4), (1, 3), (3, 1)]


def test_few_flows_are_computed_ahead_and_only_while_a_round_runs(clip, monkeypatch):
    monkeypatch.setattr("ivos.engine.optical_flow.cores", lambda: 2)
    segmenter = ATNetSegmenter(lively(width=4, decoder_width=8), flow=True)
    segmenter.start(clip[0], 1)
    flow = segmenter._video.flow
    rounds = segmenter.propagate(0, STROKES)
    for _ in range(3):  # the annotated frame and two others
        next(rounds)
    assert len(flow._flows) == 2 + 4
    assert 0 < len(flow._coming) <= 2 * _AHEAD
    rounds.close()
    segmenter.interact(9, STROKES)
    assert not flow._coming  # all were used
    kept = dict(flow._flows)
    segmenter.interact(9, STROKES)
    assert all(flow._flows[pair] is kept[pair] for pair in kept)  # none is computed again
    assert flow._flows.keys() == kept.keys()


def test_a_flow_that_fails_in_a_thread_fails_the_round(clip, monkeypatch):
    def broken(flow, start, end):
        raise MemoryError

    segmenter = ATNetSegmenter(lively(width=4, decoder_width=8), flow=True)
    segmenter.start(clip[0], 1)
    monkeypatch.setattr(OpticalFlow, "_computed", broken)
    with pytest.raises(UserError, match="out of memory in a round"):
        segmenter.interact(0, STROKES)
    monkeypatch.undo()
    assert segmenter.interact(0, STROKES).any()


@pytest.fixture
def three_layers(clip):
    """Layers [h, w, 3] of two frames: soft, sharp and empty."""
    layers = np.random.default_rng(0).random((2, *clip[0].shape[1:3], 3), np.float32)
    layers[..., 1], layers[..., 2] = clip[1][2:4], 0
    return dict(zip((2, 3), (cv2.GaussianBlur(each, (0, 0), 2) for each in layers), strict=True))


def test_tensors_fuse_as_opencv_does(clip, three_layers):
    """Positions are rounded to 1/32 of a pixel by OpenCV; the tensors' are exact."""
    flow = OpticalFlow(list(clip[0]))
    tensors, opencv = FusionByTensors(flow, torch.device("cpu")), FusionByOpenCV(flow)
    of_tensors = {frame: torch.from_numpy(each).permute(2, 0, 1) for frame, each in three_layers.items()}
    (total, weights), (found, trust) = flow.carry(4, three_layers), tensors.carry(4, of_tensors)
    np.testing.assert_allclose(trust.numpy(), weights, atol=0.02)
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), total, atol=0.04)
    refined = tensors.refine(3, of_tensors[3]).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(refined, flow.refine(3, three_layers[3]), atol=1e-4)
    own = torch.rand(3, *clip[0].shape[1:3], generator=torch.manual_seed(0))
    expected = opencv.fused(4, three_layers, own)
    np.testing.assert_allclose(
        tensors.fused(4, of_tensors, own).permute(1, 2, 0).numpy(), expected, atol=0.02
    )
    labels = torch.from_numpy(2 * clip[1][0])
    np.testing.assert_array_equal(tensors.layers(labels, 3).permute(1, 2, 0), opencv.layers(labels, 3))


def test_nothing_comes_back_from_the_device(clip):
    """A meta tensor has no values: whatever looked at one would raise an error."""
    meta = torch.device("meta")
    tensors = FusionByTensors(OpticalFlow(list(clip[0])), meta)
    size = clip[0].shape[1:3]
    carried = {2: tensors.layers(torch.zeros(size, dtype=torch.uint8, device=meta), 3)}
    carried[3] = torch.zeros(3, *size, device=meta)
    fused = tensors.tensor(tensors.fused(4, carried, torch.zeros(3, *size, device=meta)))
    assert (fused.device, fused.shape, fused.dtype) == (meta, (3, *size), torch.float32)


class NoBorderPadding(TorchDispatchMode):
    """Apple GPUs lack this mode before PyTorch 2.13."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten.grid_sampler_2d.default or args[3] != 1
        return func(*args, **(kwargs or {}))


def test_positions_outside_the_frame_take_the_border_on_every_device():
    generator = torch.manual_seed(0)
    maps = torch.rand(2, 3, 12, 16, generator=generator)
    flow = 8 * torch.randn(2, 12, 16, 2, generator=generator)
    with NoBorderPadding():
        found = _warped(maps, flow)
    for index in range(2):
        expected = warp(maps[index].permute(1, 2, 0).numpy(), flow[index].numpy())
        np.testing.assert_allclose(found[index].permute(1, 2, 0), expected, atol=0.05)


def test_no_refinement_without_a_band(clip, three_layers):
    tensors = FusionByTensors(OpticalFlow(list(clip[0]), band=0), torch.device("cpu"))
    layers = torch.from_numpy(three_layers[3])
    assert tensors.refine(3, layers) is layers


def rounds_with(segmenter):
    segmenter.interact(0, STROKES)
    segmenter.interact(7, STROKES)
    return segmenter.probabilities.copy(), segmenter.interact(3, [])


def test_sessions_by_tensors_and_by_opencv_have_the_same_masks(clip, monkeypatch):
    network = load("untrained")
    expected = rounds_with(with_true_annotations(network, clip, flow=True))
    monkeypatch.setattr("ivos.engine.propagation.flow_fusion", FusionByTensors)
    found = rounds_with(with_true_annotations(network, clip, flow=True))
    assert np.abs(found[0] - expected[0]).mean() < 2e-3
    assert jaccard(expected[1], found[1], 1).min() > 0.98


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_flow_on_a_gpu(clip):
    network = load("untrained")
    expected = rounds_with(with_true_annotations(network, clip, flow=True))
    found = rounds_with(with_true_annotations(load("untrained").cuda(), clip, flow=True))
    assert np.abs(found[0] - expected[0]).mean() < 2e-3
    assert jaccard(expected[1], found[1], 1).min() > 0.98


@pytest.mark.parametrize("pending", [64 << 20, 3 * 64 * 128])
def test_only_frames_that_a_round_has_touched_are_enlarged(clip, pending, monkeypatch):
    """Their labels leave the device together, or so many at a time."""
    monkeypatch.setattr("ivos.engine.state._PENDING", pending)
    segmenter = ATNetSegmenter(lively(width=4, decoder_width=8), short_side=32)
    segmenter.start(clip[0], 1)
    segmenter.interact(2, STROKES)
    enlarged, enlarge = [], Resizing.enlarged
    monkeypatch.setattr(Resizing, "enlarged", lambda *given: enlarged.append(1) or enlarge(*given))
    first, last = segmenter.planned(8)
    masks = segmenter.interact(8, STROKES)
    assert len(enlarged) == last - first + 1 < len(clip[0])
    for frame in range(10):
        np.testing.assert_array_equal(masks[frame], segmenter._video.full_labels(segmenter._video.of(frame)))


def with_true_annotations(network, clip, **options):
    """A segmenter whose A-Net says the truth, whatever its weights."""
    segmenter = ATNetSegmenter(network, **options)
    anet = segmenter._anet

    def truth(frame, channels):
        logits, values = anet(frame, channels)
        padded = torch.from_numpy(segmenter._started().padding.pad(clip[1][frame] == 1).copy())
        return torch.where(padded.to(logits.device), 8.0, -8.0).expand(logits.shape), values

    segmenter._anet = truth
    segmenter.start(clip[0], 1)
    return segmenter


def test_masks_follow_the_object_though_t_net_has_learnt_nothing(clip):
    network = load("untrained")
    quality = {}
    for flow in (False, True):
        masks = with_true_annotations(network, clip, flow=flow).interact(0, STROKES)
        quality[flow] = jaccard(clip[1], masks, 1)[1:]
    assert quality[False].mean() < 0.3
    assert quality[True].min() > 0.85


def test_t_net_is_heard_where_flow_is_lost(clip):
    """In a quarter of the picture that is another from one frame to the next."""
    frames, labels = clip[0].copy(), clip[1]
    rng = np.random.default_rng(2)
    frames[5:, :32, 64:] = rng.integers(0, 256, (32, 64, 3), np.uint8)  # a cut, in a quarter of the picture
    network = lively()
    segmenter = with_true_annotations(network, (frames, labels), flow=True)
    alone = with_true_annotations(network, (frames, labels))
    for each in (segmenter, alone):
        each.interact(4, STROKES)
    difference = np.abs(segmenter.probabilities[5, 0] - alone.probabilities[5, 0])
    assert difference[:32, 64:].mean() < 0.5 * difference[32:, :64].mean()


def test_thresholds_there_and_back():
    own = torch.linspace(0, 1, 101)
    torch.testing.assert_close(off_centre(centred(own)), own)
    assert centred(torch.tensor(THRESHOLD)).item() == pytest.approx(0.5)
    assert torch.equal(to_labels(own[None]) == 1, centred(own) > 0.5 + 1e-6)


def test_the_weights_say_whether(tmp_path):
    network = load("untrained")
    assert network.flow is None
    assert not ATNetSegmenter(network, flow="trained").flow
    assert ATNetSegmenter(network, flow=True).flow
    network.flow = True
    network.save(tmp_path / "net.pt")
    again = load(tmp_path / "net.pt")
    assert again.flow is True
    assert ATNetSegmenter(again).flow
    assert not ATNetSegmenter(again, flow=False).flow


@pytest.mark.parametrize(("name", "quality"), [("small", "fine"), ("base", "fast")])
def test_each_kind_of_network_has_its_quality_of_flow(name, quality, clip):
    segmenter = ATNetSegmenter(load(name), flow=True)
    segmenter.start(clip[0], 1)
    expected = OpticalFlow(list(clip[0]), quality).between(3, 4)
    assert np.array_equal(segmenter._video.flow.between(3, 4), expected)


@pytest.mark.parametrize("size", [(12, 128), (20, 31), (32, 32)])
def test_the_fast_preset_takes_small_frames(size, clip):
    small = np.ascontiguousarray(clip[0][:, 16 : 16 + size[0], : size[1]])
    found = OpticalFlow(list(small), "fast").between(1, 0)
    assert found.shape == (*size, 2)
    inside = np.zeros(size, bool)
    inside[:, 14 + 2 * SHIFT : 50] = True
    assert -SHIFT - 1 < np.median(found[inside, 0]) < -1  # the smaller the frame, the less exact the flow
    whole = ATNetSegmenter(load("base"))
    whole.start(small, 1)
    assert whole.interact(0, STROKES).shape == small.shape[:3]


def test_inverses_of_symmetric_matrices():
    factors = np.random.default_rng(0).normal(0, 0.1, (4, 5, 3, 9)).astype(np.float32)
    matrices = factors @ factors.swapaxes(2, 3) + 1e-3 * np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(_inverse(matrices), np.linalg.inv(matrices), rtol=1e-3, atol=1e-2)


def test_bad_options_and_frames_are_named(clip):
    with pytest.raises(
        UserError, match=r"segmenter\.flow: must be true or false, or one of trained, got 'yes'"
    ):
        ATNetSegmenter(load("untrained"), flow="yes")
    segmenter = ATNetSegmenter(load("untrained"), flow=True)
    with pytest.raises(UserError, match=r"optical flow needs 12 pixels .* have 128x8.*flow=false"):
        segmenter.start(clip[0][:, :8], 1)
