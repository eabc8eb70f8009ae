"""Augmentation of frames and masks with albumentations.

Only this module imports albumentations, when it is first needed. The version of albumentations is pinned in
pyproject.toml, because the package is no longer maintained.
"""

import os
from collections.abc import Sequence
from typing import Any

from ivos.video.labels import VOID

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # prevents a search for newer versions online


def resizing(side: int, reduce: bool = False) -> Any:
    """Return a transform that resizes images to squares.

    Args:
        side: Side of the squares, in pixels.
        reduce: Whether to average over areas, against aliasing in a strong reduction.
    """
    import albumentations as A
    import cv2

    return A.Resize(side, side, cv2.INTER_AREA) if reduce else A.Resize(side, side)


def composed(transforms: Sequence[Any]) -> Any:
    """Return the composition of transforms of albumentations, which has one random generator."""
    import albumentations as A

    return A.Compose(list(transforms))


def default_augmentation(
    flip_prob: float = 0.5,
    affine_prob: float = 0.8,
    rotation: float = 15,
    shear: float = 8,
    scale: float = 0.1,
    colour_prob: float = 0.5,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.5,
) -> list[Any]:
    """Return random horizontal flips, affine maps and colour changes.

    Args:
        flip_prob: Probability of a flip.
        affine_prob: Probability of an affine map; its parameters are drawn from ranges around the identity.
        rotation: Largest angle of an affine map, in degrees.
        shear: Largest shear of an affine map, in degrees.
        scale: Largest relative change of size of an affine map.
        colour_prob: Probability of a change of colour.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        saturation: Largest relative change of saturation.
        hue: Largest change of hue, as a share of the colour circle; 0.5 reaches the whole circle.
    """
    import albumentations as A

    return [
        A.HorizontalFlip(p=flip_prob),
        A.Affine(
            rotate=(-rotation, rotation),
            shear=(-shear, shear),
            scale=(1 - scale, 1 + scale),
            fill_mask=VOID,
            p=affine_prob,
        ),
        A.ColorJitter(
            brightness=(1 - brightness, 1 + brightness),
            contrast=(1 - contrast, 1 + contrast),
            saturation=(1 - saturation, 1 + saturation),
            hue=(-hue, hue),
            p=colour_prob,
        ),
    ]
