"""Tests of Lightning's options: averages, early stopping, accumulation, precision, memory."""

import copy
import functools
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

from ivos.networks import load
from ivos.training.averaging import WeightAverage
from ivos.training.execution import Execution, fused
from ivos.training.propagation import Propagation
from ivos.training.stages import ANetStage, JointStage, NotFiniteError, TNetStage
from tests.support import two

from .test_stages import train


def parameters(state):
    return {key: value for key, value in state.items() if "num_batches" not in key}


def test_averages_are_what_is_judged_and_what_is_saved(root, tmp_path):
    """After two steps and a decay of 0.5: the mean of both."""
    save = ModelCheckpoint(tmp_path, "best", monitor="val/J", mode="max", enable_version_counter=False)
    last = ModelCheckpoint(tmp_path, "last", every_n_train_steps=1, enable_version_counter=False)
    judged = []

    class Judged(pl.Callback):
        def on_validation_batch_start(self, trainer, module, *_):
            judged.append(copy.deepcopy(module.state_dict()))

    module, found, _ = two.fit(
        "tnet", root, callbacks=[WeightAverage(decay=0.5), Judged(), save, last],
        trainer={"enable_checkpointing": True},
    )  # fmt: skip
    first, second = found["states"]
    expected = {
        f"network.{key}": (first[f"network.{key}"] + second[f"network.{key}"]) / 2
        for key in parameters(module.network.state_dict())
    }
    assert any((expected[key] != second[key]).any() for key in expected)
    saved = [
        {f"network.{key}": value for key, value in load(tmp_path / name).state_dict().items()}
        for name in ("best.ckpt", "last.ckpt")
    ]
    for state in (module.state_dict(), judged[0], *saved):
        for key, value in expected.items():
            torch.testing.assert_close(state[key].numpy(), value, atol=1e-6, rtol=1e-5)


def test_averages_of_a_killed_run_go_on(root, tmp_path):
    last = ModelCheckpoint(tmp_path, "last", every_n_train_steps=1, enable_version_counter=False)
    options = {"trainer": {"enable_checkpointing": True}, "val_clips": 0}
    whole = two.fit("anet", root, epochs=2, callbacks=[WeightAverage(decay=0.9)], val_clips=0)[0]
    two.fit("anet", root, callbacks=[WeightAverage(decay=0.9), last], **options)
    resumed = two.fit(
        "anet", root, epochs=2, callbacks=[WeightAverage(decay=0.9)], val_clips=0,
        checkpoint=tmp_path / "last.ckpt",
    )[0]  # fmt: skip
    state = resumed.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())


def test_an_average_lives_on_the_modules_device_and_reads_nothing_back():
    """On PyTorch's meta device, where reading a value raises; Lightning sets callbacks up before the move."""
    module, meta = pl.LightningModule(), torch.device("meta")
    module.layer = torch.nn.BatchNorm2d(4)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=meta), global_step=0)
    average = WeightAverage(decay=0.5)
    average.setup(trainer, module, "fit")
    module.to("meta")
    for trainer.global_step in (1, 2, 3):
        average.on_train_batch_end(trainer, module, None, None, 0)
    inside = average._average_model.module
    assert {tensor.device for tensor in (*inside.parameters(), *inside.buffers())} == {meta}
    assert int(average._average_model.n_averaged) == 3


@pytest.mark.parametrize("steps", [1, 4])
def test_an_average_is_lightnings(steps):
    """Of weights and statistics; a counter is copied, because its average would mean nothing."""
    torch.manual_seed(0)
    averages = [WeightAverage(decay=0.7), EMAWeightAveraging(decay=0.7)]
    module = pl.LightningModule()
    module.layer = torch.nn.BatchNorm2d(4)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), global_step=0)
    for average in averages:
        average.setup(trainer, module, "fit")
    for trainer.global_step in range(1, steps + 1):
        module.layer(torch.randn(2, 4, 3, 3))
        with torch.no_grad():
            module.layer.weight.normal_()
        for average in averages:
            average.on_train_batch_end(trainer, module, None, None, 0)
    ours, theirs = (average._average_model.state_dict() for average in averages)
    assert ours.keys() == theirs.keys()
    assert ours["module.layer.num_batches_tracked"] == steps
    for key in ours.keys() - {"module.layer.num_batches_tracked"}:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-6, rtol=1e-6)


def test_early_stopping_ends_a_stage(root):
    stop = EarlyStopping("val/J", mode="max", patience=1, min_delta=10)
    trainer = two.fit("anet", root, epochs=9, callbacks=[stop])[2]
    assert trainer.current_epoch == 2


def test_accumulated_batches_are_one(root):
    """Two batches of two are one of four, for as many masks in each."""
    options = {"freeze_batch_norm": True, "val_clips": 0, "feedback_rounds": 0, "stage": OneObject}
    many = two.fit("anet", root, batches=2, trainer={"accumulate_grad_batches": 2}, **options)
    one = two.fit("anet", root, batch_size=4, batches=1, **options)
    assert (many[2].global_step, one[2].global_step) == (1, 1)
    state = one[0].state_dict()
    for key, value in many[0].state_dict().items():
        torch.testing.assert_close(value, state[key], atol=1e-6, rtol=0)


class OneObject(ANetStage):
    """Takes the first object of each sample."""

    def losses(self, batch):
        first = [batch["image"].tolist().index(i) for i in range(len(batch["names"]))]
        return super().losses({**batch, **{k: batch[k][first] for k in ("masks", "interaction", "image")}})


def moved(root, fused, **trainer):
    """The first step of T-Net's parameters, with a learning rate of 1: minus the gradient."""
    before = two.tiny_network().state_dict()
    sgd = functools.partial(torch.optim.SGD, lr=1.0, fused=fused)
    network = two.fit("tnet", root, trainer=trainer, batches=1, val_clips=0, optimizer=sgd)[0].network
    return torch.cat([(p - before[key]).flatten() for key, p in network.named_parameters()])


@pytest.fixture(scope="module")
def unclipped(root):
    return moved(root, False)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [False, True])
def test_clipping_bounds_the_step(fused, precision, root, unclipped):
    """Also with an optimiser of one kernel, which is a GPU's default."""
    assert unclipped.norm() > 2e-3
    step = moved(root, fused, precision=precision, gradient_clip_val=1e-3)
    assert step.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_clipping_by_value_bounds_each_parameter(root, unclipped):
    assert unclipped.abs().max() > 2e-5
    clip = {"gradient_clip_val": 1e-5, "gradient_clip_algorithm": "value"}
    step = moved(root, True, precision="bf16-mixed", **clip)
    assert step.abs().max().item() == pytest.approx(1e-5, rel=0.02)


class LightningClips(TNetStage):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)


def test_clipping_is_lightnings_to_the_bit(root):
    options = {"trainer": {"gradient_clip_val": 1e-3}, "val_clips": 0}
    ours, theirs = (two.fit("tnet", root, stage=stage, **options)[0] for stage in (None, LightningClips))
    state = theirs.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())


def test_clipping_takes_the_norm_that_is_known(root, monkeypatch):
    """The norm of all gradients is computed once in a step, by the check that they are finite."""
    calls, compute = [], torch.nn.utils.get_total_norm

    def counted(gradients, *arguments):
        calls.append(len(gradients))
        return compute(gradients, *arguments)

    monkeypatch.setattr("torch.nn.utils.get_total_norm", counted)
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", None)
    two.fit("tnet", root, trainer={"gradient_clip_val": 1e-3}, batches=2, val_clips=0)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", list(two.KINDS))
def test_bfloat16_is_close_and_weights_stay_float32(kind, root):
    options = {"freeze_batch_norm": True, "batches": 1}
    exact, exact_found, _ = two.fit(kind, root, **options)
    mixed, mixed_found, _ = two.fit(kind, root, trainer={"precision": "bf16-mixed"}, **options)
    assert all(value.dtype != torch.bfloat16 for value in mixed.state_dict().values())
    losses = [found["figures"]["train/loss"] for found in (exact_found, mixed_found)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    state = exact.state_dict()
    assert any(not torch.equal(value, state[key]) for key, value in mixed.state_dict().items())


STAGES = [(ANetStage, {}, 1), (TNetStage, {}, 3), (JointStage, {"rounds": 2}, 3)]


@pytest.mark.parametrize(("kind", "settings", "num_frames"), STAGES)
@pytest.mark.parametrize("option", ["channels_last", "checkpointing"])
def test_memory_options_change_no_step(option, kind, settings, num_frames, make_batch):
    """Nor the batch norms' statistics, which a second forward pass could move again."""
    states = []
    for value in (True, False):
        network = two.no_dropout(two.tiny_network())
        sgd = functools.partial(torch.optim.SGD, lr=0.02)
        stage = kind(network, optimizer=sgd, **settings)
        Execution(**{option: value}).setup(None, stage, "fit")
        train(stage, make_batch(num_frames), 1)
        states.append(network.state_dict())
    if option == "channels_last":
        assert states[0]["anet.encoder.stem.weight"].is_contiguous(memory_format=torch.channels_last)
    for key, value in states[0].items():
        if "num_batches" in key:
            assert value == states[1][key], key
        torch.testing.assert_close(value, states[1][key], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["anet", "tnet"])
def test_compiled_networks_take_the_same_step(kind, root, make_batch):
    """The loss, the weights and what the networks then say differ by rounding; nothing compiled is left."""
    options = {"freeze_batch_norm": True, "batches": 1, "val_clips": 1}
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled, found, _ = two.fit(kind, root, callbacks=[Execution(compile=True)], **options)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    plain, expected, _ = two.fit(kind, root, **options)
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    state = plain.state_dict()
    for key, value in compiled.state_dict().items():
        torch.testing.assert_close(value, state[key], atol=1e-5, rtol=0)
    assert not {"forward", "features"} & {*vars(compiled.network.anet), *vars(compiled.network.tnet)}
    batch = make_batch(2)
    one, other = (propagated(module.network.eval(), batch) for module in (compiled, plain))
    largest = max(logits.abs().max().item() for logits in other)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4 * largest, rtol=0)


@torch.no_grad()
def propagated(network, batch):
    """Logits of the annotated and of the next frame."""
    frames = Propagation(network, batch)
    logits, objects = frames.annotate(0, batch["interaction"])
    (_, after, _), *_ = frames.propagate(0, logits.sigmoid(), [1], [0], [objects])
    return logits, after


class Spoilt(ANetStage):
    """Not a number in the third step: in the loss, or in the gradient alone."""

    def losses(self, batch):
        loss, metrics = super().losses(batch)
        if self.number == 2 and self.where == "loss":
            return loss * torch.nan, metrics
        if self.number == 2:
            weight = self.network.anet.encoder.stem.weight
            loss = loss + 0 * weight.flatten()[0].sub(weight.flatten()[0].detach()).sqrt()
        return loss, metrics


@pytest.mark.parametrize(
    ("where", "what"), [("loss", "the loss is nan"), ("gradient", "the gradient's norm is")]
)
@pytest.mark.parametrize("save", [False, True])
def test_a_fused_optimiser_holds_a_spoilt_step_back_until_somebody_looks(where, what, save, root, tmp_path):
    """As on a GPU: two good steps, the third and those after it do nothing; a checkpoint is not written."""
    kind = type("Spoilt", (Spoilt,), {"where": where})
    states, steps = [], []

    class States(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            states.append({n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad})
            steps.append(trainer.global_step)

    last = ModelCheckpoint(tmp_path, "last", every_n_train_steps=4, enable_version_counter=False)
    with pytest.raises(NotFiniteError, match=f"before step 3 of Spoilt: {what}") as error:
        two.fit(
            "anet", root, stage=kind, batches=6, val_clips=0, feedback_rounds=0,
            optimizer=functools.partial(torch.optim.AdamW, lr=1e-2, fused=True),
            callbacks=[States(), *([last] if save else [])], trainer={"enable_checkpointing": save},
        )  # fmt: skip
    assert str(error.value).splitlines()[1].count("objects") == 2  # the batch's samples
    assert steps == list(range(1, (4 if save else 6) + 1))
    assert any((states[0][name] != value).any() for name, value in states[1].items())
    for later in states[2:]:
        assert all(torch.equal(states[1][name], value) for name, value in later.items())
    assert not list(tmp_path.glob("*.ckpt"))


def test_optimisers_are_fused_on_gpus_unless_told():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    assert fused(adam, gpu)
    assert not fused(adam, cpu)
    assert not fused(functools.partial(adam, fused=False), gpu)
    assert not fused(functools.partial(adam, foreach=True), gpu)
    assert not fused(torch.optim.Adadelta, gpu)
