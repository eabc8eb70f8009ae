"""Training data: mini-sequences cut out of videos, the loader that numbers them, and the datamodule."""

from ivos.data.training.augmentation import default_augmentation
from ivos.data.training.datamodule import TrainingData
from ivos.data.training.loader import NumberedLoader
from ivos.data.training.mini_sequences import MiniSequences, MixedMiniSequences

__all__ = ["MiniSequences", "MixedMiniSequences", "NumberedLoader", "TrainingData", "default_augmentation"]
