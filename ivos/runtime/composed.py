"""What the programs do with a composed configuration alike: check it, make the trainer."""

from collections.abc import Mapping
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ivos.runtime.errors import UserError
from ivos.runtime.options import Rule, check_options, one_of, whole

TRAINER_RULES = {
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.devices": whole(1) | one_of("auto"),
    "trainer.num_nodes": whole(1),
}


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A configuration, resolved, as plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def check_values(cfg: DictConfig, rules: Mapping[str, Rule]) -> None:
    """Hold the options of a run and of its trainer against rules; see :func:`check_options`.

    Raises:
        UserError: all that break one.
    """
    check_options(resolved(cfg), {**TRAINER_RULES, **rules})


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


def make_trainer(options: DictConfig, **more: Any) -> pl.Trainer:
    """The trainer of a configuration.

    Raises:
        UserError: its options do not go together, or not with this machine.
    """
    try:
        trainer: pl.Trainer = instantiate(options, _partial_=True)(**more)
    except (InstantiationException, MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {' '.join(str(error.__cause__ or error).split())}") from error
    return trainer
