"""Strokes in the DAVIS scribble format, their rasterising, and the robot that draws them."""

from ivos.interaction.raster import interaction_channels, rasterise
from ivos.interaction.robot import Robot
from ivos.interaction.strokes import (
    ScribbleError,
    Scribbles,
    Stroke,
    check_strokes,
    read_scribbles,
    write_scribbles,
)

__all__ = [
    "Robot",
    "ScribbleError",
    "Scribbles",
    "Stroke",
    "check_strokes",
    "interaction_channels",
    "rasterise",
    "read_scribbles",
    "write_scribbles",
]
