"""The stages of training as LightningModules: A-Net, T-Net with A-Net frozen, and both jointly."""

from ivos.training.finiteness import NotFiniteError
from ivos.training.stages.anet import ANetStage
from ivos.training.stages.base import Stage
from ivos.training.stages.joint import JointStage
from ivos.training.stages.memory import MemoryJointStage, MemoryTNetStage, StrokeANetStage
from ivos.training.stages.tnet import TNetStage

__all__ = [
    "ANetStage",
    "JointStage",
    "MemoryJointStage",
    "MemoryTNetStage",
    "NotFiniteError",
    "Stage",
    "StrokeANetStage",
    "TNetStage",
]
