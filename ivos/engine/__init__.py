"""The inference engine for interactive rounds: from strokes on a frame to masks of the whole video."""

from ivos.engine.atnet_segmenter import ATNetSegmenter
from ivos.engine.feature_store import TensorStore
from ivos.engine.plan import Plan, plan_round
from ivos.engine.protocols import AdoptingSegmenter, LiveSegmenter, Segmenter, takes_network

__all__ = [
    "ATNetSegmenter",
    "AdoptingSegmenter",
    "LiveSegmenter",
    "Plan",
    "Segmenter",
    "TensorStore",
    "plan_round",
    "takes_network",
]
