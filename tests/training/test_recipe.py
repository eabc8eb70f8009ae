"""Tests of the recipes of the shipped weights and of fine-tuning them."""

import csv

import cv2
import numpy as np
import pytest
import torch

from ivos.data.synthetic import SyntheticSpec, render_clip
from ivos.networks import load
from tests.support.tiny import train

ONE = ("score=false", "trainer.precision=32-true", "trainer.log_every_n_steps=1", "seed=0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Six pictures to paste together, the same on every machine but for the last bits of a JPEG decoder."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        frames, _ = render_clip(SyntheticSpec(num_frames=1, width=320, height=240, seed=number), 0)
        cv2.imwrite(str(folder / f"{number}.png"), np.ascontiguousarray(frames[0][..., ::-1]))
    return folder


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_the_first_steps_of_pretraining_are_the_same_again(pictures, tmp_path):
    """And as they were when this was written: data, strokes and networks have not changed."""
    found = []
    for run in ("first", "again"):
        folder = tmp_path / run
        code, _, errors = train(
            tmp_path, "experiment=pretrain", f"pictures={pictures}", f"hydra.run.dir={folder}", *ONE,
            "~stages.tnet", "~stages.joint",
            "data.val.num_clips=1", "stages.anet.data.batch_size=2",
            "stages.anet.data.num_batches=3", "stages.anet.trainer.max_epochs=1",
            "stages.anet.data.val_clips=1",
        )  # fmt: skip
        assert code == 0, errors
        found.append(losses(folder / "anet"))
    assert found[0] == found[1]
    assert found[0] == pytest.approx(FIRST_STEPS, rel=2e-2)


FIRST_STEPS = [1.1509, 1.2520, 0.9939]


@pytest.mark.slow
def test_fine_tuning_begins_with_the_shipped_weights(root, tmp_path):
    folder = tmp_path / "run"
    small = {
        "data.batch_size": 2, "data.num_batches": 2, "data.samples.crop": 64, "data.samples.short_side": 64,
        "data.val_clips": 1, "data.val_frames": 3, "module.validation_rounds": 1,
    }  # fmt: skip
    code, _, errors = train(
        tmp_path, "experiment=finetune", "checkpoint=small", f"data.root={root}", f"hydra.run.dir={folder}",
        *ONE, "callbacks.last.every_n_train_steps=1",
        *(f"stages.joint.{name}={value}" for name, value in small.items()),
    )  # fmt: skip
    assert code == 0, errors
    assert load(folder / "joint" / "final.ckpt").short_side == load("small").short_side == 160
    assert load(folder / "joint" / "last.ckpt").short_side == 160
    before, after = load("small").state_dict(), load(folder / "joint" / "final.ckpt").state_dict()
    learnt = [key for key, value in before.items() if value.is_floating_point() and "running" not in key]
    changes = torch.stack([(after[key] - before[key].float()).abs().max() for key in learnt])
    assert (changes > 0).float().mean() > 0.9
    assert changes.max() < 0.01  # two steps of a learning rate of at most 3e-4
