"""Strokes in the DAVIS scribble format and their rasterising; the robot that draws them is in `robot`."""

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
    "ScribbleError",
    "Scribbles",
    "Stroke",
    "check_strokes",
    "interaction_channels",
    "rasterise",
    "read_scribbles",
    "write_scribbles",
]
