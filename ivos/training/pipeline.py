"""A training run from its configuration: check, train stage by stage, score."""

import copy
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import cast

import pandas as pd
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from rich.console import Console

from ivos.evaluation.comparison import compare, comparison_table
from ivos.networks import ATNet
from ivos.runtime import loggers, signals, sweeps
from ivos.runtime.command_line import is_first_process, reported, user_error
from ivos.runtime.config import check_values, resolved
from ivos.runtime.errors import UserError, is_out_of_memory
from ivos.runtime.files import clear, replacing, write_text
from ivos.runtime.process_watchdog import ProcessWatchdog
from ivos.segmenters import CopiedMask, DilatedStrokes
from ivos.training.checkpoints import LAST, AtomicCheckpointIO, SaveOnSignal
from ivos.training.checks import RULES, check_data, check_folder, check_stages, check_trainer
from ivos.training.initialisation import start_from


def run(cfg: DictConfig) -> float | None:
    """Train the stages one after another and score the result, as a Hydra job.

    Returns:
        the metric that a sweep is about, ``cfg.optimized_metric``, if the run has it.

    Raises:
        UserError: (or another one from it) what is wrong with the configuration, the data or the machine.
    """
    job = HydraConfig.get()
    console = Console(highlight=False, markup=False, quiet=not is_first_process())
    folder, in_sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    check_values(cfg, RULES)
    rank, processes = check_trainer(cfg, in_sweep)
    if rank == 0:  # before anything is loaded; the others would find what this one began
        check_folder(cfg, folder)
    check_stages(cfg, folder)
    check_data(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    network: ATNet = instantiate(cfg.model)
    untrained = copy.deepcopy(network)
    if cfg.checkpoint:
        start_from(network, cfg.checkpoint)
    with (
        loggers.closing(),
        ProcessWatchdog(folder / ".processes", rank, processes, kept="The checkpoints are kept") as peers,
        nullcontext() if in_sweep else reported(),  # before the others are told that this process is lost
    ):
        if rank == 0:
            clear(folder, deep=True)
        peers.watch(after=torch.distributed.is_initialized)
        for name in cfg.stages:
            network = train_stage(
                cfg, str(name), network, folder / str(name), console, [WatchdogCallback(peers)]
            )
        if cfg.score and rank == 0:  # the others wait for its end
            score(cfg, network, untrained, folder / "session", console)
    console.print(f"Checkpoints, curves and scores: {folder}", soft_wrap=True)
    return sweeps.read_scores(folder).get(cfg.optimized_metric)


class WatchdogCallback(Callback):
    """Says which of several processes was lost, before anybody sees what that did to the others."""

    def __init__(self, peers: ProcessWatchdog) -> None:
        self.peers = peers

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nobody begins before all have seen each other at work."""
        self.peers.meet()
        trainer.strategy.barrier()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Among several processes most errors are the consequence of another's."""
        if isinstance(exception, Exception) and user_error(exception) is None:
            self.peers.ask()


def train_stage(
    cfg: DictConfig,
    name: str,
    network: ATNet,
    folder: Path,
    console: Console,
    callbacks: Sequence[Callback] = (),
) -> ATNet:
    """Train a network in place; of a stage that is done already take the result.

    Args:
        cfg: of the run.
        name: of the stage in it.
        network: as the stage before left it.
        folder: of the stage: what it writes.
        console: for news.
        callbacks: besides those of the configuration.

    Returns:
        the network, on the CPU.
    """
    final, last = folder / "final.ckpt", folder / LAST
    if final.exists():
        start_from(network, final)
        console.print(f"Stage {name}: done already ({final})", soft_wrap=True)
        return network
    console.rule(f"Stage {name}")
    cfg = at_work_in(folder, cfg)
    stage = cfg.stages[name]
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = instantiate(stage.module, network)
    data = instantiate(stage.data)
    if not last.exists():
        instantiate(stage.init)(network, data)
    chosen = [instantiate(each) for each in (*cfg.callbacks.values(), stage.execution) if each]
    logged = open_loggers(cfg)
    make_trainer = instantiate(cfg.trainer, **stage.trainer, _partial_=True)
    whole = [*callbacks, *chosen, SaveOnSignal(last)]
    trainer = make_trainer(callbacks=whole, logger=logged, plugins=[AtomicCheckpointIO()])
    with memory_named(name, stage, last):
        trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    signals.stop()  # what raised it was swallowed
    network.cpu()
    if trainer.is_global_zero:
        validated = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        sweeps.note_scores(folder.parent, name, validated)
        with replacing(final) as aside:  # whole or not at all: it stands for the stage being done
            network.save(aside)
        if cfg.checkpoint_artifacts:
            files = [path for path in (folder / "best.ckpt", final) if path.exists()]
            loggers.log_files(logged, name, "model", files)
    return network


@contextmanager
def memory_named(name: str, stage: DictConfig, last: Path) -> Iterator[None]:
    """Say of a stage that runs out of memory what would make its steps smaller.

    Raises:
        UserError: it does.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        own = f"stages.{name}"
        again = f" and go on with resume=true hydra.run.dir={last.parents[1]}" if last.exists() else ""
        raise UserError(
            f"{own}: out of memory. Set {own}.execution.checkpointing=true (less memory, more time, the same "
            f"numbers){again}; or begin anew with a smaller {own}.data.batch_size (now "
            f"{stage.data.batch_size}), with smaller or fewer frames or fewer objects in {own}.data.samples, "
            "or with trainer.precision=bf16-mixed"
        ) from error


def at_work_in(folder: Path, cfg: DictConfig) -> DictConfig:
    """The configuration in which ``${folder}``, where callbacks and loggers write, is this one."""
    return cast(DictConfig, OmegaConf.merge(cfg, {"folder": str(folder)}))


def open_loggers(cfg: DictConfig) -> list[Logger]:
    """The loggers for what is at work in cfg.folder; they get the configuration first."""
    logged = [instantiate(options) for options in cfg.logger.values() if options]
    loggers.log_configuration(logged, resolved(cfg))
    return logged


def score(cfg: DictConfig, network: ATNet, untrained: ATNet, folder: Path, console: Console) -> None:
    """A DAVIS session on clips never seen in training, and the same for what the network should beat.

    Args:
        cfg: of the run.
        network: as trained.
        untrained: as the run began.
        folder: of the reports.
        console: for the table.
    """
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
    write_text(folder / "scores.csv", scores.to_csv(index_label="segmenter"))
    metrics = session_metrics(scores)
    sweeps.note_scores(folder.parent, "session", metrics)
    logged = open_loggers(at_work_in(folder, cfg))
    for logger in logged:
        logger.log_metrics(metrics)
        logger.save()
    loggers.log_table(logged, "scores", scores.rename_axis("segmenter"))
    console.print(comparison_table(scores))


def session_metrics(scores: pd.DataFrame) -> dict[str, float]:
    """The trained network's: ``J``, the mean over rounds, ``J_round_1``, ..., ``J_propagated_1``, ..."""
    trained = {str(name): value for name, value in scores.loc["trained"].to_dict().items()}
    rounds = [value for name, value in trained.items() if name.startswith("round ")]
    return {"J": sum(rounds) / len(rounds)} | {f"J_{n.replace(' ', '_')}": v for n, v in trained.items()}
