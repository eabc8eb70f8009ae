"""Tests of resuming with other options: more epochs continue, others are refused by name."""

import copy
import functools
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from ivos.networks import ATNet, load
from ivos.runtime.command_line import configs
from ivos.runtime.errors import UserError
from ivos.training.initialisation import model_of_checkpoint, start_from
from ivos.training.pipeline import train_stage
from ivos.training.resuming import check_settings, is_done, record
from tests.support.tiny import MODEL, stage

TINY = ("experiment=quickstart", "folder=unused", *MODEL, *stage("anet"), *stage("tnet"))
CONSTANT = ("stages.anet.module.scheduler=null", "stages.tnet.module.scheduler=null")


@functools.cache
def composed(*overrides):
    with initialize_config_dir(configs(), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def options(*changes, base=(*TINY, *CONSTANT)):
    """The options of a run of two tiny stages, some of them changed; composed once."""
    cfg = copy.deepcopy(composed(*base))
    for change in changes:
        name, _, value = change.partition("=")
        OmegaConf.update(cfg, name, yaml.safe_load(value), merge=False, force_add=True)
    return cfg


def begun(folder, *stages, done=(), base=(*TINY, *CONSTANT)):
    """A run's folder as stages leave it that have begun or are done."""
    cfg = options("data.root=/here", base=base)
    for name in stages:
        record(cfg, name, folder / name)
        (folder / name / "last.ckpt").touch()
        if name in done:
            (folder / name / "final.ckpt").touch()
    return folder


@pytest.mark.parametrize(
    "override",
    [
        "stages.anet.trainer.max_epochs=5", "stages.anet.execution.checkpointing=true", "logger={}",
        "stages.anet.data.num_workers=2", "stages.tnet.data.batch_size=7", "score=false",
        "data.root=/moved", "trainer.devices=2", "trainer.log_every_n_steps=1",
    ],
)  # fmt: skip
def test_what_can_be_taken_up(override, tmp_path):
    check_settings(options("data.root=/here", override), begun(tmp_path, "anet"))


@pytest.mark.parametrize(
    ("override", "was"),
    [
        ("stages.anet.data.batch_size=3", "2"), ("stages.anet.data.num_batches=9", "2"),
        ("stages.anet.module.optimizer.lr=0.5", "0.001"), ("model.width=8", "4"), ("seed=7", "0"),
        ("trainer.precision=bf16-mixed", "32-true"), ("stages.anet.data.samples.crop=64", "32"),
        ("trainer.accumulate_grad_batches=2", "1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("done", [(), ("anet",)], ids=["begun", "done"])
def test_what_would_have_no_effect_is_refused_by_its_name(override, was, done, tmp_path):
    folder = begun(tmp_path, "anet", done=done)
    with pytest.raises(UserError, match=f"{folder}: cannot be resumed with different options") as error:
        check_settings(options(override), folder)
    faults = str(error.value).splitlines()[1:]
    assert f"  {override}: stage anet was started with {was}" in faults


def test_an_average_that_was_not_begun_with_is_refused(tmp_path):
    folder = begun(tmp_path, "anet")
    with pytest.raises(UserError, match=r"callbacks\.ema\.decay=0\.999: stage anet was started with null"):
        check_settings(options("callbacks.ema={decay: 0.999}"), folder)


EPOCHS = "stages.anet.trainer.max_epochs"


@pytest.mark.parametrize(
    ("epochs", "state", "message"),
    [
        (0, {"done": ["anet"]}, "has already been trained for more epochs"),
        (
            5,
            {"done": ["anet"], "later": True},
            "stage tnet has already started from the result of stage anet",
        ),
        (5, {"constant": False}, "schedule of stage anet was planned for a different number"),
        (5, {"done": ["anet"], "last": False}, r"stage anet has no last\.ckpt from which it could continue"),
    ],
)
def test_epochs_that_cannot_be_added(epochs, state, message, tmp_path):
    base = (*TINY, *CONSTANT) if state.get("constant", True) else TINY
    names = ["anet", "tnet"] if state.get("later") else ["anet"]
    folder = begun(tmp_path, *names, done=state.get("done", ()), base=base)
    if not state.get("last", True):
        (folder / "anet" / "last.ckpt").unlink()
    cfg = options(f"{EPOCHS}={epochs}", base=base)
    with pytest.raises(UserError, match=f"{EPOCHS}={epochs}: .*{message}"):
        check_settings(cfg, folder)


def test_a_run_that_has_recorded_nothing_is_not_compared(tmp_path):
    folder = begun(tmp_path, "anet", done=["anet"])
    (folder / "anet" / "settings.json").unlink()
    cfg = options("seed=7", f"{EPOCHS}=9")
    check_settings(cfg, folder)
    assert is_done(cfg, "anet", folder / "anet")


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_damaged_record_is_a_line(content, tmp_path):
    folder = begun(tmp_path, "anet")
    (folder / "anet" / "settings.json").write_text(content)
    with pytest.raises(UserError, match=r"anet/settings\.json: .*delete it to resume"):
        check_settings(options(), folder)


def test_more_epochs_go_on_to_the_weights_of_a_longer_run(root, tmp_path):
    """From a stage that was done, whose last checkpoint is of its last step but one."""
    tiny = (
        "experiment=anet", f"data.root={root}", *MODEL, "callbacks.last.every_n_train_steps=3",
        "~callbacks.best", "~callbacks.pictures", "stages.anet.data.val=null",
        *stage("anet", **{"data.samples.short_side": 64, "data.num_batches": 4}),
    )  # fmt: skip

    def trained(folder, epochs):
        cfg = options(f"{EPOCHS}={epochs}", base=tiny)
        torch.manual_seed(0)
        train_stage(cfg, "anet", ATNet(4, [1, 1, 1, 1], 8), folder, Console(quiet=True))
        return load(folder / "final.ckpt").state_dict()

    whole = trained(tmp_path / "whole" / "anet", 2)
    short = trained(tmp_path / "longer" / "anet", 1)
    longer = trained(tmp_path / "longer" / "anet", 2)
    assert any(not torch.equal(value, short[key]) for key, value in longer.items())
    assert all(torch.equal(value, longer[key]) for key, value in whole.items())
    cfg = options(f"{EPOCHS}=2", base=tiny)
    assert is_done(cfg, "anet", tmp_path / "longer" / "anet")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "other.ckpt"
    ATNet(4, [1, 2, 1, 1], 8, normalize="rows", short_side=96, flow=True).save(path)
    return path


FINETUNE = ("experiment=finetune", "folder=unused")


@pytest.mark.parametrize("experiment", ["finetune", "tnet"])
def test_a_checkpoint_decides_the_model(experiment, weights):
    given = [f"checkpoint={weights}", "model.width=4"]
    cfg = model_of_checkpoint(options(*given, base=(f"experiment={experiment}", "folder=unused")), given)
    assert (cfg.model.width, cfg.model.depths, cfg.model.normalize) == (4, [1, 2, 1, 1], "rows")
    assert (cfg.model.short_side, cfg.model.flow) == (96, True)
    network = instantiate(cfg.model)
    start_from(network, weights)
    theirs = load(weights).state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())
    if experiment == "finetune":
        assert cfg.stages.joint.data.samples.short_side == 96


@pytest.mark.parametrize("override", ["model.width=8", "model.normalize=displacements", "model=small"])
def test_a_model_that_contradicts_its_checkpoint_is_refused(override, weights):
    given = [f"checkpoint={weights}", *([] if override == "model=small" else [override])]
    with pytest.raises(
        UserError, match=r"determines the model, and these options contradict it: model\."
    ) as error:
        model_of_checkpoint(options(*given, base=FINETUNE), [override])
    assert Path(weights).name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_the_other_kind_of_network_decides_the_model(weights):
    given = ["checkpoint=base", "model.short_side=128"]
    cfg = model_of_checkpoint(options(*given, base=("experiment=finetune_memory", "folder=unused")), given)
    assert (cfg.model.transfer, cfg.model.short_side, cfg.model.flow) == ("memory", 128, True)
    start_from(instantiate(cfg.model), "base")
    given = [f"checkpoint={weights}", "model=memory"]
    with pytest.raises(UserError, match=r"determines the model \(transfer: paper\), .*: model; omit them"):
        model_of_checkpoint(options(given[0], base=(*FINETUNE, "model=memory")), given)
    cfg = model_of_checkpoint(options(given[0], base=(*FINETUNE, "model=memory")), given[:1])
    assert (cfg.model.width, cfg.model.short_side) == (4, 96)
    start_from(instantiate(cfg.model), weights)


def test_what_a_run_may_choose_beside_its_checkpoint(weights):
    given = [f"checkpoint={weights}", "model.short_side=128", "model.use_global=false"]
    cfg = model_of_checkpoint(options(*given, base=FINETUNE), given)
    assert (cfg.model.short_side, cfg.model.flow) == (128, True)
    assert (cfg.model.use_global, cfg.model.use_local) == (False, True)
    start_from(instantiate(cfg.model), weights)
