"""The parts of a stage made from its configuration, with the options that all stages share."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from ivos.data.training import TrainingData
from ivos.networks import ATNet
from ivos.training.stages.base import Stage


def make_module(cfg: DictConfig, name: str, network: ATNet) -> Stage:
    """Return the module of a stage; it has the run's seed unless it is given one of its own.

    Args:
        cfg: the configuration of the run.
        name: the stage's name in it.
        network: the network, which the module trains in place.

    Raises:
        InstantiationException: raised from the error of a part that refuses its options.
    """
    options = cfg.stages[name].module
    seed = {} if "seed" in options else {"seed": cfg.seed}
    module: Stage = instantiate(options, network, **seed, _convert_="all")  # an optimiser takes no ListConfig
    return module


def make_data(cfg: DictConfig, name: str, **options: Any) -> TrainingData:
    """Return the data of a stage; its samples have the run's seed unless they are given one of their own.

    Args:
        cfg: the configuration of the run.
        name: the stage's name in it.
        options: further options of the data.

    Raises:
        InstantiationException: raised from the error of a part that refuses its options.
    """
    stage = cfg.stages[name].data
    samples = {} if "seed" in stage.samples else {"samples": {"seed": cfg.seed}}
    data: TrainingData = instantiate(stage, **samples, **options)
    return data
