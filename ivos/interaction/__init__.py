"""User interaction: strokes in the DAVIS format and their rasterisation, clicks, boxes, and the robot."""

from ivos.interaction.boxes import Box
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
    "Box",
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
