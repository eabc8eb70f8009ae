"""Tests of train.py on several processes, and after the loss of one of them."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from ivos.networks import load
from ivos.runtime.errors import UserError
from ivos.runtime.overrides import prepare_overrides
from ivos.training.checks import check_trainer
from ivos.training.pipeline import with_folder
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
TINY = ["model.width=4", "model.depths=[1,1,1,1]", "model.decoder_width=8", "device=cpu",
        "session.max_interactions=1", "callbacks.last.every_n_train_steps=1"]  # fmt: skip
for stage in ("anet", "tnet"):
    settings = {
        "data.samples.crop": 32, "data.batch_size": 2, "data.num_batches": 2, "data.num_workers": 0,
        "data.val_clips": 3, "module.validation_rounds": 1, "trainer.max_epochs": 1,
    }  # fmt: skip
    TINY += [f"stages.{stage}.{key}={value}" for key, value in settings.items()]
TINY += ["stages.tnet.data.samples.num_frames=3"]


def composed(*overrides, **options):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=prepare_overrides(overrides), **options)


def start(*command, **environment):
    """A command in a process group of its own."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def end(process, timeout=600):
    """Status and output; all that it started is gone afterwards."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    finally:
        for _ in range(2):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                break
    return process.returncode, output


def train(*arguments):
    """Start train.py with tiny settings; those of the session only where it is run."""
    unscored = "score=false" in arguments
    tiny = [one for one in TINY if not (unscored and one.startswith("session."))]
    return start(sys.executable, str(ROOT / "train.py"), *tiny, *arguments)


CHOICES = {
    "default": ([], "auto"),
    "ddp": (["strategy=ddp"], "DDPStrategy"),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("experiment", ["quickstart", "anet", "tnet", "joint"])
def test_strategies_compose_with_every_experiment(experiment, name):
    overrides, expected = CHOICES[name]
    trainer = composed(f"experiment={experiment}", *overrides).trainer
    assert ("strategy" in trainer) == bool(overrides)
    strategy = trainer.get("strategy", inspect.signature(pl.Trainer).parameters["strategy"].default)
    assert (strategy if isinstance(strategy, str) else strategy._target_.split(".")[-1]) == expected


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=bf16-mixed"],
        ["trainer.gradient_clip_val=1.0", "trainer.accumulate_grad_batches=4"],
        ["trainer.num_nodes=2", "trainer.devices=4", "device=cpu", "strategy=ddp"],
        ["trainer.devices=2", "device=cpu", "trainer.sync_batchnorm=true"],
        ["callbacks=[train,ema,early_stopping]"],
    ],
)
def test_choices_make_a_trainer(overrides, monkeypatch):
    from hydra.utils import instantiate

    for name in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    cfg = composed(*overrides)
    cfg = with_folder(cfg, Path("unused"))
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values()]
    trainer = instantiate(cfg.trainer, accelerator="cpu", callbacks=callbacks, logger=False)
    assert trainer.world_size == int(cfg.trainer.devices) * cfg.trainer.num_nodes
    assert {type(callback).__name__ for callback in callbacks} <= {
        type(callback).__name__ for callback in trainer.callbacks
    }


def test_slurm_composes():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    cfg = composed(
        "hydra/launcher=slurm", "trainer.num_nodes=2", "trainer.devices=4", return_hydra_config=True
    )
    launcher = cfg.hydra.launcher
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 4, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["device=gpu", "trainer.devices=64"], "trainer: .*(64|63|gpu)"),
        (["device=cpu", "trainer.precision=16-mixed"], "trainer.precision=16-mixed needs a GPU"),
        (["device=cpu", "trainer.devices=0"], "trainer: .*devices"),
    ],
)
def test_impossible_trainers_are_a_line(overrides, message):
    cfg = composed("folder=unused", *overrides)
    with pytest.raises(UserError, match=message) as error:
        check_trainer(cfg)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_torchrun(root, tmp_path):
    """Both stages and the session; files that anyone can load; one voice."""
    run = start(
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}",
        str(ROOT / "train.py"), *TINY, f"data.root={root}", "trainer.devices=2", "strategy=ddp",
        f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    status, output = end(run)
    assert status == 0, output
    assert output.count("Mean J after each round") == output.count("TNetStage 1/1") == 1
    assert "Warning" not in output, output
    for path in ("anet/final", "anet/best", "tnet/last", "tnet/final"):
        assert load(tmp_path / f"{path}.ckpt").config["width"] == 4
    anet, tnet = (load(tmp_path / stage / "final.ckpt").state_dict() for stage in ("anet", "tnet"))
    encoder = [key for key in anet if key.startswith("anet.encoder")]
    assert all(torch.equal(anet[key], tnet[key]) for key in encoder)


@pytest.mark.slow
def test_srun_makes_one_folder(root, tmp_path):
    """Two tasks as SLURM starts them, without hydra.run.dir."""
    job = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NNODES": "1",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1",
        "SLURM_JOB_NODELIST": "127.0.0.1", "MASTER_PORT": free_port(),
    }  # fmt: skip
    arguments = [*TINY, f"data.root={root}", "trainer.devices=2", "~stages.tnet"]
    tasks = [
        start(
            "env", "-C", str(tmp_path), sys.executable, str(ROOT / "train.py"), *arguments,
            **job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank),
        )
        for rank in range(2)
    ]  # fmt: skip
    results = [end(task) for task in tasks]
    assert [status for status, _ in results] == [0, 0], results
    assert "Mean J after each round" in results[0][1]
    assert not results[1][1].strip(), results[1][1]
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    assert folder.name == "job-4711-0"
    assert load(folder / "anet" / "final.ckpt").config["width"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "killed"])
def test_a_crash_of_one_ends_both(how, root, tmp_path):
    """Long before the processes' own time-out, with its message; the run goes on from its checkpoint."""
    options = [
        f"data.root={root}",
        f"hydra.run.dir={tmp_path}",
        "trainer.devices=2",
        "~stages.tnet",
        "score=false",
    ]
    run = train(*options, "+callbacks.crash._target_=tests.support.two.Crash", f"+callbacks.crash.how={how}")
    while run.poll() is None and not (tmp_path / "anet" / "last.ckpt").exists():
        time.sleep(0.2)
    status, output = end(run, timeout=400)  # gloo's is half an hour
    assert status != 0
    if how == "raises":
        assert "the disk is on fire" in output
    assert "process 1 of 2 was lost. The checkpoints are kept; go on with resume=true" in output
    assert not (tmp_path / "anet" / "final.ckpt").exists()
    status, output = end(train(*options, "resume=true"))
    assert status == 0, output
    assert load(tmp_path / "anet" / "final.ckpt").config["width"] == 4
