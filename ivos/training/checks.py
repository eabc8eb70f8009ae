"""Checks of a run's options, data and folder before the training starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

from ivos.data.synthetic import open_synthetic
from ivos.evaluation.progress import session_trainer
from ivos.networks import load
from ivos.runtime.config import Device, accelerator, check_resume, make_trainer
from ivos.runtime.errors import UserError
from ivos.runtime.options import Options, Part, Rule, Seed, TextOrNull, options_of
from ivos.runtime.unused_options import Effects, synthetic_effect
from ivos.training.building import make_data, make_module
from ivos.training.checkpoints import LAST, check_last
from ivos.training.resuming import FINAL, check_settings, counts_steps, is_done
from ivos.training.stages.base import Stage


def _is_stage(value: Any) -> bool:
    parts = ("module", "data", "init", "trainer")
    whole_one = isinstance(value, dict) and all(isinstance(value.get(part), dict) for part in parts)
    return whole_one and isinstance(value["data"].get("samples"), dict)


_STAGES = Rule(
    lambda value: isinstance(value, dict) and all(map(_is_stage, value.values())),
    "stages by name, each with module, data (and samples in it), init and trainer",
)


@dataclass
class StageOptions(Options):
    """The options of a stage; those of its trainer are in addition to the run's."""

    module: Part
    init: Part
    execution: Part
    data: Part
    trainer: Annotated[dict[str, Any], options_of("pytorch_lightning.Trainer")]


@dataclass
class DataOptions(Options):
    """The folders of data sets, and the sets that are chosen; see docs/guides/datasets.md."""

    root: TextOrNull
    davis_root: TextOrNull
    youtube_vos_root: TextOrNull
    sbd_root: TextOrNull
    stills_root: TextOrNull
    bl30k_root: TextOrNull
    mose_root: TextOrNull
    vost_root: TextOrNull
    lvos_root: TextOrNull
    sav_root: TextOrNull
    train: Part | None
    val: Part | None
    test: Part | None


@dataclass
class TrainingOptions(Options):
    """The options of train.py, whose values ``conf/train.yaml`` gives; parts have their own."""

    open = True

    model: Part
    synthetic: Annotated[dict[str, Any], options_of(open_synthetic)]
    data: DataOptions
    stages: Annotated[dict[str, StageOptions], _STAGES]
    trainer: Part
    session_trainer: Part
    callbacks: Part
    logger: Part
    session: Part
    segmenter: Part
    folder: str
    seed: Seed
    device: Device
    checkpoint: TextOrNull
    resume: bool
    checkpoint_artifacts: bool
    optimized_metric: TextOrNull
    score: bool


def effects(cfg: DictConfig) -> Effects:
    """Return which options depend on others; see :func:`ivos.runtime.unused_options.unused_faults`."""
    scored = (cfg.score, "score=false skips the final session; omit this option, or set score=true")
    return {
        **dict.fromkeys(("session", "segmenter", "session_trainer"), scored),
        "synthetic": synthetic_effect(cfg),
    }


def check_folder(cfg: DictConfig, folder: Path) -> None:
    """Check that the folder of a run is empty or that the run in it can be resumed.

    Args:
        cfg: Configuration of the run.
        folder: Folder of the run.

    Raises:
        UserError: The folder is in use, its checkpoints are damaged, or there is no stage to train.
    """
    check_resume(cfg.resume, "hydra.run.dir", "hydra.sweep.dir")
    if cfg.checkpoint_artifacts and "wandb" not in cfg.logger:
        raise UserError("checkpoint_artifacts=true: only W&B stores artifacts; add it: logger=[csv,wandb]")
    if not cfg.stages:
        raise UserError(
            "no stage to train: choose an experiment, or add a stage, such as +stage@stages.anet=anet"
        )
    if not cfg.resume and any((folder / str(name)).exists() for name in cfg.stages):
        raise UserError(f"{folder} already contains a run; go on with resume=true, or choose another folder")
    check_settings(cfg, folder)
    for name in map(str, cfg.stages):
        if is_done(cfg, name, folder / name):
            load(folder / name / FINAL)
        elif (last := folder / name / LAST).exists():
            check_last(last)


def check_data(cfg: DictConfig) -> None:
    """Open the data of each stage and of the final session, and check the initial weights.

    Raises:
        UserError: There are no data for the final session.
        InstantiationException: Data cannot be opened; the cause is a :class:`UserError`.
    """
    for name, stage in cfg.stages.items():
        instantiate(stage.init)
        make_data(cfg, str(name)).check()
    if cfg.score:
        if not cfg.data.test:
            raise UserError("data.test: the final session needs clips; name a dataset, or set score=false")
        instantiate(cfg.data.test)


def check_stages(cfg: DictConfig, folder: Path) -> None:
    """Check the options by creating all objects of the stages and of the final session with a small network.

    Args:
        cfg: Configuration of the run.
        folder: Folder of the run.

    Raises:
        UserError: An option is invalid, or options contradict each other.
        InstantiationException: An option is invalid; the cause is the error of the class that it belongs to.
    """
    with torch.device("meta"):
        instantiate(cfg.model)  # the meta device needs no memory for the weights
    size = {"width": 4, "depths": [1, 1, 1, 1], "decoder_width": 8}
    small = instantiate(cfg.model, **{name: value for name, value in size.items() if name in cfg.model})
    for name, stage in cfg.stages.items():
        optimizer = _make_optimizer(f"stages.{name}.module", make_module(cfg, str(name), small))
        if (
            cfg.trainer.precision == "16-mixed"
            and cfg.trainer.gradient_clip_val
            and optimizer.defaults.get("fused")
        ):
            raise UserError(
                f"stages.{name}.module.optimizer.fused=true: a fused optimiser cannot clip gradients with "
                "trainer.precision=16-mixed; omit fused, or set trainer.precision=bf16-mixed"
            )
        at_work = OmegaConf.merge(cfg, {"folder": str(folder / str(name))})
        for part in (*at_work.callbacks.values(), at_work.stages[name].execution):
            instantiate(part) if part else None
        make_trainer(
            at_work.trainer, accelerator(cfg), **stage.trainer, logger=False, enable_checkpointing=False
        )
    if cfg.score:
        instantiate(cfg.segmenter, small)
        session_trainer(cfg.session_trainer, accelerator(cfg), logger=False)


def _make_optimizer(name: str, stage: Stage) -> Optimizer:
    """Create a stage's optimiser and schedule as a check; Lightning creates them only after the data."""
    part = "optimizer"
    try:
        optimizer = stage.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        part = "scheduler"
        if stage.make_scheduler is not None:
            given = getattr(stage.make_scheduler, "keywords", {})
            steps = (
                {"total_steps": given.get("total_steps") or 100} if counts_steps(stage.make_scheduler) else {}
            )
            stage.make_scheduler(optimizer, **steps)
        return optimizer
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{name}.{part}: {' '.join(str(error).split())}") from error


def check_trainer(cfg: DictConfig, in_sweep: bool = False) -> tuple[int, int]:
    """Check the trainer's options by creating a trainer.

    Args:
        cfg: Configuration of the run.
        in_sweep: Whether the run belongs to a sweep.

    Returns:
        The rank of this process, and the number of processes.

    Raises:
        UserError: The trainer's options contradict each other, or this machine does not support them.
    """
    trainer = make_trainer(cfg.trainer, accelerator(cfg), logger=False, enable_checkpointing=False)
    if cfg.trainer.precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; use bf16-mixed on a CPU")
    if trainer.strategy.launcher and trainer.world_size > 1 and in_sweep:
        raise UserError(
            f"trainer.devices={cfg.trainer.devices} in a sweep: start the processes with "
            "hydra/launcher=slurm, or use one device per run"
        )
    return trainer.global_rank, trainer.world_size
