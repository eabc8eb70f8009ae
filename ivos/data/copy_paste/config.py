"""Settings of copy-paste clips, and the types that their modules share."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
CANVAS = 96
"""The side in pixels of the canvas on which an object is drawn before it is placed in a clip."""
INVERSE_MAP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class CopyPasteConfig:
    """Settings of copy-paste clips.

    Attributes:
        num_things: Smallest and largest number of objects.
        size: Smallest and largest square root of an object's area, as a fraction of the frame's shorter side.
        cutouts: Fraction of the objects that are masked objects of pictures or cut-outs, if there are any.
            ``figures`` and ``regions`` are fractions of the remaining objects.
        figures: Fraction of the remaining objects that are jointed figures.
        regions: Fraction of the remaining objects that are regions of a picture.
        speed: Smallest and largest speed of a clip, in shorter sides per frame; drawn log-uniformly.
        bend: Largest displacement of the flow that deforms objects, as a fraction of their size.
        clutter: Largest number of pasted pieces of pictures in the backdrop.
        camouflage: Probability that an object is made of the same picture as the backdrop.
        twins: Probability that an object is accompanied by a similar one, which is background or an object of
            its own.
        occluders: Probability of an occluder in front of all objects, which is labelled as background.
        light: Probability that the lighting changes, smoothly or abruptly.
        blur: Probability that fast objects have motion blur.
        soft: Probability that a clip is out of focus.
        noise: Largest standard deviation of the noise, in grey levels of 255.
        jpeg: Lowest quality of JPEG compression.
        cutout_resolution: Largest side in pixels at which a cut-out is stored before it is placed; None uses
            the canvas of 96 pixels, as for all other objects.
        cutout_tint: Strength of the random change of a cut-out's colours.
        same_kind: Probability that an object is accompanied by up to ``max_same_kind`` copies of it, each an
            object of its own with its own motion.
        max_same_kind: Largest number of such copies.
    """

    num_things: tuple[int, int] = (1, 4)
    size: tuple[float, float] = (0.1, 0.75)
    cutouts: float = 0.6
    figures: float = 0.1
    regions: float = 0.2
    speed: tuple[float, float] = (0.002, 0.08)
    bend: float = 0.12
    clutter: int = 8
    camouflage: float = 0.12
    twins: float = 0.25
    occluders: float = 0.25
    light: float = 0.4
    blur: float = 0.4
    soft: float = 0.3
    noise: float = 8.0
    jpeg: int = 40
    cutout_resolution: int | None = None
    cutout_tint: float = 0.5
    same_kind: float = 0.0
    max_same_kind: int = 3
