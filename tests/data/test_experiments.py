"""Tests that every experiment composes and trains one batch on every data set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from rich.console import Console

from ivos.networks import ATNet, load
from ivos.runtime.overrides import prepare_overrides
from ivos.training.checks import check_data
from ivos.training.pipeline import train_stage

ROOT = Path(__file__).parents[2]
STAGES = {"anet": 1, "tnet": 3, "joint": 3}  # frames of a sample


@pytest.fixture
def roots(davis, youtube_vos, sbd):
    return [f"data.davis_root={davis}", f"data.youtube_vos_root={youtube_vos}", f"data.sbd_root={sbd}"]


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=prepare_overrides(overrides))


def tiny(stage):
    options = {"data.samples.crop": 32, "data.samples.num_frames": STAGES[stage], "data.batch_size": 2,
               "data.num_workers": 0, "data.val_clips": 1, "module.validation_rounds": 1}  # fmt: skip
    return [
        "model.width=4", "model.depths=[1,1,1,1]", "model.decoder_width=8", "score=false",
        *(f"stages.{stage}.{key}={value}" for key, value in options.items()),
    ]  # fmt: skip


def train_a_batch(stage, folder, *overrides):
    cfg = composed(f"experiment={stage}", "+trainer.fast_dev_run=true", *overrides, *tiny(stage))
    check_data(cfg)
    train_stage(cfg, stage, ATNet(4, [1, 1, 1, 1], 8), folder, Console(quiet=True))
    assert load(folder / "final.ckpt").config["width"] == 4


@pytest.mark.parametrize("stage", STAGES)
def test_an_experiment_trains_on_its_mixture(stage, roots, tmp_path):
    train_a_batch(stage, tmp_path / "run", *roots)


@pytest.mark.parametrize("name", ["davis", "youtube_vos", "sbd", "mixture"])
@pytest.mark.parametrize("stage", ["anet", "tnet"])
def test_any_set_feeds_either_stage(stage, name, roots, tmp_path):
    train_a_batch(stage, tmp_path / "run", f"data@data.train={name}", *roots)


@pytest.mark.parametrize("name", ["youtube_vos", "sbd"])
def test_any_set_serves_validation(name, roots, tmp_path):
    options = [f"data@data.val={name}", "data.val.split=train", "stages.tnet.data.val_frames=3"]
    train_a_batch("tnet", tmp_path / "run", *options, *roots)


def test_real_frames_train_a_batch(real_data, tmp_path):
    options = [f"data.root={real_data / 'davis'}", "data.val.split=train", "stages.anet.data.val_frames=1"]
    train_a_batch("anet", tmp_path / "run", *options)


def test_the_mixtures_of_the_experiments(roots):
    anet, tnet = (
        instantiate(composed(f"experiment={stage}", *roots).data.train) for stage in ("anet", "tnet")
    )
    assert list(anet.parts) == ["sbd", "davis", "youtube_vos"]
    assert list(tnet.parts) == ["davis", "youtube_vos"]
    assert {part.videos.split for part in (*anet.parts.values(), *tnet.parts.values())} == {"train"}


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["experiment=anet"], ["sbd_root", "davis_root", "youtube_vos_root"]),
        (["experiment=tnet"], ["davis_root", "youtube_vos_root"]),
        (["experiment=joint"], ["davis_root", "youtube_vos_root"]),
        (["experiment=anet", "data@data.train=sbd"], ["sbd_root"]),
    ],
)
def test_missing_roots_are_named_before_work(overrides, options):
    with pytest.raises(InstantiationException) as error:
        check_data(composed(*overrides))
    assert all(f"data.{option}=FOLDER" in str(error.value.__cause__) for option in options)


def test_what_the_session_needs_is_checked_before_training(roots, tmp_path):
    cfg = composed("experiment=tnet", *roots, f"data.test.root={tmp_path / 'none'}")
    with pytest.raises(InstantiationException, match="not a folder in DAVIS layout"):
        check_data(cfg)


@pytest.mark.slow
def test_a_half_downloaded_set_ends_the_command_before_work(roots, sbd, tmp_path):
    (sbd / "benchmark_RELEASE/dataset/inst/2008_000001.mat").unlink()
    run = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "experiment=anet", *roots, *tiny("anet"),
         f"hydra.run.dir={tmp_path / 'run'}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "error: " in run.stderr
    assert "inst/2008_000001.mat: missing" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "run" / "anet").exists()
