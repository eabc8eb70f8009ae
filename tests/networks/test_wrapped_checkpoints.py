"""Tests of checkpoints wrapped by other programs, and of files that are no checkpoints."""

import argparse

import numpy as np
import pytest
import torch

from ivos.networks import ATNet, CheckpointError, load
from ivos.networks.checkpoint import unwrapped


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ATNet(width=4, depths=(1, 2, 1, 1), decoder_width=8).eval()


@pytest.fixture(scope="module")
def own(network, tmp_path_factory):
    """The content of a file that ivos wrote."""
    path = tmp_path_factory.mktemp("net") / "net.pt"
    network.save(path)
    return torch.load(path, weights_only=True)


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def wrapped(own):
    """Contents of files by how they are wrapped."""
    state, metadata = own["state_dict"], {"ivos": own["ivos"]}
    inside = {key.replace("encoder.", "encoder._orig_mod.", 1): value for key, value in state.items()}
    return {
        "module.": {**metadata, "state_dict": prefixed(state, "module.")},
        "_orig_mod.": {**metadata, "state_dict": prefixed(state, "_orig_mod.")},
        "compiled inside": {**metadata, "state_dict": inside},
        "training, compiled": {**metadata, "state_dict": prefixed(state, "network._orig_mod.")},
        "Namespace": {**own, "args": argparse.Namespace(lr=1e-3)},
        "NumPy": {**own, "best": np.float64(0.5), "step": np.int64(3), "curve": np.arange(3.0)},
    }


ALONE = {
    "bare": lambda state: dict(state),
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "both": lambda state: {"model": prefixed(state, "_orig_mod.module.")},
    "a part of a module": lambda state: {"state_dict": prefixed(state, "network.")},
}


@pytest.mark.parametrize(
    "kind", ["module.", "_orig_mod.", "compiled inside", "training, compiled", "Namespace", "NumPy"]
)
def test_wrapped_files_of_ours(own, network, tmp_path, kind):
    torch.save(wrapped(own)[kind], tmp_path / "x.pth")
    found = load(tmp_path / "x.pth").state_dict()
    assert all(torch.equal(value, found[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ALONE)
def test_weights_alone(network, tmp_path, kind):
    """Their sizes are read from the weights; what the weights do not say is assumed with a warning."""
    torch.save(ALONE[kind](network.state_dict()), tmp_path / "x.pth")
    with pytest.warns(
        UserWarning, match=r"x.pth: a state dict without configuration: .* normalize=displacements is assumed"
    ):
        found = load(tmp_path / "x.pth")
    assert found.config == network.config
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in network.state_dict().items())


def test_released_names_are_unwrapped():
    weight = torch.zeros(1)
    for content in (
        {"state_dict": {"module.encoder_6ch.x": weight}},
        {"model": {"_orig_mod.encoder_6ch.x": weight}},
    ):
        assert list(unwrapped(content)) == ["encoder_6ch.x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid 0\n", r"a Git LFS pointer; .*git lfs pull"),
        ("<!DOCTYPE html><html>Virus scan warning</html>", r"a web page; download the file itself"),
        ("\n<html></html>", r"a web page"),
    ],
)  # fmt: skip
def test_what_is_saved_in_place_of_a_checkpoint_is_named(tmp_path, content, message):
    (tmp_path / "x.pth").write_text(content)
    with pytest.raises(CheckpointError, match=rf"x\.pth: not a checkpoint but {message}") as caught:
        load(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_what_runs_code_is_still_refused(network, tmp_path):
    torch.save(network, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors and values"):
        load(tmp_path / "x.pth")


def test_counters_of_batch_norms_may_be_absent(network, own, tmp_path):
    counters = [key for key in own["state_dict"] if key.endswith("num_batches_tracked")]
    assert counters
    state = {key: value for key, value in own["state_dict"].items() if key not in counters}
    torch.save({**own, "state_dict": state}, tmp_path / "old.pt")
    loaded = load(tmp_path / "old.pt").state_dict()
    assert all(not loaded[key].any() for key in counters)
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
