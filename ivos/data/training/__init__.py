"""Training data: mini-sequences cut out of videos, their loader, and the Lightning data module."""

from ivos.data.training.augmentation import default_augmentation
from ivos.data.training.datamodule import TrainingData
from ivos.data.training.loader import NumberedLoader
from ivos.data.training.mini_sequences import MiniSequences, MixedMiniSequences

__all__ = ["MiniSequences", "MixedMiniSequences", "NumberedLoader", "TrainingData", "default_augmentation"]
