"""Tests of train.py: experiments compose and run, killed runs resume exactly, faulty input is named."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from ivos.networks import ATNet, CheckpointError, load
from ivos.runtime.errors import UserError
from ivos.runtime.overrides import prepare_overrides
from ivos.training.initialisation import start_from
from ivos.training.pipeline import train_stage

ROOT = Path(__file__).parents[2]
TINY_MODEL = ("model.width=8", "model.depths=[1,1,1,1]", "model.decoder_width=8")


def small_stage(name, **options):
    """Overrides that make a stage tiny."""
    chosen = {
        "data.samples.crop": 64,
        "data.batch_size": 2,
        "data.num_workers": 0,
        "data.val_clips": 1,
        "module.validation_rounds": 1,
        **options,
    }
    return [f"stages.{name}.{key}={value}" for key, value in chosen.items()]


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=prepare_overrides(overrides))


def command(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("experiment", ["anet", "tnet", "joint"])
def test_an_experiment_runs_a_batch(experiment, root, tmp_path):
    frames = {"anet": 1, "tnet": 3, "joint": 3}[experiment]
    cfg = composed(
        f"experiment={experiment}", f"data.root={root}", "+trainer.fast_dev_run=true", *TINY_MODEL,
        *small_stage(experiment, **{"data.samples.num_frames": frames}),
    )  # fmt: skip
    network = ATNet(8, [1, 1, 1, 1], 8)
    before = OmegaConf.to_container(cfg)
    train_stage(cfg, experiment, network, tmp_path, Console(quiet=True))
    assert OmegaConf.to_container(cfg) == before
    loaded = load(tmp_path / "final.ckpt")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_a_step_out_of_memory_says_what_is_smaller_and_goes_on(root, tmp_path, monkeypatch):
    """After the second step, whose checkpoint stands."""
    options = (
        "experiment=anet", f"data.root={root}", *TINY_MODEL, "callbacks.last.every_n_train_steps=1",
        *small_stage("anet", **{"data.num_batches": 4, "trainer.max_epochs": 1, "data.val_frames": 2}),
    )  # fmt: skip
    forward, calls = torch.nn.functional.binary_cross_entropy_with_logits, []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", full)
    folder = tmp_path / "run" / "anet"
    with pytest.raises(
        UserError, match=r"stages.anet: out of memory. Set stages.anet.execution.checkpointing"
    ) as error:
        train_stage(composed(*options), "anet", ATNet(8, [1, 1, 1, 1], 8), folder, Console(quiet=True))
    assert f"go on with resume=true hydra.run.dir={folder.parent};" in str(error.value)
    assert "data.batch_size (now 2)" in str(error.value)
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 2
    cfg = composed(*options, "stages.anet.execution.checkpointing=true")  # as the message says
    assert cfg.stages.anet.execution.checkpointing is True
    train_stage(cfg, "anet", ATNet(8, [1, 1, 1, 1], 8), folder, Console(quiet=True))
    assert (folder / "final.ckpt").exists()


def test_the_papers_hyper_parameters():
    anet, tnet = composed("experiment=anet"), composed("experiment=tnet")
    for cfg, stage in ((anet, anet.stages.anet), (tnet, tnet.stages.tnet)):
        assert cfg.model.width == 64
        assert stage.module.optimizer == {
            "_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-5, "weight_decay": 0,
        }  # fmt: skip
        optimizer = instantiate(stage.module.optimizer)([torch.nn.Parameter(torch.zeros(1))])
        assert optimizer.defaults["lr"] == 1e-5
        assert optimizer.defaults["weight_decay"] == 0
        assert tuple(optimizer.defaults["betas"]) == (0.9, 0.999)
        assert optimizer.defaults["eps"] == 1e-8
        assert (stage.module.scheduler.step_size, stage.module.scheduler.gamma) == (20, 0.2)
        assert stage.module.loss.class_balance == 1
        assert stage.module.loss.dice == 0
    data = anet.stages.anet.data
    assert (anet.stages.anet.trainer.max_epochs, data.num_batches, data.batch_size) == (60, 7000, 6)
    data = tnet.stages.tnet.data
    assert (tnet.stages.tnet.trainer.max_epochs, data.num_batches, data.batch_size) == (40, 6000, 8)
    assert (data.samples.num_frames, data.samples.window) == (5, 7)
    assert tnet.stages.tnet.module.local_weight == 0.1


TINY_RUN = ("score=false", "callbacks.last.every_n_train_steps=1", *TINY_MODEL,
            *small_stage("anet", **{"data.num_batches": 5, "trainer.max_epochs": 1}),
            *small_stage("tnet", **{"data.num_batches": 8, "trainer.max_epochs": 3}),
            "stages.tnet.data.samples.num_frames=3")  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(root, tmp_path):
    options = (f"data.root={root}", *TINY_RUN)
    undisturbed = command(f"hydra.run.dir={tmp_path / 'whole'}", *options)
    assert undisturbed.wait() == 0, undisturbed.stderr.read()

    folder = tmp_path / "killed"
    moment = ("+callbacks.killed._target_=tests.support.two.Killed", "+callbacks.killed.step=12")
    killed = command(f"hydra.run.dir={folder}", *options, *moment)  # within the second epoch of T-Net
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors
    assert not (folder / "tnet" / "final.ckpt").exists()
    assert torch.load(folder / "tnet" / "last.ckpt", weights_only=True)["global_step"] == 12

    resumed = command(f"hydra.run.dir={folder}", "resume=true", *options)
    out, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "Stage anet: already finished" in out
    one, other = (load(tmp_path / run / "tnet" / "final.ckpt").state_dict() for run in ("whole", "killed"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_weights_of_another_width_are_refused(tmp_path):
    ATNet(4, [1, 1, 1, 1], 8).save(tmp_path / "other.ckpt")
    with pytest.raises(
        ValueError, match=r"other\.ckpt: a checkpoint of the network .*'width': 4.*'width': 8"
    ):
        start_from(ATNet(8, [1, 1, 1, 1], 8), tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no such file"):
        start_from(ATNet(8, [1, 1, 1, 1], 8), tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.anet.data.samples.crop=100"], "crop: must be a multiple of 32"),
        (["resume=true"], "resume=true: name the folder"),
        (["checkpoint=none.ckpt"], "none.ckpt: no such file"),
        (["stages.tnet.data.samples.num_frames=9"], "num_frames=9"),
    ],
)
@pytest.mark.slow
def test_bad_input_is_a_line_without_a_traceback(overrides, message, root, tmp_path):
    options = [f"data.root={root}", *TINY_RUN[:-1], *overrides]
    if "resume=true" not in overrides:
        options.append(f"hydra.run.dir={tmp_path}")
    run = command(*options)
    _, errors = run.communicate()
    assert run.returncode == 2, errors
    assert f"error: {message}" in errors or message in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_both_stages_and_the_session_from_the_command_line(root, tmp_path):
    run = command(f"data.root={root}", f"hydra.run.dir={tmp_path}", *TINY_RUN, "score=true")
    out, errors = run.communicate()
    assert run.returncode == 0, errors
    assert "Warning" not in errors
    assert "Mean J after each round" in out
    assert {"anet", "tnet", "session", ".hydra"} <= {path.name for path in tmp_path.iterdir()}
    for stage in ("anet", "tnet"):
        files = {path.name for path in (tmp_path / stage).iterdir()}
        assert {"best.ckpt", "last.ckpt", "final.ckpt", "curve.png", "metrics.csv"} <= files
        for name in ("best", "last", "final"):
            assert load(tmp_path / stage / f"{name}.ckpt").config["width"] == 8
    scores = (tmp_path / "session" / "scores.csv").read_text().splitlines()
    assert scores[0] == "segmenter,round 1,round 2,round 3,round 4,propagated 1,propagated 4"
    names = ["trained", "untrained", "strokes dilated", "annotated mask copied"]
    assert [line.lstrip('"').startswith(name) for line, name in zip(scores[1:], names, strict=True)] == [
        True
    ] * 4

    again = command(f"data.root={root}", f"hydra.run.dir={tmp_path}", *TINY_RUN, "score=true", "resume=true")
    out, errors = again.communicate()  # as after a kill within the session
    assert again.returncode == 0, errors
    assert "Mean J after each round" in out
    assert (tmp_path / "session" / "scores.csv").read_text().splitlines() == scores


def test_a_run_is_not_resumed_with_another_network(root):
    cfg = composed("experiment=anet", f"data.root={root}", *TINY_MODEL, *small_stage("anet"))
    stage = instantiate(cfg.stages.anet.module, ATNet(8, [1, 1, 1, 1], 8))
    begun = {"network": ATNet(4, [1, 1, 1, 1], 8).config, "processes": 1}
    with pytest.raises(UserError, match=r"a different network; resume it with model\.width=4$"):
        stage.on_load_checkpoint({"ivos": begun})
