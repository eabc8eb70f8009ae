"""Clips out of single images: the image as it would look to a camera that moves smoothly."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.video.labels import VOID


@dataclass(frozen=True)
class StillMotion:
    """Moves an image by an affine map that grows from frame to frame, drawn for each clip.

    Attributes:
        rotation: largest turn per frame to either side, in degrees, about the centre.
        scale: largest change of size per frame, as a share (0.03: from 1/1.03 to 1.03).
        shear: largest shear along x per frame.
        shift: largest shift per frame along x and y, as a share of the side.
    """

    rotation: float = 3.0
    scale: float = 0.03
    shear: float = 0.02
    shift: float = 0.03

    def __call__(
        self, frame: NDArray[np.uint8], labels: NDArray[np.uint8], num_frames: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A clip that begins with the image as it is.

        Args:
            frame: uint8 [h, w, 3].
            labels: uint8 [h, w].
            num_frames: T.
            rng: the randomness.

        Returns:
            frames [T, h, w, 3] and labels [T, h, w]; what comes in from outside is black and void.
        """
        size = labels.shape[::-1]
        centre = (np.array(size) - 1) / 2
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        growth = np.log1p(self.scale) * rng.uniform(-1, 1)
        shear, shift = rng.uniform(-self.shear, self.shear), rng.uniform(-self.shift, self.shift, 2)
        frames, masks = [frame], [labels]
        for t in range(1, num_frames):
            turn = np.array([[np.cos(t * angle), -np.sin(t * angle)], [np.sin(t * angle), np.cos(t * angle)]])
            linear = np.exp(t * growth) * turn @ np.array([[1, t * shear], [0, 1]])
            matrix = np.column_stack([linear, centre + t * shift * size - linear @ centre])
            frames.append(np.asarray(cv2.warpAffine(frame, matrix, size), np.uint8))
            moved = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST, borderValue=VOID)
            masks.append(np.asarray(moved, np.uint8))
        return np.stack(frames), np.stack(masks)
