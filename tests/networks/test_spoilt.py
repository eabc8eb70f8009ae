"""Tests that readable checkpoints without a usable network are refused in one line."""

import os

import pytest
import torch

from ivos.networks import ATNet, CheckpointError, load

KEY = "anet.encoder.stem.weight"


def spoil(change):
    """Apply a change to one tensor of the state dict."""

    def apply(content):
        content["state_dict"][KEY] = change(content["state_dict"][KEY])

    return apply


def size(**changed):
    return lambda content: content["ivos"]["network"].update(changed)


def one_nan(value):
    value = value.clone()
    value.view(-1)[7] = torch.nan
    return value


SPOILT = {
    "nan": (spoil(one_nan), f"1 not finite: {KEY}"),
    "infinite": (spoil(lambda value: value / 0), f"1 not finite: {KEY}"),
    "int8": (spoil(lambda value: value.to(torch.int8)), f"{KEY} (torch.int8)"),
    "sparse": (spoil(lambda value: value.to_sparse()), f"1 not dense: {KEY}"),
    "meta": (spoil(lambda value: value.to("meta")), f"1 not dense: {KEY}"),
    "no tensor": (spoil(lambda value: 3), KEY),
    "no state": (lambda content: content.update(state_dict=None), "its state_dict is not a dictionary"),
    "int key": (
        lambda content: content["state_dict"].update({3: torch.zeros(1)}),
        "its state_dict is not a dictionary",
    ),
    "negative": (size(width=-4), "must be whole numbers from 1 to 4096, got"),
    "deep": (size(depths=[10**6, 1, 1, 1]), "must be whole numbers from 1 to 4096, got"),
    "deeper": (size(depths=[1000, 1000, 1, 1]), "model.depths: their sum must be at most 256"),
    "negative variances": (
        lambda content: content["state_dict"]["anet.encoder.stem_bn.running_var"].sub_(5),
        "1 negative variances: anet.encoder.stem_bn.running_var",
    ),
    "text for a switch": (size(use_global="no"), "model.use_global"),
    "unknown kind": (size(normalize="columns"), "model.normalize: 'columns' is not one of"),
    "no depths": (size(depths=3), "must be whole numbers from 1 to 4096, got"),
    "list for a size": (lambda content: content["ivos"].update(short_side=[1]), "model.short_side"),
    "size of zero": (lambda content: content["ivos"].update(short_side=0), "model.short_side"),
    "number for a switch": (lambda content: content["ivos"].update(flow=1), "model.flow"),
    "key of an int": (lambda content: content.update({3: 4}), "not a checkpoint's dictionary"),
    "no network": (lambda content: content["ivos"].update(network=None), "incomplete"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_network_is_named(how, network, tmp_path):
    change, said = SPOILT[how]
    network.save(path := tmp_path / "net.pt")
    assert isinstance(load(path), ATNet)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing", "long", "endless"])
def test_what_is_no_file_is_named(kind, tmp_path):
    path = tmp_path / "net.pt"
    if kind == "pipe":
        os.mkfifo(path)  # which would be waited for
    elif kind == "folder":
        path.mkdir()
    elif kind == "long":
        path = tmp_path / ("n" * 300 + ".pt")
    elif kind == "endless":
        path.symlink_to(path)
    with pytest.raises(CheckpointError, match=r"net.pt: no|nnn.pt: no such file"):
        load(path)
