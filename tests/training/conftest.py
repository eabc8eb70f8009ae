"""Fixtures of the training tests: tiny clips, samples and networks."""

import functools

import pytest
import torch

from ivos.data.batches import collate
from ivos.data.synthetic import SyntheticSpec, synthetic_davis
from ivos.data.training import MiniSequences


@pytest.fixture
def make_batch(clips):
    """Function from a sample's length to a batch of four samples of 64x64."""

    def make(num_frames, first=0):
        data = MiniSequences(clips, num_frames, max(5, num_frames - 1), crop=64, max_objects=2)
        return collate([data[number] for number in range(first, first + 4)])

    return make


@pytest.fixture
def adam():
    return functools.partial(torch.optim.Adam, lr=3e-3)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A folder of three tiny clips to train on and three to validate on."""
    spec = {"num_clips": 3, "num_frames": 6, "width": 64, "height": 64, "min_size": 0.35, "max_objects": 2}
    specs = {split: SyntheticSpec(**spec, stream=split) for split in ("train", "val")}
    return synthetic_davis(tmp_path_factory.mktemp("clips"), specs, num_workers=1)
