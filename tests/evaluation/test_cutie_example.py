"""The adapter for Cutie against a stand-in for its package that copies the last mask it was given."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch

from .conftest import ROOT


class Tracker:
    """The interface of Cutie's InferenceCore."""

    def __init__(self, model, cfg):
        assert cfg == "configuration"
        self.last = None

    def step(self, image, mask=None, objects=None):
        assert image.shape[0] == 3
        assert image.max() <= 1
        if mask is not None:
            assert set(objects) == set(mask.unique().tolist()) - {0}
            self.last = mask
        return torch.nn.functional.one_hot(self.last, 4).permute(2, 0, 1).float()

    def output_prob_to_mask(self, probabilities):
        return probabilities.argmax(dim=0)


@pytest.fixture
def cutie(monkeypatch):
    core, default = types.ModuleType("core"), types.ModuleType("default")
    core.InferenceCore = Tracker
    model = types.SimpleNamespace(cfg="configuration")
    model.to = model.eval = lambda *_: model
    default.get_default_model = lambda: model
    for name in ("cutie", "cutie.inference", "cutie.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "cutie.inference.inference_core", core)
    monkeypatch.setitem(sys.modules, "cutie.utils.get_default_model", default)
    spec = importlib.util.spec_from_file_location(
        "cutie_segmenter", ROOT / "docs/examples/cutie_segmenter.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Cutie(device="cpu")


def test_masks_are_carried_both_ways(cutie):
    cutie.start(np.full((5, 8, 9, 3), 255, np.uint8), 3)
    first, later = np.zeros((2, 8, 9), np.uint8)
    first[2:4, 2:4], later[5:7, 5:7] = 1, 3
    cutie.adopt(1, first)
    masks = cutie.interact(1, [])
    assert masks.shape == (5, 8, 9)
    assert (masks == first).all()
    cutie.adopt(3, later)
    masks = cutie.interact(3, [])
    assert (masks[:3] == first).all()
    assert (masks[3:] == later).all()
    with pytest.raises(ValueError, match="only masks as prompts"):
        cutie.interact(0, [{"point": [0, 0]}])
