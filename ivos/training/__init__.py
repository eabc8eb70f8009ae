"""Training of A-Net and T-Net as LightningModules."""

from ivos.training.baselines import CopiedMask, DilatedStrokes
from ivos.training.losses import SegmentationLoss
from ivos.training.processes import whole
from ivos.training.stages import ANetStage, JointStage, NotFiniteError, Stage, TNetStage, start_from

__all__ = [
    "ANetStage",
    "CopiedMask",
    "DilatedStrokes",
    "JointStage",
    "NotFiniteError",
    "SegmentationLoss",
    "Stage",
    "TNetStage",
    "start_from",
    "whole",
]
