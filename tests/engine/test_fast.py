"""Tests that the engine's optimisations give the plain networks' numbers within the granted memory."""

import copy
import functools
import json
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ivos.engine import ATNetSegmenter, TensorStore
from ivos.engine.feature_store import GIB, HostPool, budget, seconds, zeros
from ivos.engine.frame_features import frames_per_batch
from ivos.engine.fused_layers import Winograd3x3, _EnlargedConv, fast_copy
from ivos.engine.state import VideoState
from ivos.engine.thresholding import THRESHOLD
from ivos.networks import affinity, readout
from ivos.networks.decoder import scale_up
from ivos.runtime.errors import UserError
from ivos.runtime.machine import recycle_memory
from tests.support.lively import lively, lively_memory


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (13, 22), (5, 64), (40, 3), (32, 54)])  # the last is 480p
@pytest.mark.parametrize("dilation", [1, 2, 6, 8, 18])
@pytest.mark.parametrize("batch", [1, 3])
def test_winograd(size, dilation, batch):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 80, 3, padding=dilation, dilation=dilation).requires_grad_(False)
    x = torch.randn(batch, 64, *size)
    exactly = {"padding": dilation, "dilation": dilation}
    reference = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), **exactly)
    error = (Winograd3x3(conv)(x) - reference).abs().max() / reference.abs().max()
    assert error < 2e-5


def test_winograd_stands_for_3x3_convolutions_that_keep_the_size():
    assert Winograd3x3.fits(nn.Conv2d(128, 128, 3, padding=1))
    assert Winograd3x3.fits(nn.Conv2d(128, 128, 3, padding=2, dilation=2))
    for other in (
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, dilation=2),
        nn.Conv2d(128, 128, 3, padding=(2, 3), dilation=(2, 3)),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 128, 3, padding=1),
    ):
        assert not Winograd3x3.fits(other)


def test_winograd_on_several_sheets(monkeypatch):
    monkeypatch.setattr("ivos.engine.fused_layers._SHEET", 2000)
    for dilation in (1, 4):
        conv = nn.Conv2d(64, 64, 3, padding=dilation, dilation=dilation).requires_grad_(False)
        x = torch.randn(4, 64, 28, 60)[..., 3:30].to(memory_format=torch.channels_last)
        torch.testing.assert_close(Winograd3x3(conv)(x), conv(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 6)])
def test_convolution_of_an_enlarged_map(size):
    torch.manual_seed(0)
    weight, x = torch.randn(7, 5, 3, 3), torch.randn(2, 5, *size)
    expected = F.conv2d(scale_up(x, 4), weight, padding=1)
    torch.testing.assert_close(_EnlargedConv(weight)(x), expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def network():
    return lively()


@pytest.mark.parametrize("winograd", [False, True])
def test_fast_copy_is_the_network(network, winograd):
    fast = fast_copy(network, winograd)
    assert any(isinstance(m, Winograd3x3) for m in fast.modules()) == winograd
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    image, interaction = torch.randn(1, 3, 64, 96), torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        outputs = []
        for net in (network, fast):
            logits, objects = net.anet(image, interaction)
            values = net.tnet.project(objects) if net is network else objects  # the copy's are projected
            features = net.tnet.features(image)
            moved = readout(values, affinity(features.r5, features.r5))
            more = net.tnet.decode(features, moved, net.tnet.local(features, features, logits.sigmoid()))
            outputs.append((logits, values, *vars(features).values(), more))
    for plain, quick in zip(*outputs, strict=True):
        assert (plain - quick).abs().max() <= 2e-5 * plain.abs().max()


def test_weights_cast_once_give_the_numbers_of_autocast(network):
    """Bit for bit, and without a cast of a weight left."""
    image, interaction = torch.randn(1, 3, 64, 96), torch.rand(2, 3, 64, 96)
    outputs, casts = [], []
    for fast in (fast_copy(network, False), fast_copy(network, False, torch.bfloat16)):
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16),
            torch.profiler.profile(record_shapes=True) as profile,
        ):
            logits, values = fast.anet(image, interaction)
            features = fast.tnet.features(image)
            local = fast.tnet.local(features, features, logits.sigmoid())
            more = fast.tnet.decode(features, torch.zeros_like(values), local)
        outputs.append((logits, values, *vars(features).values(), local, more))
        shapes = {
            tuple(weight.shape) for weight in fast.parameters() if weight.dim() == 4 and len(weight) > 2
        }
        copied = [event.input_shapes[0] for event in profile.events() if event.name == "aten::_to_copy"]
        casts.append(sum(tuple(shape) in shapes for shape in copied))
    for by_autocast, once in zip(*outputs, strict=True):
        assert by_autocast.dtype == once.dtype
        assert torch.equal(by_autocast, once)
    assert casts[0] > 50
    assert casts[1] == 0


def test_synchronised_batch_norms_fold(network):
    """A network that trains with trainer.sync_batchnorm=true is validated in that form."""
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    fast, expected = fast_copy(converted, False), fast_copy(network, False)
    for one, other in zip(fast.state_dict().items(), expected.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])


ROUNDS = [(2, 0.3, 1), (5, 0.6, 2), (2, 0.5, 0), (0, 0.4, 1)]


def play(segmenter, num_objects: int = 2, masks_of_others=None) -> tuple[np.ndarray, np.ndarray]:
    """Four rounds on a video of six frames: probabilities and masks after each.

    A pixel at the threshold may fall to either side by rounding, and the next round starts from the masks;
    ``masks_of_others`` makes all rounds start from the same.
    """
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 50, 70, 3), np.uint8)
    segmenter.start(frames, num_objects)
    found = []
    for number, (frame, x, label) in enumerate(ROUNDS):
        if number and masks_of_others is not None:
            segmenter._video.masks[:] = masks_of_others[number - 1]
        masks = segmenter.interact(frame, [{"path": [[x, 0.4], [x + 0.1, 0.5]], "object_id": label}])
        found.append((segmenter.probabilities.copy(), masks))
    probabilities, masks = zip(*found, strict=True)
    return np.stack(probabilities), np.stack(masks)


@pytest.fixture(scope="module")
def expected(network):
    probabilities, masks = play(ATNetSegmenter(network, winograd=False))
    assert 0.02 < (masks > 0).mean() < 0.98
    assert probabilities.std() > 0.01
    return probabilities, masks


@pytest.mark.parametrize(
    "options",
    [
        {"winograd": True},
        {"batch_directions": True},
        {"feature_batch_size": 3},
        {"batch_directions": True, "feature_batch_size": 2},
        {"channels_last": True, "winograd": False},
        {"device_cache_gib": 0.001},  # keeps two frames' image features, and no transfers
        {"device_cache_gib": 0.0025},  # keeps all image features and some transfers
    ],
    ids=str,
)
def test_exact_options_are_exact(network, expected, options):
    probabilities, masks = play(ATNetSegmenter(network, **options), masks_of_others=expected[1])
    assert np.abs(probabilities - expected[0]).max() < 2e-5
    assert (masks != expected[1]).mean() < 5e-4


@pytest.mark.parametrize("flags", [{"use_global": False}, {"use_local": False}, {"normalize": "rows"}])
def test_ablated_networks_run(flags, network, expected):
    probabilities, _ = play(ATNetSegmenter(lively(**flags)))
    assert np.abs(probabilities - expected[0]).max() > 1e-4


def test_autocast_of_the_caller_changes_nothing(network, expected):
    """As around a validation step, where Lightning trains in mixed precision."""
    with torch.autocast("cpu", torch.bfloat16):
        probabilities, _ = play(ATNetSegmenter(network), masks_of_others=expected[1])
    assert np.abs(probabilities - expected[0]).max() < 2e-5


def test_half_precision_is_near(network, expected):
    segmenter = ATNetSegmenter(network, precision="bfloat16")
    probabilities, _ = play(segmenter, masks_of_others=expected[1])
    assert 1e-5 < np.abs(probabilities - expected[0]).max() < 0.15


@pytest.mark.slow
def test_compiled(network, expected):
    probabilities, _ = play(ATNetSegmenter(network, compile="default"), masks_of_others=expected[1])
    assert np.abs(probabilities - expected[0]).max() < 2e-5


def test_a_gpu_gets_several_frames_at_once():
    assert frames_per_batch(None, torch.device("cuda", 1)) > 1
    assert frames_per_batch(None, torch.device("cpu")) == 1
    assert [frames_per_batch(3, torch.device(name)) for name in ("cpu", "cuda")] == [3, 3]


def test_a_frame_s_batch_does_not_depend_on_who_asks(network):
    """Five frames, of which the second is asked for first: the features are those of the same two batches."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 33, 40, 3), np.uint8)
    found = []
    for order in ([1, 4, 0, 2, 3], [4, 3, 2, 1, 0]):
        segmenter = ATNetSegmenter(network, winograd=False, feature_batch_size=3)
        segmenter.start(frames, 1)
        batches, computed = [], segmenter._features._computed
        segmenter._features._computed = lambda part, batches=batches, computed=computed: (
            batches.append(list(part)) or computed(part)
        )
        with segmenter._networks.arithmetic():
            features = {frame: segmenter._features.get([frame])[0] for frame in order}
        assert sorted(batches) == [[0, 1, 2], [3, 4]]
        found.append(features)
    for frame in range(5):
        for one, other in zip(*(vars(each[frame]).values() for each in found), strict=True):
            assert torch.equal(one, other)


class CompiledParts:
    """Takes the place of ``torch.compile``: notes the shapes, and spoils results at the next call.

    The outputs of CUDA graphs (compile=reduce-overhead) are overwritten in the same way.
    """

    def __init__(self):
        self.shapes, self.outputs = {}, []

    def compile(self, function, mode, dynamic):
        assert dynamic is False  # so that each shape is compiled once
        if isinstance(function, nn.Module):
            function.forward = self.compile(function.forward, mode, dynamic)
            return function
        seen = self.shapes.setdefault(f"{type(function.__self__).__name__}.{function.__name__}", set())

        def run(*arguments):
            for earlier in self.outputs:
                earlier.fill_(torch.nan)
            seen.add(tuple(tensor.shape for each in arguments for tensor in tensors_of(each)))
            result = function(*arguments)
            self.outputs = list(tensors_of(result))
            return result

        return run


def tensors_of(value):
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_of(each)
    elif value is not None:
        yield from vars(value).values()


def one_round(segmenter, num_objects):
    """A round from the second of four small frames: probabilities and masks."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3), np.uint8)
    segmenter.start(frames, num_objects)
    places = [(label, [[label / 9, 0.4], [label / 10, 0.7]]) for label in range(1, num_objects + 1)]
    masks = segmenter.interact(1, [{"path": path, "object_id": label} for label, path in places])
    return segmenter.probabilities.copy(), masks


@pytest.mark.parametrize("kind", ["plain", "batch_directions", "memory"])
def test_objects_1_to_8_are_compiled_four_times(kind, monkeypatch):
    """Every part at most once for each power of two; for two directions in a batch and for one of them."""
    network = lively_memory() if kind == "memory" else lively(width=8, decoder_width=16)
    options = {"winograd": False, "feature_batch_size": 3, "batch_directions": kind == "batch_directions"}
    parts = CompiledParts()
    monkeypatch.setattr(torch, "compile", parts.compile)
    plain, compiled = (ATNetSegmenter(network, **options, compile=mode) for mode in (None, "default"))
    for num_objects in range(1, 9):
        (expected, labels), (found, masks) = (one_round(each, num_objects) for each in (plain, compiled))
        assert np.abs(found - expected).max() < 2e-5
        best = np.sort(np.pad(expected, ((0, 0), (1, 0), (0, 0), (0, 0))), axis=1)
        sure = (best[:, -1] - best[:, -2] > 4e-5) & (np.abs(best[:, -1] - THRESHOLD) > 4e-5)
        assert sure.mean() > 0.1  # elsewhere rounding decides between objects that are nearly equal
        assert np.array_equal(masks[sure], labels[sure])
    counts = {name: len(shapes) for name, shapes in parts.shapes.items()}
    if kind == "memory":
        assert counts == {"GuidedDecoder.forward": 12}  # of A-Net at two sizes and of T-Net
    else:
        decoded = 8 if kind == "batch_directions" else 4
        assert counts == {"ANet.forward": 4, "TNet.features": 2, "TNet.decode": decoded}


@pytest.mark.slow
def test_pytorch_compiles_as_often_as_there_are_shapes(monkeypatch):
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    network = lively(width=4, depths=(1, 1, 1, 1), decoder_width=8)
    segmenter = ATNetSegmenter(network, winograd=False, compile="default")
    for num_objects in (3, 1, 8, 2, 5, 4, 7, 6):
        one_round(segmenter, num_objects)
    assert counter.frame_count == 4 + 1 + 4  # A-Net, T-Net's features and its decoder
    before = counter.frame_count
    one_round(segmenter, 9)
    assert counter.frame_count == before + 2  # sixteen objects


def calls(network, segmenter) -> tuple[int, int]:
    """How often the encoder of T-Net and the similarity are computed in the four rounds."""
    segmenter.start(np.zeros((1, 33, 33, 3), np.uint8), 1)  # builds the fast copy
    encoder = segmenter._networks.fused.tnet.encoder
    with (
        mock.patch.object(encoder, "forward", wraps=encoder.forward) as encoded,
        mock.patch("ivos.engine.propagation.affinity", side_effect=affinity) as seen,
    ):
        play(segmenter, num_objects=3)
    return encoded.call_count, seen.call_count


def test_each_thing_is_computed_once(network):
    """6 frames; annotations 1 to 4 meet each frame they are propagated to at most once, for all objects."""
    encoded, matched = calls(network, ATNetSegmenter(network))
    assert encoded == 6
    assert matched <= 4 * 6
    without_room = calls(network, ATNetSegmenter(network, device_cache_gib=0.001))
    assert without_room[0] > 6
    assert without_room[1] > matched


def test_weights_changed_in_place_count_from_the_next_video_on():
    network = lively()
    segmenter = ATNetSegmenter(network)
    before, _ = play(segmenter)
    with torch.no_grad():
        network.anet.decoder.head[-1].bias += 1
    after, _ = play(segmenter)
    assert np.abs(before - after).max() > 0.01
    again, _ = play(ATNetSegmenter(network))
    assert np.array_equal(after, again)


def test_store_keeps_within_its_budget():
    store = TensorStore(torch.device("cpu"), 100)
    one = torch.arange(20, dtype=torch.float32)  # 80 bytes
    store.put("a", (one,))
    store.put("b", (one,))
    assert "a" in store
    assert "b" not in store
    assert store.get("b") is None
    store.put("a", (one[:5], one[:5]))
    store.put("b", (one[:10],))
    assert store.free["device"] == 100 - 40 - 40
    assert torch.equal(store.get("b")[0], one[:10])


def unpinned(device_bytes, host_bytes):
    return TensorStore(torch.device("cpu"), device_bytes, host_bytes, HostPool(pinned=False))


def test_store_behind_a_device():
    """Dense tensors of any type and memory order come back as they were; buffers are used again."""
    store = unpinned(0, 3 * 2048)
    tensors = (
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(7).bfloat16(),
        torch.arange(3, dtype=torch.uint8),
        torch.randn(2, 5),
    )
    size = 512 + 64 + 64 + 64
    assert store.goes_to_host(tensors)
    store.put("a", tensors)
    for stored, tensor in zip(store.get("a"), tensors, strict=True):
        assert torch.equal(stored, tensor)
        assert (stored.dtype, stored.stride()) == (tensor.dtype, tensor.stride())
    assert store.free["host"] == 3 * 2048 - size
    store.put("b", tensors)
    at = {store.get(key)[0].untyped_storage().data_ptr() for key in "ab"}
    assert len(at) == 1  # one slab serves both
    spare = store.pool.spare_bytes()
    store.put("a", tuple(tensor + 1 for tensor in tensors))
    assert store.pool.spare_bytes() == spare
    assert torch.equal(store.get("a")[0], tensors[0] + 1)
    assert torch.equal(store.get("b")[0], tensors[0])
    store.clear()
    assert store.pool.spare_bytes() == spare + 2 * size
    assert store.free["host"] == 3 * 2048
    again = TensorStore(torch.device("cpu"), 0, size, store.pool)  # the next video takes over what is there
    again.put("c", tensors)
    again.put("d", tensors)
    assert again.get("c")[0].untyped_storage().data_ptr() in at
    assert "d" not in again
    again.put("c", (torch.zeros(3),))
    assert torch.equal(again.get("c")[0], torch.zeros(3))


def test_slabs_keep_to_what_is_granted():
    pool = HostPool(pinned=False)
    pool.take(1000, at_most=3500)
    assert pool.spare_bytes() == 2000
    pool.take(1000, at_most=0)
    pool.take(1000, at_most=0)
    pool.take(1000, at_most=0)
    assert pool.spare_bytes() == 0


@pytest.mark.parametrize(("fetching", "pays"), [(0.001, True), (0.1, False)])
def test_features_wait_behind_the_device_where_that_is_faster(network, expected, fetching, pays):
    """The two are timed once; the results do not depend on which it is."""
    segmenter = ATNetSegmenter(network, winograd=False, device_cache_gib=0.001)
    segmenter._pool = HostPool(pinned=False)
    start = segmenter.start

    def started(*arguments):
        start(*arguments)
        segmenter._video.host_room, segmenter._video.host_pays = GIB, None

    with (
        mock.patch.object(segmenter, "start", started),
        mock.patch("ivos.engine.frame_features.seconds", side_effect=[fetching, 0.01]) as timed,
    ):
        probabilities, _ = play(segmenter, masks_of_others=expected[1])
        assert timed.call_count == 2
    assert segmenter._video.host_pays == pays
    places = [place for place, *_ in segmenter._video.features._kept.values()]
    assert ("host" in places) == pays
    assert np.array_equal(probabilities, expected[0])


def test_frames_and_padding_on_the_device(network, expected):
    segmenter = ATNetSegmenter(network, winograd=False)
    start = segmenter.start

    def started(frames, num_objects):
        start(frames, num_objects)
        segmenter._video.video = torch.from_numpy(frames)
        segmenter._video.frames = np.zeros_like(frames)  # not looked at any more

    with mock.patch.object(segmenter, "start", started):
        probabilities, masks = play(segmenter, masks_of_others=expected[1])
    assert np.array_equal(probabilities, expected[0])
    assert np.array_equal(masks, expected[1])


def test_masks_come_from_the_device_once_a_round(network):
    """Or once in so many frames that their labels take 64 MiB."""
    segmenter, fetched = ATNetSegmenter(network), []
    fetch = VideoState.fetch

    def counting(video):
        fetched.append(len(video.pending))
        fetch(video)

    with mock.patch.object(VideoState, "fetch", counting):
        play(segmenter)
        assert sum(number > 0 for number in fetched) == len(ROUNDS)
        fetched.clear()
        with mock.patch("ivos.engine.state._PENDING", 3 * 50 * 70):
            segmenter.start(np.zeros((6, 50, 70, 3), np.uint8), 1)
            segmenter.interact(0, [])
    assert [number for number in fetched if number] == [4, 2]


def test_free_memory_of_a_gpu_is_also_what_pytorch_keeps_there():
    with (
        mock.patch("torch.cuda.mem_get_info", return_value=(10 * GIB, 80 * GIB)),
        mock.patch("torch.cuda.memory_reserved", return_value=30 * GIB),
        mock.patch("torch.cuda.memory_allocated", return_value=12 * GIB),
    ):
        assert budget(None, torch.device("cuda", 0)) == 14 * GIB
        assert budget(2, torch.device("cuda", 0)) == 2 * GIB
    with mock.patch("ivos.engine.feature_store.free_memory", return_value=10 * GIB):
        assert budget(None, torch.device("cpu"), spare=2 * GIB) == 6 * GIB


def test_seconds():
    ticks = iter([0.0, 3.0, 10.0, 11.0])
    with mock.patch("time.perf_counter", side_effect=lambda: next(ticks)):
        assert seconds(lambda: None, torch.device("cpu")) == 1.0


def test_zeros_beyond_the_room_are_mapped_from_a_file():
    small = zeros((3, 4), torch.device("cpu"), room=48)
    mapped = zeros((3, 4), torch.device("cpu"), room=47)
    for tensor in (small, mapped):
        assert tensor.shape == (3, 4)
        assert tensor.dtype == torch.float32
        assert (tensor == 0).all()
        tensor += 1
        assert (tensor == 1).all()


def test_no_room_for_mapped_probabilities():
    full = OSError(28, "No space left on device")
    with (
        mock.patch("os.posix_fallocate", side_effect=full),
        pytest.raises(UserError, match=r"no space for .* GiB of probabilities \(No space left.*TMPDIR"),
    ):
        zeros((3, 4), torch.device("cpu"), room=47)


@pytest.mark.parametrize(("accepted", "settings"), [(1, 2), (0, 1)])
def test_freed_memory_is_kept_where_the_c_library_can(accepted, settings):
    """An old glibc refuses so large a threshold; its own, which adapts itself, is then left alone."""
    libc = mock.Mock()
    libc.mallopt.return_value = accepted
    with mock.patch("ctypes.CDLL", return_value=libc):
        recycle_memory()
    assert libc.malloc_trim.call_count == 1
    assert libc.mallopt.call_count == settings


def test_bad_options_and_too_little_memory():
    network = lively(width=4, decoder_width=8)
    with pytest.raises(UserError, match=r"segmenter\.precision: 'int8' is not one of"):
        ATNetSegmenter(network, precision="int8")
    with pytest.raises(UserError, match=r"segmenter\.compile: 'fast' is not one of"):
        ATNetSegmenter(network, compile="fast")
    with pytest.raises(
        UserError, match=r"segmenter\.feature_batch_size: must be null, or a whole number from 1, got 0"
    ):
        ATNetSegmenter(network, feature_batch_size=0)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(UserError, match=r"segmenter\.winograd=true: needs a CPU, float32"):
        ATNetSegmenter(network, winograd=True, precision="bfloat16").start(frames, 1)
    with pytest.raises(
        UserError, match=r"segmenter\.device_cache_gib: must be null, or a number above 0, got 0"
    ):
        ATNetSegmenter(network, device_cache_gib=0).start(frames, 1)
    segmenter = ATNetSegmenter(network, device_cache_gib=1000 / GIB)
    segmenter.start(frames, 1)
    with pytest.raises(UserError, match=r"segmenter\.device_cache_gib: .* one frame need .*; raise it"):
        segmenter.interact(0, [])
    assert not segmenter._video.annotated  # the round has not begun
    with (
        mock.patch("ivos.engine.atnet_segmenter.free_memory", return_value=1000),
        pytest.raises(UserError, match=r"2 frames of 64x64 needs .* for its masks"),
    ):
        ATNetSegmenter(network).start(frames, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"feature_batch_size": 3},
        {"device_cache_gib": 0.02, "host_memory_gib": 1},
        {"compile": "reduce-overhead"},
    ],
)
def test_gpu(network, expected, options):
    probabilities, _ = play(ATNetSegmenter(lively().cuda(), **options), masks_of_others=expected[1])
    assert np.abs(probabilities - expected[0]).max() < 1e-3


def test_golden_session_with_every_exact_option(golden, golden_network):
    """The released system's session within its tolerance, whatever is switched on."""
    arrays = golden("session")
    segmenter = ATNetSegmenter(golden_network, winograd=True, batch_directions=True, feature_batch_size=2)
    segmenter.start(arrays["frames"], int(arrays["num_objects"]))
    for number, (frame, strokes) in enumerate(json.loads(str(arrays["rounds"])), start=1):
        masks = segmenter.interact(frame, strokes)
        (top, bottom), (left, right) = arrays["pad"]
        reference = arrays[f"probabilities_{number}"][..., top : -bottom or None, left : -right or None]
        assert np.abs(segmenter.probabilities - reference).max() < 5e-5
        assert (masks != arrays[f"masks_{number}"]).mean() <= 0.0005
