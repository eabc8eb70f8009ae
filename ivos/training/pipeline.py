"""A training run: check its configuration, train stage by stage, evaluate the result."""

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
from ivos.training.checks import RULES, check_data, check_folder, check_stages, check_trainer, effects
from ivos.training.initialisation import model_of_checkpoint, start_from
from ivos.training.resuming import FINAL, is_done, record


def run(cfg: DictConfig) -> float | None:
    """Train the stages one after another and evaluate the result, as a Hydra job.

    Returns:
        The metric that a sweep optimises, ``cfg.optimized_metric``, if the run has it.

    Raises:
        UserError: the configuration, the data or the machine do not allow the run; other errors may be raised
            from it.
    """
    job = HydraConfig.get()
    console = Console(highlight=False, markup=False, quiet=not is_first_process())
    folder, in_sweep = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    check_values(cfg, RULES, effects)
    cfg = model_of_checkpoint(cfg, job.overrides.task)
    rank, processes = check_trainer(cfg, in_sweep)
    if rank == 0:  # the other processes would find what this one has written
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
        nullcontext() if in_sweep else reported(),  # before the others report this process as lost
    ):
        if rank == 0:
            clear(folder, deep=True)
        guard = WatchdogCallback(watchdog)
        watchdog.watch(after=torch.distributed.is_initialized, started=guard.started)
        for name in cfg.stages:
            network = train_stage(cfg, str(name), network, folder / str(name), console, guard)
        if cfg.score and rank == 0:  # the others wait for its end
            score(cfg, network, untrained, folder / "session", console)
    console.print(f"Checkpoints, curves and scores: {folder}", soft_wrap=True)
    return sweeps.read_scores(folder).get(cfg.optimized_metric)


class WatchdogCallback(Callback):
    """Connects the process watchdog with the trainers of a run.

    Args:
        watchdog: reports a lost process, and ends this one.
    """

    def __init__(self, watchdog: ProcessWatchdog) -> None:
        self.watchdog = watchdog
        self._trainer: pl.Trainer | None = None

    def attach(self, trainer: pl.Trainer) -> None:
        """Name the trainer that is going to start the other processes, before it does."""
        self._trainer = trainer

    def started(self) -> "list[subprocess.Popen[bytes]]":
        """Return the processes that Lightning has started for the trainer so far."""
        return [] if self._trainer is None else started_by(self._trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let every process see all others alive before any of them takes a step."""
        self.watchdog.meet()
        trainer.strategy.barrier()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Report a lost process instead of an error, which among several processes mostly follows from it."""
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
    """Train a network in place, or load the result of a stage that is done already.

    Args:
        cfg: the configuration of the run.
        name: the stage's name in it.
        network: the network as the previous stage has left it.
        folder: the stage's folder, for all that it writes.
        console: where progress is printed.
        guard: watches over the other processes of the run.

    Returns:
        The network, on the CPU.
    """
    final, last = folder / FINAL, folder / LAST
    cfg = with_folder(cfg, folder)
    if is_done(cfg, name, folder):
        start_from(network, final)
        console.print(f"Stage {name}: done already ({final})", soft_wrap=True)
        return network
    console.rule(f"Stage {name}")
    if is_first_process() and not last.exists():
        record(cfg, name, folder)
    stage = cfg.stages[name]
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module, data = make_module(cfg, name, network), make_data(cfg, name)
    if not last.exists():
        instantiate(stage.init)(network, data)
    # The memory order of the weights comes first, so that their average has it, too.
    chosen = [instantiate(each) for each in (stage.execution, *cfg.callbacks.values()) if each]
    logged = open_loggers(cfg)
    make_trainer = training_trainer(cfg, default_root_dir=str(folder), **stage.trainer)
    callbacks = [*([guard] if guard else []), *chosen, SaveOnSignal(last)]
    trainer = make_trainer(callbacks=callbacks, logger=logged, plugins=[AtomicCheckpointIO()])
    if guard:
        guard.attach(trainer)
    with explain_out_of_memory(name, stage, last):
        trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    signals.stop()  # Lightning does not pass on what a signal has raised
    network.cpu()
    if trainer.is_global_zero:
        validated = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        sweeps.note_scores(folder.parent, name, validated)
        with replacing(final) as aside:  # atomically, since the file marks the stage as done
            network.save(aside)
        record(cfg, name, folder)
        if cfg.checkpoint_artifacts:
            files = [path for path in (folder / "best.ckpt", final) if path.exists()]
            loggers.log_files(logged, name, "model", files)
    return network


@contextmanager
def explain_out_of_memory(name: str, stage: DictConfig, last: Path) -> Iterator[None]:
    """Turn a stage's lack of memory into a message with the options that reduce it.

    Args:
        name: the stage's name.
        stage: its configuration.
        last: its file ``last.ckpt``.

    Raises:
        UserError: the stage runs out of memory.
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


def with_folder(cfg: DictConfig, folder: Path) -> DictConfig:
    """Return the configuration with another ``${folder}``, into which callbacks and loggers write."""
    return cast(DictConfig, OmegaConf.merge(cfg, {"folder": str(folder)}))


def open_loggers(cfg: DictConfig) -> list[Logger]:
    """Create the loggers that write into cfg.folder, and log the configuration."""
    logged = [instantiate(options) for options in cfg.logger.values() if options]
    loggers.log_configuration(logged, resolved(cfg))
    return logged


def score(cfg: DictConfig, network: ATNet, untrained: ATNet, folder: Path, console: Console) -> None:
    """Run DAVIS sessions of the trained network and of its baselines on clips never seen in training.

    Args:
        cfg: the configuration of the run.
        network: the trained network.
        untrained: the network as the run began.
        folder: where the reports are written.
        console: where the table is printed.
    """
    segmenters = {
        "trained": instantiate(cfg.segmenter, network),
        "untrained": instantiate(cfg.segmenter, untrained),
        "strokes dilated, nothing propagated": DilatedStrokes(),
        "annotated mask copied to all frames": CopiedMask(network),
    }
    console.rule("Session")
    if cfg.resume:
        shutil.rmtree(folder, ignore_errors=True)  # perhaps incomplete, and faster to repeat than a stage
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
