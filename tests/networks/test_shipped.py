"""Tests of the quality of shipped weights, and of messages about unknown names."""

import re

import numpy as np
import pytest
import torch

from ivos.data.synthetic import SyntheticSpec, render_clip
from ivos.engine import ATNetSegmenter
from ivos.interaction.robot import Robot
from ivos.metrics import jaccard
from ivos.networks import CheckpointError, load, shipped_names, weights_file
from ivos.networks.checkpoint import read
from ivos.networks.shipped import FOLDER


def quality(name: str) -> float:
    """Mean J after a round on two synthetic clips of a kind that the weights were not trained on."""
    found = []
    for index in range(2):
        frames, labels = render_clip(SyntheticSpec(num_frames=4, seed=5, max_objects=1), index)
        segmenter = ATNetSegmenter(load(name), short_side=None)
        segmenter.start(frames, 1)
        masks = segmenter.interact(0, Robot().strokes(np.zeros_like(labels[0]), labels[0], 1, (0,)))
        found.append(jaccard(labels, masks, 1).mean())
    return float(np.mean(found))


def test_small_is_worth_what_its_card_says():
    card = (FOLDER / "small.md").read_text()
    (said,) = re.findall(r"On the two clips of .*, J after one round is (\.\d+)", card)
    assert quality("small") == pytest.approx(float(said), abs=0.01)
    assert float(said) > quality("untrained") + 0.3


def test_files_are_small_safe_and_have_a_card():
    assert "small" in shipped_names()
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 20e6
    for name in shipped_names():
        content = read(weights_file(name))
        half = {key for key, value in content["state_dict"].items() if value.dtype == torch.float16}
        assert half == {key for key, _ in load(name).named_parameters()}
        assert all(value.isfinite().all() for value in content["state_dict"].values())
        assert (FOLDER / f"{name}.md").is_file()
    assert load("small").short_side == 160


def test_untrained_is_always_the_same():
    first, second = load("untrained").state_dict(), load("untrained").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert load("untrained").config == load("small").config


def test_a_name_that_is_not_shipped_lists_those_that_are():
    with pytest.raises(CheckpointError, match=r"huge: no such file, .*: base, small, untrained"):
        load("huge")
    with pytest.raises(CheckpointError, match=r"no such file$"):
        load("huge.pt")


def test_damaged_files_and_those_of_another_version(tmp_path):
    load("small").save(tmp_path / "whole.pt")
    (tmp_path / "short.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"short.pt: not a readable PyTorch checkpoint") as caught:
        load(tmp_path / "short.pt")
    assert "\n" not in str(caught.value)
    content = read(weights_file("small"))
    content["ivos"]["format"] = 99
    torch.save(content, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match=r"newer.pt: .*format 99; this version of ivos reads format 1"):
        load(tmp_path / "newer.pt")


def test_half_precision_there_and_back(tmp_path):
    network = load("small")
    network.save(tmp_path / "again.pt", half=True)
    again = load(tmp_path / "again.pt")
    assert again.short_side == network.short_side
    own = network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in again.state_dict().items())


def test_half_precision_keeps_statistics_beyond_its_range(tmp_path):
    network = load("small")
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.running_var.fill_(1e5)
    network.save(tmp_path / "half.pt", half=True)
    state = load(tmp_path / "half.pt").state_dict()
    assert sum(bool((value == 1e5).all()) for key, value in state.items() if key.endswith("running_var")) == 1
    for key, value in network.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-6)
