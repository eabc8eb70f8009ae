"""Pictures of frames with coloured masks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.video.palette import PALETTE, bright


def overlay(
    frame: NDArray[np.uint8], labels: NDArray[np.uint8], palette: NDArray[np.uint8] = PALETTE
) -> NDArray[np.uint8]:
    """Draw the masks of objects over a frame, tinted and outlined.

    Args:
        frame: RGB [h, w, 3].
        labels: Labels [h, w]; pixels of label 0 and 255 are not changed.
        palette: Colour of each label, RGB uint8 [256, 3].

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
