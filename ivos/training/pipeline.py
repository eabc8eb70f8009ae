"""A training run: checks of its configuration, training stage by stage, and evaluation of the result."""

import copy
import shutil
import subprocess
from collections.abc import Iterator
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
from ivos.evaluation.progress import session_trainer
from ivos.networks import ATNet
from ivos.runtime import loggers, signals, sweeps
from ivos.runtime.command_line import is_first_process, reported, user_error
from ivos.runtime.config import accelerator, check_values, resolved, session_settings, training_trainer
from ivos.runtime.errors import UserError, is_out_of_memory
from ivos.runtime.files import clear, replacing, write_text
from ivos.runtime.process_watchdog import ProcessWatchdog, started_by
from ivos.segmenters import CopiedMask, DilatedStrokes
from ivos.training.building import make_data, make_module
from ivos.training.checkpoints import LAST, AtomicCheckpointIO, SaveOnSignal
from ivos.training.checks import (
    TrainingOptions,
    check_data,
    check_folder,
    check_stages,
    check_trainer,
    effects,
)
from ivos.training.initialisation import model_of_checkpoint, start_from
from ivos.training.resuming import FINAL, is_done, record


def run(cfg: DictConfig) -> float | None:
    """Train the stages one after another and evaluate the result, as a Hydra job.

    Returns:
        The metric that a sweep optimises, ``cfg.optimized_metric``, or None if the run does not have it.

    Raises:
        UserError: The configuration, the data or the machine do not allow the run; other errors may have this
            error as their cause.
    """
    job = HydraConfig.get()
    console = Console(highlight=False, markup=False, quiet=not is_first_process())
    folder, in_sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    check_values(cfg, TrainingOptions, effects)
    cfg = model_of_checkpoint(cfg, job.overrides.task)
    rank, processes = check_trainer(cfg, in_sweep)
    if rank == 0:  # the other processes would find files that this one has written
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
        ProcessWatchdog(folder / ".processes", rank, processes, kept="The checkpoints are kept") as watchdog,
        nullcontext() if in_sweep else reported(),  # print an error before others report this process as lost
    ):
        if rank == 0:
            clear(folder, deep=True)
        guard = WatchdogCallback(watchdog)
        watchdog.watch(after=torch.distributed.is_initialized, started=guard.started)
        for name in cfg.stages:
            network = train_stage(cfg, str(name), network, folder / str(name), console, guard)
        if cfg.score and rank == 0:  # the other processes wait for this one
            score(cfg, network, untrained, folder / "session", console)
    console.print(f"Checkpoints, curves and scores: {folder}", soft_wrap=True)
    return sweeps.read_scores(folder).get(cfg.optimized_metric)


class WatchdogCallback(Callback):
    """Connects the process watchdog with the trainers of a run.

    Args:
        watchdog: Watchdog that reports a lost process and ends this one.
    """

    def __init__(self, watchdog: ProcessWatchdog) -> None:
        self.watchdog = watchdog
        self._trainer: pl.Trainer | None = None

    def attach(self, trainer: pl.Trainer) -> None:
        """Register the trainer that will start the other processes."""
        self._trainer = trainer

    def started(self) -> "list[subprocess.Popen[bytes]]":
        """Return the processes that Lightning has started for the trainer so far."""
        return [] if self._trainer is None else started_by(self._trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait until every process has seen that all others are running, before the first step."""
        self.watchdog.meet()
        trainer.strategy.barrier()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Report a lost process instead of the error that it has most likely caused in this one."""
        if isinstance(exception, Exception) and user_error(exception) is None:
            self.watchdog.ask()


def train_stage(
    cfg: DictConfig,
    name: str,
    network: ATNet,
    folder: Path,
    console: Console,
    guard: WatchdogCallback | None = None,
) -> ATNet:
    """Train a network in place, or load the result if the stage is already finished.

    Args:
        cfg: Configuration of the run.
        name: Name of the stage in the configuration.
        network: Network as the previous stage has left it.
        folder: Folder for all files of the stage.
        console: Console for progress.
        guard: Callback that watches the other processes of the run.

    Returns:
        The network, on the CPU.
    """
    final, last = folder / FINAL, folder / LAST
    cfg = with_folder(cfg, folder)
    if is_done(cfg, name, folder):
        start_from(network, final)
        console.print(f"Stage {name}: already finished ({final})", soft_wrap=True)
        return network
    console.rule(f"Stage {name}")
    if is_first_process() and not last.exists():
        record(cfg, name, folder)
    stage = cfg.stages[name]
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module, data = make_module(cfg, name, network), make_data(cfg, name)
    if not last.exists():
        instantiate(stage.init)(network, data)
    # The execution callback is first, so that the average of the weights has the same memory format.
    chosen = [instantiate(each) for each in (stage.execution, *cfg.callbacks.values()) if each]
    logged = open_loggers(cfg)
    make_trainer = training_trainer(cfg, default_root_dir=str(folder), **stage.trainer)
    callbacks = [*([guard] if guard else []), *chosen, SaveOnSignal(last)]
    trainer = make_trainer(callbacks=callbacks, logger=logged, plugins=[AtomicCheckpointIO()])
    if guard:
        guard.attach(trainer)
    with explain_out_of_memory(name, stage, last):
        trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    signals.stop()  # Lightning swallows the exception that a signal has raised
    network.cpu()
    if trainer.is_global_zero:
        validated = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        sweeps.note_scores(folder.parent, name, validated)
        with replacing(final) as aside:  # atomically, because the file marks the stage as finished
            network.save(aside)
        record(cfg, name, folder)
        if cfg.checkpoint_artifacts:
            files = [path for path in (folder / "best.ckpt", final) if path.exists()]
            loggers.log_files(logged, name, "model", files)
    return network


@contextmanager
def explain_out_of_memory(name: str, stage: DictConfig, last: Path) -> Iterator[None]:
    """Convert an out-of-memory error of a stage to a message with the options that save memory.

    Args:
        name: Name of the stage.
        stage: Configuration of the stage.
        last: File ``last.ckpt`` of the stage.

    Raises:
        UserError: The stage runs out of memory.
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
            f"results){again}; or start a new run with a smaller {own}.data.batch_size (now "
            f"{stage.data.batch_size}), with smaller or fewer frames or fewer objects in {own}.data.samples, "
            "or with trainer.precision=bf16-mixed"
        ) from error


def with_folder(cfg: DictConfig, folder: Path) -> DictConfig:
    """Return the configuration with a different ``folder``, in which callbacks and loggers write files."""
    return cast(DictConfig, OmegaConf.merge(cfg, {"folder": str(folder)}))


def open_loggers(cfg: DictConfig) -> list[Logger]:
    """Create the loggers, which write to ``cfg.folder``, and log the configuration."""
    logged = [instantiate(options) for options in cfg.logger.values() if options]
    loggers.log_configuration(logged, resolved(cfg))
    return logged


def score(cfg: DictConfig, network: ATNet, untrained: ATNet, folder: Path, console: Console) -> None:
    """Evaluate the trained network and baselines in DAVIS sessions on clips that were not used in training.

    Args:
        cfg: Configuration of the run.
        network: The trained network.
        untrained: The network as it was at the start of the run.
        folder: Folder for the reports.
        console: Console for the table of results.
    """
    segmenters = {
        "trained": instantiate(cfg.segmenter, network),
        "untrained": instantiate(cfg.segmenter, untrained),
        "strokes dilated, nothing propagated": DilatedStrokes(),
        "annotated mask copied to all frames": CopiedMask(network),
    }
    console.rule("Session")
    if cfg.resume:
        shutil.rmtree(folder, ignore_errors=True)  # it may be incomplete, and repeating is fast
    videos, settings = instantiate(cfg.data.test), session_settings(cfg)
    scores = compare(
        segmenters,
        videos,
        settings,
        folder,
        lambda: session_trainer(cfg.session_trainer, accelerator(cfg), logger=False),
    )
    write_text(folder / "scores.csv", scores.to_csv(index_label="segmenter"))
    metrics = session_metrics(scores)
    sweeps.note_scores(folder.parent, "session", metrics)
    logged = open_loggers(with_folder(cfg, folder))
    for logger in logged:
        logger.log_metrics(metrics)
        logger.save()
    loggers.log_table(logged, "scores", scores.rename_axis("segmenter"))
    console.print(comparison_table(scores))


def session_metrics(scores: pd.DataFrame) -> dict[str, float]:
    """Return the trained network's ``J`` (the mean over rounds), ``J_round_1``, ``J_propagated_1`` etc."""
    trained = {str(name): value for name, value in scores.loc["trained"].to_dict().items()}
    rounds = [value for name, value in trained.items() if name.startswith("round ")]
    return {"J": sum(rounds) / len(rounds)} | {f"J_{n.replace(' ', '_')}": v for n, v in trained.items()}
