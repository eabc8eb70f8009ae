"""Tests of what each stage trains."""

import copy
import functools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import TorchSyncBatchNorm
from torch import nn
from torch.utils.data import DataLoader

from ivos.interaction.simulate import SimulatedUser
from ivos.networks import ATNet, load
from ivos.runtime.errors import UserError
from ivos.training.corrections import CorrectionPool
from ivos.training.initialisation import similarity_spread, tnet_from_anet, whiten_local
from ivos.training.stages import ANetStage, JointStage, NotFiniteError, TNetStage

STAGES = {
    "anet": (ANetStage, {}, ("anet.encoder.", "anet.decoder."), 1),
    "anet in the loop": (ANetStage, {"feedback_rounds": 1}, ("anet.encoder.", "anet.decoder."), 1),
    "tnet": (TNetStage, {}, ("tnet.", "anet.converter."), 3),
    "tnet beyond the local transfer": (
        TNetStage,
        {"train_local": False},
        (
            *(f"tnet.{part}." for part in ("encoder.stages.1", "encoder.stages.2", "encoder.stages.3")),
            "tnet.fuse.",
            "tnet.decoder.",
            "anet.converter.",
        ),
        3,
    ),
    "tnet alone": (TNetStage, {"train_converter": False}, ("tnet.",), 3),
    "joint": (JointStage, {"rounds": 2}, ("anet.", "tnet."), 3),
}


def train(stage, batch, steps):
    """Steps on one batch; the losses."""
    optimizer = stage.make_optimizer([p for p in stage.parameters() if p.requires_grad])
    stage.train()
    losses = []
    for number in range(steps):
        torch.manual_seed(number)
        loss, _ = stage.losses(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_changes_exactly_its_parameters(name, network, make_batch, adam):
    kind, options, learns, num_frames = STAGES[name]
    before = copy.deepcopy(network.state_dict())
    stage = kind(network, optimizer=adam, **options)
    train(stage, make_batch(num_frames), 2)
    after = network.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    parameters = {key for key, _ in network.named_parameters()}
    assert changed & parameters == {key for key in parameters if key.startswith(learns)}
    moved = {key.removesuffix(".running_mean") for key in changed - parameters if "running_mean" in key}
    if kind is TNetStage:  # A-Net's batch norms stand still, the converter's too
        assert moved
        assert all(key.startswith("tnet.") for key in moved)
    elif kind is ANetStage:
        assert moved
        assert all(key.startswith("anet.") for key in moved)
        assert any(key.startswith("anet.converter.") for key in moved)  # they stand still from now on


def test_frozen_batch_norm_stands_still_everywhere(network, make_batch, adam):
    before = copy.deepcopy(dict(network.named_buffers()))
    train(JointStage(network, rounds=2, optimizer=adam, freeze_batch_norm=True), make_batch(3), 1)
    assert all(torch.equal(value, before[key]) for key, value in network.named_buffers())


def test_the_mask_hands_the_gradient_on_only_if_asked(network, make_batch, adam):
    batch = make_batch(3)
    gradients = []
    for asked in (True, False):
        torch.manual_seed(0)
        stage = TNetStage(copy.deepcopy(network), optimizer=adam, mask_gradient=asked)
        stage.train()
        loss, _ = stage.losses(batch)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in stage.parameters() if p.grad is not None]))
    assert not torch.allclose(*gradients)


def test_a_local_transfer_that_is_kept_gives_the_same_features(network, make_batch, adam):
    images = network.normalise(make_batch(1)["frames"][:, 0])
    with torch.no_grad():
        before = network.tnet.eval().features(images)
        stage = TNetStage(network, optimizer=adam, train_local=False)
    train(stage, make_batch(3), 2)
    with torch.no_grad():
        after = network.tnet.eval().features(images)
    assert torch.equal(after.local, before.local)
    assert not torch.allclose(after.r5, before.r5)


def test_checkpointing_changes_no_gradient(network, make_batch, adam):
    batch = make_batch(3)
    gradients = []
    for checkpointing in (True, False):
        stage = TNetStage(copy.deepcopy(network), optimizer=adam, freeze_batch_norm=True)
        stage.checkpointing = checkpointing
        stage.train()
        torch.manual_seed(0)
        stage.losses(batch)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in stage.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "first", "last"), [("anet", 0.6, 0.05), ("tnet", 0.6, 0.1)])
def test_one_batch_overfits(name, first, last, network, make_batch, adam):
    kind, _, _, num_frames = STAGES[name]
    losses = train(kind(network, optimizer=adam), make_batch(num_frames), 400)
    assert losses[0] > first
    assert sum(losses[-10:]) / 10 < last


def test_a_user_in_the_loop_corrects_the_prediction(network, make_batch, adam):
    stage = ANetStage(network, optimizer=adam, feedback_rounds=1, user=SimulatedUser())
    batch = make_batch(1)
    images = network.normalise(batch["frames"][:, 0])[batch["image"]]
    rngs = stage.randomness(batch)
    channels = stage._corrected(images, batch["masks"][:, 0], batch["interaction"], rngs)
    assert set(channels[:, 0].unique().tolist()) <= {0.0, 1.0}  # the prediction, no longer 0.5
    assert (channels[:, 1] >= batch["interaction"][:, 1] - 1e-6).all()  # old strokes stay
    assert (channels[:, 2][channels[:, 0] == 0] == 0).all()


def test_nan_stops_before_the_weights_are_touched_and_names_the_batch(network, make_batch, adam, tmp_path):
    with torch.no_grad():
        network.anet.encoder.stem.weight.fill_(torch.nan)
    before = copy.deepcopy(network.state_dict())
    stage = ANetStage(network, optimizer=adam)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    batch = make_batch(1)
    with pytest.raises(NotFiniteError, match="the loss is nan") as error:
        trainer.fit(stage, DataLoader([batch], batch_size=None))
    assert all(name in str(error.value) for name in batch["names"])
    after = dict(network.named_parameters())
    stem = "anet.encoder.stem.weight"
    assert all(torch.equal(p, before[key]) for key, p in after.items() if key != stem)


def test_nan_names_the_last_good_checkpoint(network, make_batch, adam, tmp_path):
    class Poisoned(ANetStage):
        def losses(self, batch):
            loss, figures = super().losses(batch)
            return loss * (torch.nan if self.number == 2 else 1), figures

    last = pl.callbacks.ModelCheckpoint(tmp_path, "last", every_n_train_steps=1)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[last],
    )  # fmt: skip
    with pytest.raises(NotFiniteError, match=r"before step 3 of Poisoned: the loss is nan") as error:
        trainer.fit(Poisoned(network, optimizer=adam), DataLoader([make_batch(1)] * 4, batch_size=None))
    assert f"earlier checkpoints: {tmp_path / 'last.ckpt'}" in str(error.value)
    saved = load(tmp_path / "last.ckpt").state_dict()
    assert all(torch.equal(p, saved[key]) for key, p in network.named_parameters())  # no step since


@pytest.mark.slow
def test_a_trained_full_size_network_is_released_as_the_authors_did():
    """One step on a tiny crop; 912 keys and shapes; equal outputs when it comes back."""
    keys = json.loads((Path(__file__).parents[1] / "golden" / "checkpoint_keys.json").read_text())
    torch.manual_seed(0)
    network = ATNet(normalize="rows")
    before = network.tnet.fuse.weight.detach().clone()
    masks = torch.zeros(2, 2, 1, 64, 64, dtype=torch.uint8)
    masks[..., 16:40, 16:40] = 1
    batch = {
        "names": ["one", "two"], "frames": torch.randint(256, (2, 2, 3, 64, 64), dtype=torch.uint8),
        "masks": masks, "interaction": torch.rand(2, 3, 64, 64), "image": torch.arange(2),
    }  # fmt: skip
    stage = JointStage(network, rounds=1, optimizer=functools.partial(torch.optim.Adam, lr=1e-4))
    train(stage, batch, 1)
    assert (network.tnet.fuse.weight != before).any()
    released = network.to_released()
    assert {(key, tuple(value.shape), str(value.dtype)) for key, value in released.items()} == {
        (key, tuple(shape), f"torch.{dtype}") for key, shape, dtype in keys
    }
    back, network = ATNet.from_released(released), network.eval()
    image, interaction = network.normalise(batch["frames"][:1, 0]), batch["interaction"][:1]
    with torch.no_grad():
        outputs = []
        for each in (network, back):
            logits, objects = each.anet(image, interaction)
            features = each.tnet.features(image)
            memory = features.r5[:, None], objects[:, None]
            outputs.append((logits, *each.tnet(features, features, logits.sigmoid(), *memory)))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*outputs, strict=True))


def test_whitened_projection_gives_white_features(network):
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    whiten_local(network, frames, sharpness=20)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"tnet.local_projection.weight", "tnet.local_projection.bias"}
    with torch.no_grad():
        local = network.tnet.train().features(network.normalise(frames.flatten(0, 1))).local
    samples = local.transpose(0, 1).flatten(1)
    assert samples.mean(1).abs().max() < 1e-2
    variances = torch.linalg.eigvalsh(torch.cov(samples)) / 20
    assert variances.max() < 1.01
    assert variances.median() > 0.5  # the rest is too weak to be more than noise


def test_tnet_starts_from_anet_as_well_after_synchronised_batch_norms(network):
    """Lightning puts synchronised batch norms in the place of the network's, and then a class of its own."""
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 2, 3, 64, 64), dtype=torch.uint8)
    sync = TorchSyncBatchNorm()
    reverted = sync.revert(sync.apply(copy.deepcopy(network)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in reverted.modules())
    for each in (network, reverted):
        tnet_from_anet(each, frames, spread=2.0)
        assert similarity_spread(each, frames) == pytest.approx(2.0, rel=0.02)
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in reverted.state_dict().items())


def test_users_in_processes_draw_the_same_strokes(make_batch):
    """In two rounds one after another, since a user's randomness goes on from round to round."""
    batch = make_batch(1)
    masks, wrong = batch["masks"][:, 0], batch["masks"][:, 0].roll(9, 2) == 1
    found = []
    for processes in (0, 2):
        pool = CorrectionPool()
        pool.start(processes)
        rngs = [np.random.default_rng([5, number]) for number in range(len(masks))]
        first = pool.correct(SimulatedUser(), wrong, masks, batch["interaction"], rngs)
        found.append((first, pool.correct(SimulatedUser(), wrong, masks, first, rngs)))
        assert (pool._executor is not None) == (processes > 0)
        assert copy.deepcopy(pool).processes == 0  # a stage is copied for the average of its weights
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert (found[0][0] != batch["interaction"]).any()
    for process in list(pool._executor._processes):
        os.kill(process, signal.SIGKILL)
    with pytest.raises(UserError, match=r"corrections of simulated users was killed.*smaller num_workers"):
        pool.correct(SimulatedUser(), wrong, masks, batch["interaction"], rngs)


def test_dropout_can_be_left_out(network, adam):
    for dropout in (True, False):
        stage = ANetStage(network, optimizer=adam, dropout=dropout).train()
        modules = [module for module in network.anet.decoder.modules() if isinstance(module, nn.Dropout)]
        assert {module.training for module in modules} == {dropout}
        assert stage.network.anet.decoder.head[1].training  # the batch norm goes on
