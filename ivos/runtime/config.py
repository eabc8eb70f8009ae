"""What the programs do with a composed configuration alike: check it, make the trainer."""

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
    """Hold the options of a run against what takes them, and refuse those without effect.

    See :func:`option_faults` and :func:`unused_faults`. Of options that are taken from one another the first
    is told. What the user's choices do not know of an experiment's options is deleted from the configuration.

    Args:
        cfg: the configuration of the program.
        program: the program's options.
        effects: returns those of the program's options, see :func:`unused_faults`.

    Raises:
        UserError: all that cannot be, a line each.
        InstantiationException: from the :class:`UserError` of the session.
    """
    given = given_options(HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    leave_out_foreign(cfg, given)
    faults = option_faults(resolved(cfg), program)
    if own := [name for name in faults if not _is_taken(cfg, name)] or list(faults):
        belongs = {name: remedy(name, configs()) for name in own if "no such option" in faults[name]}
        raise UserError("\n  ".join(faults[name] + belongs.get(name, "") for name in own))
    session_settings(cfg)
    if unused := unused_faults(cfg, given, effects(cfg)):
        raise UserError("\n  ".join(unused))


def session_settings(cfg: DictConfig) -> Any:
    """Return the settings of the session, with the program's seed.

    Raises:
        InstantiationException: from the :class:`UserError` of the option that is refused.
    """
    return instantiate(cfg.session, seed=cfg.seed, _convert_="all")


def accelerator(cfg: DictConfig) -> str:
    """Return what the option ``device`` means to a trainer of Lightning's."""
    return cfg.device or "auto"


def _is_taken(cfg: DictConfig, name: str) -> bool:
    """Whether an option, or what it is a part of, is an interpolation of another."""
    node: Any = cfg
    for key in name.split("."):
        if not isinstance(node, DictConfig) or key not in node:
            return False
        if OmegaConf.is_interpolation(node, key):
            return True
        node = node[key]
    return False


def check_resume(resume: bool, *folders: str) -> None:
    """Without a folder's name, a new one is made, with nothing in it to go on with.

    Args:
        resume: whether a run is to go on.
        folders: options that name its folder.

    Raises:
        UserError: it is, and none of them is given.
    """
    given = HydraConfig.get().overrides.hydra
    if resume and not any(override.startswith(tuple(f"{name}=" for name in folders)) for override in given):
        raise UserError("resume=true: name the folder of the run to go on with: hydra.run.dir=FOLDER")


TRAINER_DEFAULTS = {
    "benchmark": True,  # cuDNN looks for the fastest convolutions once: crops have one size
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the loader distributes the samples itself
    "enable_model_summary": False,  # a callback prints the network's parts
}
"""Options of the stages' trainer that ``conf/trainer/train.yaml`` does not list."""


def training_trainer(cfg: DictConfig, **more: Any) -> Callable[..., pl.Trainer]:
    """Return what makes the trainer of a stage, given callbacks, loggers and plugins."""
    defaults = {"accelerator": accelerator(cfg), **TRAINER_DEFAULTS}
    defaults = {key: value for key, value in defaults.items() if key not in cfg.trainer}
    make: Callable[..., pl.Trainer] = instantiate(cfg.trainer, **defaults, **more, _partial_=True)
    return make


def make_trainer(options: DictConfig, accelerator: str = "auto", **more: Any) -> pl.Trainer:
    """Return the trainer of a configuration.

    Args:
        options: the options of the trainer in the configuration.
        accelerator: the kind of device that it uses.
        more: further options.

    Raises:
        UserError: its options contradict each other or this machine, or the trainer would wait for processes
            on other machines that nobody starts.
    """
    try:
        trainer: pl.Trainer = instantiate(options, _partial_=True)(accelerator=accelerator, **more)
    except Exception as error:  # it has many ways to say that something is not there
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
