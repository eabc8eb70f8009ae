"""Functions shared by the programs: checks of a composed configuration, and creation of the trainer."""

import os
from collections.abc import Callable
from typing import Annotated, Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment

from ivos.runtime.command_line import configs
from ivos.runtime.errors import UserError
from ivos.runtime.options import NULL, Options, one_of
from ivos.runtime.signatures import option_faults
from ivos.runtime.unused_options import (
    Effects,
    given_options,
    leave_out_foreign,
    remedy,
    unused_faults,
)

Device = Annotated[str | None, NULL | one_of("auto", "cpu", "gpu", "cuda", "mps")]


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain containers, with its interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def check_values(
    cfg: DictConfig, program: type[Options], effects: Callable[[DictConfig], Effects] = lambda cfg: {}
) -> None:
    """Check all options of a run, and refuse options without effect.

    The types and ranges are checked by :func:`option_faults`, the effects by :func:`unused_faults`. If an
    invalid value is interpolated into other options, only the option that defines it is reported. Options of
    an experiment that the chosen configuration groups do not have are deleted from the configuration.

    Args:
        cfg: Configuration of the program. It is modified.
        program: Dataclass of the program's options.
        effects: Function that returns which options of the program have an effect; see :data:`Effects`.

    Raises:
        UserError: Options are invalid or have no effect; the message has a line for each.
        InstantiationException: A setting of the session is invalid; the cause is a :class:`UserError`.
    """
    given = given_options(HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    leave_out_foreign(cfg, given)
    faults = option_faults(resolved(cfg), program)
    if own := [name for name in faults if not _is_interpolated(cfg, name)] or list(faults):
        belongs = {name: remedy(name, configs()) for name in own if "no such option" in faults[name]}
        raise UserError("\n  ".join(faults[name] + belongs.get(name, "") for name in own))
    session_settings(cfg)
    if unused := unused_faults(cfg, given, effects(cfg)):
        raise UserError("\n  ".join(unused))


def session_settings(cfg: DictConfig) -> Any:
    """Return the settings of the session, with the program's seed.

    Raises:
        InstantiationException: A setting is invalid; the cause is a :class:`UserError`.
    """
    return instantiate(cfg.session, seed=cfg.seed, _convert_="all")


def accelerator(cfg: DictConfig) -> str:
    """Return the option ``device`` as the ``accelerator`` of Lightning's trainer."""
    return cfg.device or "auto"


def _is_interpolated(cfg: DictConfig, name: str) -> bool:
    """Return whether an option, or a part that contains it, is interpolated from another option."""
    node: Any = cfg
    for key in name.split("."):
        if not isinstance(node, DictConfig) or key not in node:
            return False
        if OmegaConf.is_interpolation(node, key):
            return True
        node = node[key]
    return False


def check_resume(resume: bool, *folders: str) -> None:
    """Check that the folder of the run to resume is given, because otherwise a new folder is created.

    Args:
        resume: Whether the run is to be resumed.
        folders: Names of the options that may give its folder.

    Raises:
        UserError: The run is to be resumed, and no option gives its folder.
    """
    given = HydraConfig.get().overrides.hydra
    if resume and not any(override.startswith(tuple(f"{name}=" for name in folders)) for override in given):
        raise UserError("resume=true: name the folder of the run to go on with: hydra.run.dir=FOLDER")


TRAINER_DEFAULTS = {
    "benchmark": True,  # cuDNN selects the fastest convolutions once, because all crops have the same size
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the data loader distributes the samples over the processes itself
    "enable_model_summary": False,  # the callback PartsTable prints the parts of the network
}
"""Options of the stages' trainer that ``conf/trainer/train.yaml`` does not list."""


def training_trainer(cfg: DictConfig, **more: Any) -> Callable[..., pl.Trainer]:
    """Return a function that creates the trainer of a stage from callbacks, loggers and plugins."""
    defaults = {"accelerator": accelerator(cfg), **TRAINER_DEFAULTS}
    defaults = {key: value for key, value in defaults.items() if key not in cfg.trainer}
    make: Callable[..., pl.Trainer] = instantiate(cfg.trainer, **defaults, **more, _partial_=True)
    return make


def make_trainer(options: DictConfig, accelerator: str = "auto", **more: Any) -> pl.Trainer:
    """Create the trainer that a configuration describes.

    Args:
        options: Options of the trainer in the configuration.
        accelerator: Kind of device on which it trains.
        more: Further arguments of the trainer.

    Raises:
        UserError: The options contradict each other or do not fit this machine, or the trainer would wait for
            processes on other machines that have not been started.
    """
    try:
        trainer: pl.Trainer = instantiate(options, _partial_=True)(accelerator=accelerator, **more)
    except Exception as error:  # Lightning raises many types for missing devices and packages
        said = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"device={accelerator}, trainer: {said}") from error
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment):
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
        if missing:
            raise UserError(
                f"trainer.num_nodes={trainer.num_nodes}: the other machines are not known; start by torchrun "
                f"or SLURM, or set {', '.join(missing)} on each (docs/guides/distributed.md)"
            )
    return trainer
