"""Creation of a stage's module and data from the configuration."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from ivos.data.training import TrainingData
from ivos.networks import ATNet
from ivos.training.stages.base import Stage


def make_module(cfg: DictConfig, name: str, network: ATNet) -> Stage:
    """Return the module of a stage; without its own seed it gets the seed of the run.

    Args:
        cfg: Configuration of the run.
        name: Name of the stage in the configuration.
        network: Network that the module trains in place.

    Raises:
        InstantiationException: An option is invalid; the cause is the error of the class that it belongs to.
    """
    options = cfg.stages[name].module
    seed = {} if "seed" in options else {"seed": cfg.seed}
    module: Stage = instantiate(options, network, **seed, _convert_="all")  # an optimiser takes no ListConfig
    return module


def make_data(cfg: DictConfig, name: str, **options: Any) -> TrainingData:
    """Return the data of a stage; samples without their own seed get the seed of the run.

    Args:
        cfg: Configuration of the run.
        name: Name of the stage in the configuration.
        options: Further options of the data.

    Raises:
        InstantiationException: An option is invalid; the cause is the error of the class that it belongs to.
    """
    stage = cfg.stages[name].data
    samples = {} if "seed" in stage.samples else {"samples": {"seed": cfg.seed}}
    data: TrainingData = instantiate(stage, **samples, **options)
    return data
