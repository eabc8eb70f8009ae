"""The engine's shortcuts against the plain networks: same numbers, less work, within the memory granted."""

import json
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ivos.engine import ATNetSegmenter, TensorStore
from ivos.engine.fast import Winograd3x3, _EnlargedConv, fast_copy
from ivos.engine.store import GIB, recycle_memory, zeros
from ivos.errors import UserError
from ivos.networks import ATNet, similarity, spread
from ivos.networks.decoder import scale_up


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
    monkeypatch.setattr("ivos.engine.fast._SHEET", 2000)
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


def lively(**changes) -> ATNet:
    """A small network with batch-norm statistics that matter and masks that are neither empty nor full."""
    torch.manual_seed(0)
    network = ATNet(**{"width": 16, "depths": (1, 2, 1, 1), "decoder_width": 64, **changes})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.8, 1.2)
    for part in (network.anet, network.tnet):
        part.decoder.head[-1].weight.data *= 8
        part.decoder.head[-1].bias.data += 1.4
    return network.eval()


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
            moved = spread(values, similarity(features.r5, features.r5))
            more = net.tnet.decode(features, moved, net.tnet.local(features, features, logits.sigmoid()))
            outputs.append((logits, values, *vars(features).values(), more))
    for plain, quick in zip(*outputs, strict=True):
        assert (plain - quick).abs().max() <= 2e-5 * plain.abs().max()


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
        {"together": True},
        {"lookahead": 3},
        {"together": True, "lookahead": 2},
        {"channels_last": True, "winograd": False},
        {"memory_gib": 0.001},  # keeps two frames' image features, and no transfers
        {"memory_gib": 0.0025},  # keeps all image features and some transfers
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


def calls(network, segmenter) -> tuple[int, int]:
    """How often the encoder of T-Net and the similarity are computed in the four rounds."""
    segmenter.start(np.zeros((1, 33, 33, 3), np.uint8), 1)  # builds the fast copy
    encoder = segmenter._networks.tnet.encoder
    with (
        mock.patch.object(encoder, "forward", wraps=encoder.forward) as encoded,
        mock.patch("ivos.engine.atnet.similarity", side_effect=similarity) as seen,
    ):
        play(segmenter, num_objects=3)
    return encoded.call_count, seen.call_count


def test_each_thing_is_computed_once(network):
    """6 frames; annotations 1 to 4 meet each frame they are propagated to at most once, for all objects."""
    encoded, matched = calls(network, ATNetSegmenter(network))
    assert encoded == 6
    assert matched <= 4 * 6
    without_room = calls(network, ATNetSegmenter(network, memory_gib=0.001))
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
        pytest.raises(UserError, match=r"no room for .* GiB of probabilities \(No space left.*TMPDIR"),
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
    with pytest.raises(UserError, match=r"segmenter\.precision: 'int8' is none of"):
        ATNetSegmenter(network, precision="int8")
    with pytest.raises(UserError, match=r"segmenter\.compile: 'fast' is none of"):
        ATNetSegmenter(network, compile="fast")
    with pytest.raises(UserError, match=r"segmenter\.lookahead"):
        ATNetSegmenter(network, lookahead=0)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(UserError, match=r"segmenter\.winograd: is for a CPU, float32"):
        ATNetSegmenter(network, winograd=True, precision="bfloat16").start(frames, 1)
    with pytest.raises(UserError, match=r"segmenter\.memory_gib: must be above 0"):
        ATNetSegmenter(network, memory_gib=0).start(frames, 1)
    segmenter = ATNetSegmenter(network, memory_gib=1000 / GIB)
    segmenter.start(frames, 1)
    with pytest.raises(UserError, match=r"segmenter\.memory_gib: .* one frame take .*; grant more"):
        segmenter.interact(0, [])
    assert not segmenter._video.annotated  # the round has not begun
    with (
        mock.patch("ivos.engine.atnet.free_memory", return_value=1000),
        pytest.raises(UserError, match=r"2 frames of 64x64 needs .* for its masks"),
    ):
        ATNetSegmenter(network).start(frames, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lookahead": 3},
        {"memory_gib": 0.02, "host_memory_gib": 1},
        {"compile": "reduce-overhead"},
    ],
)
def test_gpu(network, expected, options):
    probabilities, _ = play(ATNetSegmenter(lively().cuda(), **options), masks_of_others=expected[1])
    assert np.abs(probabilities - expected[0]).max() < 1e-3


def test_golden_session_with_every_exact_option(golden, golden_network):
    """The released system's session within its tolerance, whatever is switched on."""
    arrays = golden("session")
    segmenter = ATNetSegmenter(golden_network, winograd=True, together=True, lookahead=2)
    segmenter.start(arrays["frames"], int(arrays["num_objects"]))
    for number, (frame, strokes) in enumerate(json.loads(str(arrays["rounds"])), start=1):
        masks = segmenter.interact(frame, strokes)
        (top, bottom), (left, right) = arrays["pad"]
        reference = arrays[f"probabilities_{number}"][..., top : -bottom or None, left : -right or None]
        assert np.abs(segmenter.probabilities - reference).max() < 5e-5
        assert (masks != arrays[f"masks_{number}"]).mean() <= 0.0005
