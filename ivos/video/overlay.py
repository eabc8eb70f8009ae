"""A frame with its masks in colour."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.video.palette import PALETTE, bright


def overlay(
    frame: NDArray[np.uint8], labels: NDArray[np.uint8], palette: NDArray[np.uint8] = PALETTE
) -> NDArray[np.uint8]:
    """Lay masks over a frame.

    Args:
        frame: RGB [h, w, 3].
        labels: [h, w]; objects are tinted and outlined, 0 and 255 are left as they are.
        palette: RGB uint8 [256, 3], the colour of each label.

    Returns:
        RGB uint8 [h, w, 3].
    """
    picture = frame.copy()
    shown = (labels > 0) & (labels < 255)
    tinted = 0.5 * frame + 0.5 * palette[labels]
    picture[shown] = tinted[shown].astype(np.uint8)
    for label in np.unique(labels[shown]):
        outlines, _ = cv2.findContours(
            (labels == label).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, bright(palette[label]), 1)
    return picture
