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
from ivos.training.execution import Execution
from ivos.training.initialisation import scale_projections
from ivos.training.losses import SegmentationLoss
from ivos.training.stages import JointStage, MemoryJointStage, MemoryTNetStage, StrokeANetStage
from tests.support.imitated_gpu import GPU, imitated_gpu

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


@pytest.mark.parametrize("kind", [StrokeANetStage, MemoryTNetStage, MemoryJointStage])
def test_checkpointing_recomputes_the_decoders_and_changes_no_gradient(kind, batch):
    gradients, counts = [], []
    for checkpointing in (False, True):
        stage = kind(network(batch), **OPTIONS)
        passes = []
        for part in (stage.network.anet, stage.network.tnet):
            part.decoder.head.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        execution = Execution(checkpointing=checkpointing)
        execution.setup(None, stage, "fit")
        execution.on_train_start(None, stage)
        loss, _ = stage.losses(batch)
        before = len(passes)
        loss.backward()
        counts.append(len(passes) - before)
        gradients.append([p.grad for p in stage.parameters() if p.grad is not None])
        execution.teardown(None, stage, "fit")
        assert "forward" not in {*vars(stage.network.anet.decoder), *vars(stage.network.tnet.decoder)}
    assert counts[0] == 0 < counts[1]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("kind", "settings"), [(StrokeANetStage, {}), (MemoryTNetStage, {}), (MemoryJointStage, {"rounds": 1})]
)
def test_the_loss_on_a_gpu_is_that_of_a_cpu(kind, settings, batch):
    expected, _ = kind(network(batch), **settings, **OPTIONS).losses(batch)
    with imitated_gpu():
        there = {key: v.to(GPU) if isinstance(v, torch.Tensor) else v for key, v in batch.items()}
        loss, metrics = kind(network(batch).to(GPU), **settings, **OPTIONS).losses(there)
        assert all(value.device == GPU for value in (loss, *metrics.values()))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_compilation_replaces_the_decoders_during_training(batch, monkeypatch):
    compiled = []

    def compile_(function):
        compiled.append(function)
        return lambda *inputs: function(*inputs)

    monkeypatch.setattr(torch, "compile", compile_)
    stage, execution = MemoryTNetStage(network(batch), **OPTIONS), Execution(compile=True)
    decoders = stage.network.anet.decoder, stage.network.tnet.decoder
    execution.setup(None, stage, "fit")
    assert compiled == [decoder.forward for decoder in decoders]
    execution.on_train_start(None, stage)
    assert all("forward" in vars(decoder) for decoder in decoders)
    loss, _ = stage.losses(batch)
    loss.backward()
    execution.on_validation_start(None, stage)
    assert not any("forward" in vars(decoder) for decoder in decoders)


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
