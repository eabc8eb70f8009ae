"""Tests of writing and reading checkpoints, and of messages about faulty ones."""

import json
from pathlib import Path

import pytest
import torch

from ivos.networks import ATNet, Backbone, CheckpointError, load, load_imagenet

KEYS = json.loads((Path(__file__).parents[1] / "golden" / "checkpoint_keys.json").read_text())


def small(**changes) -> ATNet:
    return ATNet(**{"width": 4, "depths": (1, 2, 1, 1), "decoder_width": 8, **changes}).eval()


def test_released_round_trip_is_bit_exact(released_state, golden_network):
    back = golden_network.to_released()
    assert {(key, tuple(value.shape), str(value.dtype)) for key, value in back.items()} == {
        (key, tuple(shape), f"torch.{dtype}") for key, shape, dtype in KEYS
    }
    assert len(back) == 912
    assert all(torch.equal(back[key], value) for key, value in released_state.items())


def test_released_network_is_as_released(golden_network):
    assert golden_network.tnet.normalize == "rows"
    assert not golden_network.training
    assert sum(p.numel() for p in golden_network.parameters()) == pytest.approx(136.5e6, rel=1e-3)
    assert all(p.requires_grad for p in golden_network.parameters())


def test_from_a_released_file_and_from_data_parallel(released_state, tmp_path, golden_network):
    torch.save({f"module.{key}": value for key, value in released_state.items()}, tmp_path / "a.pth")
    network = load(tmp_path / "a.pth")
    own = golden_network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())


def test_missing_extra_and_misshapen_keys_are_all_listed(released_state):
    state = dict(released_state)
    del state["prev_conv1x1.bias"], state["decoder_prop.RF2.convMM2.weight"]
    state["encoder_3ch.res5.9.bn1.bias"] = torch.zeros(3)
    state["decoder_iact.lastconv.8.bias"] = torch.zeros(2)
    state["encoder_6ch.res4.2.conv_up.weight"] = torch.zeros(1, 2, 3, 4)
    with pytest.raises(CheckpointError) as error:
        ATNet.from_released(state)
    lines = str(error.value).splitlines()
    assert lines[1] == "  2 missing: prev_conv1x1.bias, decoder_prop.RF2.convMM2.weight"
    assert lines[2] == "  1 unknown: encoder_3ch.res5.9.bn1.bias"
    assert "2 of the wrong shape" in lines[3]
    assert "decoder_iact.lastconv.8.bias (2,) instead of (1,)" in lines[3]
    assert "encoder_6ch.res4.2.conv_up.weight (1, 2, 3, 4) instead of (1024, 64, 1, 1)" in lines[3]


def test_own_round_trip(tmp_path):
    network = small(normalize="rows", use_global=False)
    network.save(tmp_path / "net.pt")
    again = load(tmp_path / "net.pt")
    assert again.config == network.config
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert not again.training


def test_checkpoint_of_training(tmp_path):
    network = small()
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    content = {"state_dict": {**state, "loss.weight": torch.ones(1)}, "ivos": {"network": network.config}}
    torch.save({**content, "epoch": 3}, tmp_path / "last.ckpt")
    assert torch.equal(load(tmp_path / "last.ckpt").tnet.fuse.weight, network.tnet.fuse.weight)


def test_own_checkpoint_with_keys_missing(tmp_path):
    network = small()
    state = network.state_dict()
    del state["tnet.fuse.bias"]
    torch.save({"ivos": {"network": network.config}, "state_dict": state}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"net\.pt does not hold .*\n  1 missing: tnet\.fuse\.bias"):
        load(tmp_path / "net.pt")


class Code:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("hello"), "not a readable PyTorch checkpoint"),
        (lambda path: path.write_bytes(b""), "not a readable PyTorch checkpoint"),
        (lambda path: torch.save([1, 2], path), "holds a list"),
        (lambda path: torch.save({"weight": torch.ones(1)}, path), "neither the authors' released .* weight"),
        (lambda path: torch.save({}, path), "neither the authors' released"),
        (lambda path: torch.save({"ivos": {}}, path), "incomplete or of another version"),
        (lambda path: torch.save(Code(), path), "not a readable PyTorch checkpoint"),
    ],
)
def test_other_files_get_one_line(tmp_path, write, message, capsys):
    path = tmp_path / "some.pth"
    write(path)
    with pytest.raises(CheckpointError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "must not run" not in capsys.readouterr().out


def imagenet_file(path, width=64, depths=(3, 4, 6, 3)):
    """A file with torchvision's ResNet-50 names and shapes, and random values."""
    state, channels = {"conv1.weight": torch.randn(width, 3, 7, 7), "fc.bias": torch.zeros(1000)}, width

    def bn(name, n):
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(n)

    bn("bn1", width)
    for stage, depth in enumerate(depths):
        planes = width * 2**stage
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            sizes = ((planes, channels, 1), (planes, planes, 3), (4 * planes, planes, 1))
            for i, (out, into, kernel) in enumerate(sizes, start=1):
                state[f"{name}.conv{i}.weight"] = torch.randn(out, into, kernel, kernel)
                bn(f"{name}.bn{i}", out)
            if block == 0:
                state[f"{name}.downsample.0.weight"] = torch.randn(4 * planes, channels, 1, 1)
                bn(f"{name}.downsample.1", 4 * planes)
            channels = 4 * planes
    torch.save(state, path)
    return state


def test_imagenet_start(tmp_path):
    state = imagenet_file(tmp_path / "resnet50.pth")
    encoder = Backbone(6)
    fresh = {key: value.clone() for key, value in encoder.state_dict().items()}
    loaded = load_imagenet(encoder, tmp_path / "resnet50.pth")
    own = encoder.state_dict()
    assert len(loaded) == len(state) - 6  # all but the stem, its batch norm and the classifier
    assert torch.equal(own["stages.2.5.conv2.weight"], state["layer3.5.conv2.weight"])
    assert torch.equal(own["stages.0.0.shortcut.1.running_var"], state["layer1.0.downsample.1.running_var"])
    for key in set(own) - set(loaded):
        assert torch.equal(own[key], fresh[key]), key
        assert key.startswith("stem") or "squeeze" in key or "excite" in key or "num_batches" in key


def test_imagenet_of_another_network(tmp_path):
    imagenet_file(tmp_path / "resnet.pth", width=8, depths=(1, 1, 1, 1))
    with pytest.raises(CheckpointError, match=r"resnet\.pth: not ImageNet weights .*layer3\.0\.conv1"):
        load_imagenet(Backbone(3, 16, (1, 1, 1, 1)), tmp_path / "resnet.pth")


@pytest.mark.parametrize("flags", [{}, {"use_global": False}, {"use_local": False}, {"normalize": "rows"}])
def test_small_networks_train(flags):
    """Every width and depth: gradients reach every parameter that the flags leave in use."""
    network = ATNet(width=4, depths=(1, 1, 2, 1), decoder_width=8, **flags).train()
    image, interaction = torch.randn(2, 3, 64, 96), torch.rand(2, 3, 64, 96)
    logits, objects = network.anet(image, interaction)
    assert logits.shape == (2, 1, 64, 96)
    features = network.tnet.features(image)
    out, local = network.tnet(features, features, logits.sigmoid(), features.r5[:, None], objects[:, None])
    assert out.shape == (2, 1, 64, 96)
    assert local.shape == (2, 1, 16, 24)
    (logits.mean() + out.square().mean() + local.square().mean()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == ([] if network.tnet.use_global else [n for n in without if "converter" in n])


def test_depths_must_be_four():
    with pytest.raises(ValueError, match="four stages"):
        Backbone(3, 8, (1, 1, 1))
