"""Tiny clips, samples and networks to train on."""

import functools
import importlib.util
from pathlib import Path

import pytest
import torch

from data.scene import SyntheticSpec, render_clip
from data.synthetic import synthetic_davis
from data.training import MiniSequences
from ivos.interaction.samples import Clip, collate
from ivos.networks import ATNet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def clips():
    spec = SyntheticSpec(num_clips=2, num_frames=6, width=64, height=64, max_objects=2, min_size=0.35)
    return [Clip(f"clip{i}", *(pair := render_clip(spec, i)), int(pair[1][0].max())) for i in range(2)]


@pytest.fixture
def make_batch(clips):
    """Function from a sample's length to a batch of four samples of 64x64."""

    def make(num_frames, first=0):
        data = MiniSequences(clips, num_frames, max(5, num_frames - 1), crop=64, max_objects=2)
        return collate([data[number] for number in range(first, first + 4)])

    return make


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ATNet(width=8, depths=[1, 1, 1, 1], decoder_width=16)


@pytest.fixture
def adam():
    return functools.partial(torch.optim.Adam, lr=3e-3)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A folder of three tiny clips to train on and three to validate on."""
    spec = {"num_clips": 3, "num_frames": 6, "width": 64, "height": 64, "min_size": 0.35, "max_objects": 2}
    specs = {subset: SyntheticSpec(**spec, stream=subset) for subset in ("train", "val")}
    return synthetic_davis(tmp_path_factory.mktemp("clips"), specs, num_workers=1)


@pytest.fixture(scope="session")
def train_module():
    """train.py as a module."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
