"""Tests that impossible options of any stage are refused before training begins."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException

from ivos.data.training.loader import NumberedLoader
from ivos.runtime.command_line import configs, user_error
from ivos.runtime.config import check_values, make_trainer
from ivos.runtime.errors import UserError
from ivos.runtime.overrides import prepare_overrides
from ivos.training.checks import TrainingOptions, check_data, check_stages
from ivos.video.files import DataError
from tests.support.tiny import MODEL, stage

LAST = "stages.joint"  # of three
WRONG = {
    f"{LAST}.data.batch_size=0": f"{LAST}.data.batch_size: must be a whole number from 1, got 0",
    f"{LAST}.data.num_workers=-1": f"{LAST}.data.num_workers: must be null, or a whole number from 0",
    f"{LAST}.data.num_workers=100000": f"{LAST}.data.num_workers: must be null, or a whole number from 0",
    f"{LAST}.data.samples.crop=33": "crop: must be a multiple of 32",
    f"{LAST}.data.samples.crop=abc": f"{LAST}.data.samples.crop: must be a whole number, got 'abc'",
    f"{LAST}.data.samples.zoom=[1]": f"{LAST}.data.samples.zoom: must be a list of 2",
    f"{LAST}.data.samples.num_frames=99": "num_frames=99",
    f"{LAST}.data.samples.user.robot.kernel_size=x": f"{LAST}.data.samples.user.robot.kernel_size",
    f"{LAST}.module.validation_rounds=0": f"{LAST}.module.validation_rounds: must be",
    f"{LAST}.module.seed=4294967296": f"{LAST}.module.seed: must be a whole number from 0 to 4294967295",
    f"{LAST}.module.optimizer.lr=nan": f"{LAST}.module.optimizer.lr: must be a number above 0, got nan",
    f"++{LAST}.module.optimizer.betas=[2,2]": f"{LAST}.module.optimizer: Invalid beta",
    f"++{LAST}.module.optimizer.nosuch=1": f"{LAST}.module.optimizer.nosuch: no such option",
    f"{LAST}.module.optimizer._target_=no.such": f"{LAST}.module.optimizer: no.such cannot be imported",
    f"++{LAST}.module.scheduler.step_size=abc": f"{LAST}.module.scheduler.step_size: must be a whole number",
    f"{LAST}.module.loss.dice=abc": f"{LAST}.module.loss.dice: must be a number from 0, got 'abc'",
    f"{LAST}.module.dropout=off": f"{LAST}.module.dropout: must be true or false, got 'off'",
    f"+{LAST}.module.nosuch=1": f"{LAST}.module.nosuch: no such option",
    f"{LAST}.execution.checkpointing=no": f"{LAST}.execution.checkpointing: must be true or false, got 'no'",
    f"{LAST}.init.imagenet=/nosuch": "init.imagenet=/nosuch: no such file",
    f"{LAST}.trainer.max_epochs=0": f"{LAST}.trainer.max_epochs: must be",
    f"+{LAST}.trainer.limit_val_batches=abc": f"{LAST}.trainer.limit_val_batches: must be a number",
    f"+{LAST}.trainer.nosuch=1": f"{LAST}.trainer.nosuch: no such option; there are: accelerator, ",
    f"+{LAST}.nosuch=1": f"{LAST}.nosuch: no such option; there are: module, init, execution, data, trainer",
    "stages.joint=3": "stages: must be stages by name, each with module, data (and samples in it), init and",
    "trainer.gradient_clip_val=0": "trainer.gradient_clip_val: must be null, or a number above 0, got 0",
    "trainer.devices=0": "trainer.devices: must be a whole number from 1, or one of auto, got 0",
    "session_trainer.num_nodes=0": "session_trainer.num_nodes: must be a whole number from 1, got 0",
    "synthetic.noise=2": "synthetic.noise: must be a number from 0 up to 1, got 2",
    "+synthetic.nosuch=2": "synthetic.nosuch: no such option; there are: split, ",
    "data.val.num_clips=0": "data.val.num_clips: must be a whole number from 1, got 0",
    "seed=-1": "seed: must be a whole number from 0 to 4294967295, got -1",
    "score=off": "score: must be true or false, got 'off'",
    "checkpoint_artifacts=no": "checkpoint_artifacts: must be true or false, got 'no'",
    "session.metric=null": "session.metric",
    "session.robot=null": "session.robot",
    "seed=4294967296": "seed: must be a whole number from 0 to 4294967295",
    "model.width=-4": "model: width, decoder_width and four depths must be whole numbers",
    "model.depths=3": "model",
    "model.use_global=no": "model.use_global: must be true or false, got 'no'",
    "segmenter.feature_batch_size=0": (
        "segmenter.feature_batch_size: must be null, or a whole number from 1, got 0"
    ),
    "segmenter.device_cache_gib=abc": (
        "segmenter.device_cache_gib: must be null, or a number above 0, got 'abc'"
    ),
    "device=tpu": "device: must be null, or one of auto, cpu",
    "device=cuda": "device=cuda, trainer: ",
    "callbacks.pictures.clips=abc": "callbacks.pictures.clips: must be a whole number, got 'abc'",
    "data.root=3": "got 3",
    "+data.nosuch=1": "data.nosuch: no such option; there are: root",
    "data.test.resolution=null": "data.test.resolution",
}


@pytest.fixture(scope="module")
def checked(root):
    """Compose options and check them as a run does; to quickstart's two stages a third is added."""

    def check(tmp_path, *overrides):
        tiny = [each for name in ("anet", "tnet", "joint") for each in stage(name)]
        tiny = [each for each in tiny if "samples.crop" not in each]
        with initialize_config_dir(configs(), version_base="1.3"):
            given = ["+stage@stages.joint=joint", *tiny, *MODEL, f"data.root={root}", f"folder={tmp_path}"]
            cfg = compose("train", prepare_overrides([*given, "session.max_time=null", *overrides]))
        check_values(cfg, TrainingOptions)
        check_stages(cfg, tmp_path)
        check_data(cfg)

    return check


def test_what_is_right_is_not_refused(checked, tmp_path):
    checked(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("override", WRONG)
def test_wrong_options_of_any_stage_are_refused_before_one_trains(override, checked, tmp_path):
    with pytest.raises((UserError, InstantiationException)) as refused:
        checked(tmp_path, override)
    told = user_error(refused.value)
    assert WRONG[override] in str(told)
    assert len(str(told).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_fused_optimiser_that_cannot_clip_is_refused(checked, tmp_path):
    """Lightning would refuse it in the first step; with bf16-mixed the stage clips by itself."""
    fused = [f"+{LAST}.module.optimizer.fused=true", "trainer.gradient_clip_val=1.0"]
    checked(tmp_path, *fused, "trainer.precision=bf16-mixed")
    with pytest.raises(
        UserError, match=rf"{LAST}\.module\.optimizer\.fused=true: a fused optimiser cannot clip"
    ):
        checked(tmp_path, *fused, "trainer.precision=16-mixed")


def test_other_machines_that_nobody_named_are_not_waited_for(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with initialize_config_dir(configs(), version_base="1.3"):
        cfg = compose("train", ["trainer.num_nodes=2", "device=cpu", "folder=x"])
    with pytest.raises(UserError, match=r"trainer\.num_nodes=2: the other machines are not known"):
        make_trainer(cfg.trainer, "cpu", logger=False, enable_checkpointing=False)


class Vanishing:
    """The third picture cannot be read any more."""

    def __getitem__(self, number):
        if number == 2:
            raise DataError("third.jpg: missing or unreadable", ["as PyTorch would not hand it on"])
        return {"number": np.array(number)}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_error_in_a_loaders_process_stays_what_it_is(workers, monkeypatch):
    monkeypatch.setattr("ivos.data.training.loader.collate", lambda samples: samples)
    batches = iter(NumberedLoader(Vanishing(), batch_size=1, num_batches=4, num_workers=workers))
    assert [batch[0]["number"].item() for batch in (next(batches), next(batches))] == [0, 1]
    with pytest.raises(DataError) as error:
        next(batches)
    assert str(error.value) == "third.jpg: missing or unreadable\n  as PyTorch would not hand it on"
