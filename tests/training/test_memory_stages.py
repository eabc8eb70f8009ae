"""The stages of the network on a frozen encoder."""

import functools

import numpy as np
import pytest
import torch

from ivos.data.batches import collate
from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet, MemoryATNet
from ivos.networks.memory import others_of
from ivos.runtime.errors import UserError
from ivos.training.initialisation import scale_projections
from ivos.training.losses import SegmentationLoss
from ivos.training.stages import JointStage, MemoryJointStage, MemoryTNetStage, StrokeANetStage

OPTIONS = {
    "optimizer": functools.partial(torch.optim.AdamW, lr=3e-3),
    "loss": SegmentationLoss(class_balance=0.0, dice=0.5, hard=0.5),
}


@pytest.fixture(scope="module")
def batch():
    """Two samples of three frames, with one and with two objects: squares that move over noise."""
    samples = []
    user = SimulatedUser(correction_prob=0.0, negatives_everywhere=True)
    for number, objects in enumerate((1, 2)):
        rng = np.random.default_rng(number)
        frames = rng.integers(0, 80, (3, 64, 96, 3), np.uint8)
        masks = np.zeros((objects, 3, 64, 96), np.uint8)
        for one in range(objects):
            for t in range(3):
                rows, columns = slice(10 + 4 * t, 34 + 4 * t), slice(8 + 40 * one, 36 + 40 * one)
                frames[t, rows, columns, one] = 220
                masks[one, t, rows, columns] = 1
        samples.append(
            {
                "name": str(number),
                "frames": frames,
                "masks": masks,
                "interaction": np.stack([user(mask[0], rng) for mask in masks]),
            }
        )
    return collate(samples)


def network(batch):
    torch.manual_seed(0)
    made = MemoryATNet()
    scale_projections(made, batch["frames"])
    return made


@pytest.mark.parametrize(
    ("kind", "share"), [(StrokeANetStage, 0.8), (MemoryTNetStage, 0.92), (MemoryJointStage, 0.9)]
)
def test_a_stage_learns_its_part_alone(kind, share, batch):
    """T-Net starts from label propagation, so that less of its loss can go."""
    stage = kind(network(batch), **OPTIONS)
    before = {name: value.clone() for name, value in stage.network.state_dict().items()}
    own = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    optimizer, found = stage.make_optimizer(own), []
    stage.train()
    for _ in range(12):
        loss, metrics = stage.losses(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert np.mean(found[-3:]) < share * found[0]
    assert all(0 <= float(metrics[name]) <= 1 for name in metrics)
    assert ("iou_round_2" in metrics) is (kind is MemoryJointStage)
    parts = {StrokeANetStage: {"anet"}, MemoryTNetStage: {"tnet"}, MemoryJointStage: {"anet", "tnet"}}[kind]
    changed = {
        name for name, value in stage.network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.split(".")[0] for name in changed} == parts


def test_objects_of_a_sample_know_of_each_other(batch):
    """T-Net's stage lays the objects out by sample, so that the others of each are those of its image."""
    stage = MemoryTNetStage(network(batch), deformed_prob=0.0, **OPTIONS)
    seen = []
    remember = stage.memory_network.tnet.remember

    def spy(features, mask, others):
        seen.append((mask, others))
        return remember(features, mask, others)

    stage.memory_network.tnet.remember = spy
    stage.losses(batch)
    mask, others = seen[0]
    assert len(mask) == 4  # two samples with places for two objects each
    assert not mask[1].any()
    torch.testing.assert_close(others, others_of(mask, 2))
    torch.testing.assert_close(others[2], mask[3])


def test_the_papers_network_is_refused():
    small = ATNet(width=4, depths=(1, 1, 1, 1), decoder_width=8)
    with pytest.raises(UserError, match="model=memory"):
        StrokeANetStage(small, **OPTIONS)
    with pytest.raises(UserError, match="model=memory"):
        MemoryJointStage(small, **OPTIONS)


def test_a_network_on_a_frozen_encoder_is_refused_by_the_papers_joint_stage(batch):
    with pytest.raises(UserError, match="experiment=finetune_memory"):
        JointStage(network(batch), **OPTIONS)


def test_projections_are_scaled_to_the_features(batch):
    made = network(batch)
    features = made.features(made.normalise(batch["frames"].flatten(0, 1)))
    for layer, feature in zip(made.anet.decoder.image, features.pyramid(), strict=True):
        projected = layer(feature)
        assert float(projected.mean((0, 2, 3)).abs().max()) < 1e-3
        assert 0.1 < float(projected.std()) < 3
