"""Drawing of strokes on pictures for display."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.interaction.strokes import Stroke
from ivos.video.palette import PALETTE, bright


def draw_strokes(
    picture: NDArray[np.uint8], strokes: Sequence[Stroke], palette: NDArray[np.uint8] = PALETTE
) -> NDArray[np.uint8]:
    """Draw strokes on a copy of a picture.

    Args:
        picture: Picture RGB [h, w, 3].
        strokes: Strokes, which are drawn in the object's colour with a white rim; strokes of the background
            are drawn in white with a black rim.
        palette: Colour of each object, RGB uint8 [256, 3].

    Returns:
        RGB uint8 [h, w, 3].
    """
    picture = picture.copy()
    height, width = picture.shape[:2]
    thickness = max(1, round(min(height, width) / 160))
    for rim in (True, False):
        for stroke in strokes:
            points = (np.asarray(stroke["path"]) * (width, height)).round().astype(np.int32)
            inner, outer = (255, 255, 255), (0, 0, 0)
            if label := stroke["object_id"]:
                inner, outer = bright(palette[label]), (255, 255, 255)
            colour, size = (outer, thickness + 2) if rim else (inner, thickness)
            cv2.polylines(picture, [points], False, colour, size, cv2.LINE_AA)
    return picture
