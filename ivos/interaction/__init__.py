"""Strokes in the DAVIS scribble format, their rasterising, and clicks; the robot that draws is in `robot`."""

from ivos.interaction.clicks import Click, Prompt, PromptKind
from ivos.interaction.raster import interaction_channels, rasterise
from ivos.interaction.strokes import (
    ScribbleError,
    Scribbles,
    Stroke,
    check_strokes,
    read_scribbles,
    write_scribbles,
)

__all__ = [
    "Click",
    "Prompt",
    "PromptKind",
    "ScribbleError",
    "Scribbles",
    "Stroke",
    "check_strokes",
    "interaction_channels",
    "rasterise",
    "read_scribbles",
    "write_scribbles",
]
