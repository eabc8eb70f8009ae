"""Augmentation of frames and masks: the one module that imports albumentations, when frames are augmented.

``conf/samples/mini_sequences.yaml`` names its transforms, which are made by Hydra. The version is pinned in
pyproject.toml, because the package is no longer maintained.
"""

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for newer versions


def resizing(side: int, reduce: bool = False) -> Any:
    """Return a transform to squares.

    Args:
        side: of the squares, in pixels.
        reduce: average over areas, for a great reduction in which linear interpolation passes over pixels.
    """
    import albumentations as A
    import cv2

    return A.Resize(side, side, cv2.INTER_AREA) if reduce else A.Resize(side, side)


def composed(transforms: Sequence[Any]) -> Any:
    """Return albumentations' transforms one after the other, with one method for their random numbers."""
    import albumentations as A

    return A.Compose(list(transforms))
