"""Camera effects: changing light, defocus, sensor noise and compression."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.motion import Wander
from ivos.data.synthetic.textures import Float


def compress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Compress an image as JPEG and decode it again.

    Args:
        image: Image, uint8 BGR [h, w, 3].
        quality: JPEG quality, 1 to 100.
    """
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Any = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)


class CameraEffects:
    """Light, defocus, noise and compression of a clip."""

    def __init__(self, spec: SyntheticSpec, rng: np.random.Generator) -> None:
        self._rng = rng
        self._light = Wander(rng, 6)
        self._lighting = spec.lighting * rng.uniform(0, 1)
        self._defocus = spec.defocus * rng.uniform(0, 1)
        self._noise = spec.noise * rng.uniform(0, 1)
        self._quality = (
            spec.jpeg_quality if spec.jpeg_quality > 95 else int(rng.integers(spec.jpeg_quality, 96))
        )
        self._lossless = spec.jpeg_quality == 100
        y, x = np.mgrid[-1 : 1 : spec.height * 1j, -1 : 1 : spec.width * 1j]
        self._plane = np.stack([x, y], -1).astype(np.float32)

    def record(self, colour: Float, t: float) -> NDArray[np.uint8]:
        """Apply the effects to a rendered frame in [0, 1] and return it as uint8 [h, w, 3]."""
        light = self._lighting * self._light(t)
        tint = np.exp(0.08 * light[0] + 0.03 * light[1:4]).astype(np.float32)
        colour = colour * tint * np.exp(self._plane @ (0.06 * light[4:]).astype(np.float32))[..., None]
        if self._defocus > 0.2:
            colour = cv2.GaussianBlur(colour, (0, 0), self._defocus)
        if self._noise:
            grain = self._rng.standard_normal(colour.shape, np.float32)
            colour = colour + self._noise * np.sqrt(0.3 + colour.clip(0, 1)) * grain
        frame = np.round(colour * 255).clip(0, 255).astype(np.uint8)
        if self._lossless:
            return frame
        return np.ascontiguousarray(compress(frame[..., ::-1], self._quality)[..., ::-1])
