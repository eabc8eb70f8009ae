"""Train A-Net and T-Net: ``uv run train.py`` or ``uv run train.py experiment=anet data.root=FOLDER``."""

import copy
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import hydra
import pandas as pd
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.console import Console

from ivos import loggers, sweeps
from ivos.cli import agree_on_start_time, is_first_process, quiet_libraries, reported
from ivos.compare import compare, comparison_table
from ivos.errors import UserError
from ivos.evaluation.peers import Peers
from ivos.networks import ATNet
from ivos.training import CopiedMask, DilatedStrokes, start_from, whole


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """A run, or one of a sweep, in which a failure leaves the others their turn."""
    quiet_libraries()
    if in_sweep():
        return sweeps.one_run(run, cfg)
    with reported():
        return run(cfg)


def in_sweep() -> bool:
    """Whether this is one of many runs (-m)."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def run(cfg: DictConfig) -> float | None:
    """Check, train stage by stage, score; the figure that a sweep is about, if there is one."""
    console = Console(highlight=False, quiet=not is_first_process())
    folder = Path(HydraConfig.get().runtime.output_dir)
    rank, processes = check_trainer(cfg)
    if rank == 0:  # before anything is loaded; the others would find what this one began
        check(cfg, folder)
    check_data(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    network: ATNet = instantiate(cfg.model)
    untrained = copy.deepcopy(network)
    if cfg.weights:
        start_from(network, cfg.weights)
    with (
        loggers.closing(),
        Peers(folder / ".processes", rank, processes, kept="The checkpoints are kept") as peers,
        nullcontext() if in_sweep() else reported(),  # before the others are told that this process is lost
    ):
        peers.watch(after=torch.distributed.is_initialized)
        for name in cfg.stages:
            network = train_stage(cfg, str(name), network, folder / str(name), console)
        if cfg.score and rank == 0:  # the others wait for its end
            score(cfg, network, untrained, folder / "session", console)
    console.print(f"Checkpoints, curves and scores: {folder}", soft_wrap=True)
    return sweeps.read_scores(folder).get(cfg.optimize)


def check(cfg: DictConfig, folder: Path) -> None:
    """A folder that was trained in is not trained in again by mistake."""
    named = any(
        o.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for o in HydraConfig.get().overrides.hydra
    )
    if cfg.resume and not named:
        raise UserError("resume=true: name the folder of the run to go on with: hydra.run.dir=FOLDER")
    if cfg.checkpoint_artifacts and "wandb" not in cfg.logger:
        raise UserError("checkpoint_artifacts=true: only W&B takes artifacts; add it: logger=[csv,wandb]")
    if not cfg.stages:
        raise UserError("no stage to train: choose an experiment, or add one: +stage@stages.anet=anet")
    if not cfg.resume and any((folder / str(name)).exists() for name in cfg.stages):
        raise UserError(f"{folder} holds a run already; go on with resume=true, or choose another folder")


def check_data(cfg: DictConfig) -> None:
    """The data of any stage and the session's settings are opened, and so checked, before the first stage."""
    for stage in cfg.stages.values():
        instantiate(stage.data)
    if cfg.score:
        instantiate(cfg.data.test)
        instantiate(cfg.session, _convert_="all")


def check_trainer(cfg: DictConfig) -> tuple[int, int]:
    """The number of this process, and how many there are to be.

    Raises:
        UserError: the trainer's options do not go together, or not with this machine.
    """
    try:
        trainer = instantiate(cfg.trainer, logger=False, enable_checkpointing=False)
    except InstantiationException as error:
        raise UserError(f"trainer: {' '.join(str(error.__cause__).split())}") from error
    if cfg.trainer.precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; on a CPU there is bf16-mixed")
    if trainer.strategy.launcher and trainer.world_size > 1 and in_sweep():
        raise UserError(
            f"trainer.devices={cfg.trainer.devices} within a sweep: start the processes with "
            "hydra/launcher=slurm, or give each run one device"
        )
    return trainer.global_rank, trainer.world_size


def train_stage(cfg: DictConfig, name: str, network: ATNet, folder: Path, console: Console) -> ATNet:
    """Train the network; of a stage that is done already take the result."""
    final, last, stage = folder / "final.ckpt", folder / "last.ckpt", cfg.stages[name]
    if final.exists():
        start_from(network, final)
        console.print(f"Stage {name}: done already ({final})", soft_wrap=True)
        return network
    console.rule(f"Stage {name}")
    cfg.folder = str(folder)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = instantiate(stage.module, network)
    data = instantiate(stage.data)
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback]
    logged = open_loggers(cfg)
    make_trainer = instantiate(cfg.trainer, **stage.trainer, _partial_=True)
    trainer = make_trainer(callbacks=callbacks, logger=logged)
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    if trainer.interrupted:
        raise UserError(f"interrupted; go on with: resume=true hydra.run.dir={folder.parent}")
    network = whole(network).cpu()
    if trainer.is_global_zero:
        validated = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        sweeps.note_scores(folder.parent, name, validated)
        network.save(made := final.with_suffix(".making"))
        made.replace(final)  # whole or not at all: it stands for the stage being done
        if cfg.checkpoint_artifacts:
            files = [path for path in (folder / "best.ckpt", final) if path.exists()]
            loggers.log_files(logged, name, "model", files)
    return network


def open_loggers(cfg: DictConfig) -> list[Logger]:
    """The loggers for what is at work in cfg.folder; they get the configuration first."""
    logged = [instantiate(options) for options in cfg.logger.values() if options]
    loggers.log_configuration(logged, cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)))
    return logged


def score(cfg: DictConfig, network: ATNet, untrained: ATNet, folder: Path, console: Console) -> None:
    """A DAVIS session on clips never seen in training, and the same for what the network should beat."""
    segmenters = {
        "trained": instantiate(cfg.segmenter, network),
        "untrained": instantiate(cfg.segmenter, untrained),
        "strokes dilated, nothing propagated": DilatedStrokes(),
        "annotated mask copied to all frames": CopiedMask(network),
    }
    console.rule("Session")
    if cfg.resume:
        shutil.rmtree(folder, ignore_errors=True)  # a part of it was done; it takes less time than a stage
    videos, settings = instantiate(cfg.data.test), instantiate(cfg.session, _convert_="all")
    scores = compare(
        segmenters, videos, settings, folder, lambda: instantiate(cfg.session_trainer, logger=False)
    )
    scores.to_csv(folder / "scores.csv", index_label="segmenter")
    cfg.folder = str(folder)
    figures = session_figures(scores)
    sweeps.note_scores(folder.parent, "session", figures)
    logged = open_loggers(cfg)
    for logger in logged:
        logger.log_metrics(figures)
        logger.save()
    loggers.log_table(logged, "scores", scores.rename_axis("segmenter"))
    console.print(comparison_table(scores))


def session_figures(scores: pd.DataFrame) -> dict[str, float]:
    """The trained network's: ``J``, the mean over rounds, ``J_round_1``, ..., ``J_propagated_1``, ..."""
    trained = {str(name): value for name, value in scores.loc["trained"].to_dict().items()}
    rounds = [value for name, value in trained.items() if name.startswith("round ")]
    return {"J": sum(rounds) / len(rounds)} | {f"J_{n.replace(' ', '_')}": v for n, v in trained.items()}


if __name__ == "__main__":
    agree_on_start_time()
    main()
