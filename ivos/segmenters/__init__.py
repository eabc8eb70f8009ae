"""Segmenters without trained networks, for comparisons; all follow :class:`ivos.engine.Segmenter`."""

from ivos.segmenters.baselines import CopiedMask, DilatedStrokes
from ivos.segmenters.grabcut_flow import CopySegmenter, FlowSegmenter
from ivos.segmenters.match import MatchSegmenter

__all__ = ["CopiedMask", "CopySegmenter", "DilatedStrokes", "FlowSegmenter", "MatchSegmenter"]
