"""Train A-Net and T-Net: ``uv run train.py`` or ``uv run train.py experiment=anet data.root=FOLDER``."""

import copy
from pathlib import Path

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from ivos.cli import agree_on_start_time, is_first_process, quiet_libraries, reported
from ivos.compare import compare, comparison_table
from ivos.errors import UserError
from ivos.evaluation.peers import Peers
from ivos.networks import ATNet
from ivos.training import CopiedMask, DilatedStrokes, start_from, whole


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Compose, check, train stage by stage, score."""
    console = Console(highlight=False, quiet=not is_first_process())
    quiet_libraries()
    with reported():
        folder = Path(HydraConfig.get().runtime.output_dir)
        rank, processes = check_trainer(cfg)
        if rank == 0:  # before anything is loaded; the others would find what this one began
            check(cfg, folder)
        pl.seed_everything(cfg.seed, verbose=False)
        network: ATNet = instantiate(cfg.model)
        untrained = copy.deepcopy(network)
        if cfg.weights:
            start_from(network, cfg.weights)
        with (
            Peers(folder / ".processes", rank, processes, kept="The checkpoints are kept") as peers,
            reported(),
        ):
            peers.watch(after=torch.distributed.is_initialized)
            for name in cfg.stages:
                network = train_stage(cfg, str(name), network, folder / str(name), console)
            if cfg.score and rank == 0:  # the others wait for its end
                score(cfg, network, untrained, folder / "session", console)
    console.print(f"Checkpoints, curves and scores: {folder}", soft_wrap=True)


def check(cfg: DictConfig, folder: Path) -> None:
    """A folder that was trained in is not trained in again by mistake."""
    named = any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)
    if cfg.resume and not named:
        raise UserError("resume=true: name the folder of the run to go on with: hydra.run.dir=FOLDER")
    if not cfg.stages:
        raise UserError("no stage to train: choose an experiment, or add one: +stage@stages.anet=anet")
    if not cfg.resume and any((folder / str(name)).exists() for name in cfg.stages):
        raise UserError(f"{folder} holds a run already; go on with resume=true, or choose another folder")


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
    if trainer.strategy.launcher and trainer.world_size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
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
    trainer = instantiate(cfg.trainer, **stage.trainer, callbacks=callbacks, logger=instantiate(cfg.logger))
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    if trainer.interrupted:
        raise UserError(f"interrupted; go on with: resume=true hydra.run.dir={folder.parent}")
    network = whole(network).cpu()
    if trainer.is_global_zero:
        network.save(final)
    return network


def score(cfg: DictConfig, network: ATNet, untrained: ATNet, folder: Path, console: Console) -> None:
    """A DAVIS session on clips never seen in training, and the same for what the network should beat."""
    segmenters = {
        "trained": instantiate(cfg.segmenter, network),
        "untrained": instantiate(cfg.segmenter, untrained),
        "strokes dilated, nothing propagated": DilatedStrokes(),
        "annotated mask copied to all frames": CopiedMask(network),
    }
    console.rule("Session")
    videos, settings = instantiate(cfg.data.test), instantiate(cfg.session, _convert_="all")
    scores = compare(segmenters, videos, settings, folder, lambda: instantiate(cfg.session_trainer))
    scores.to_csv(folder / "scores.csv", index_label="segmenter")
    console.print(comparison_table(scores))


if __name__ == "__main__":
    agree_on_start_time()
    main()
