"""The interactive round: strokes on a frame to masks of a whole video."""

from ivos.engine.atnet import ATNetSegmenter
from ivos.engine.feature_store import TensorStore
from ivos.engine.plan import Plan, plan_round
from ivos.engine.segmenter import LiveSegmenter, Segmenter, takes_network

__all__ = [
    "ATNetSegmenter",
    "LiveSegmenter",
    "Plan",
    "Segmenter",
    "TensorStore",
    "plan_round",
    "takes_network",
]
