"""The DAVIS palette, and mask files with this palette."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.runtime.files import named


def _davis_palette() -> NDArray[np.uint8]:
    """Return PASCAL VOC's colour map, in which the bits of a label become high bits of R, G and B in turn."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


PALETTE = _davis_palette()
"""uint8 [256, 3] RGB, the colour of each label."""


_NUMBERS = {tuple(colour): label for label, colour in reversed(list(enumerate(PALETTE.tolist())))}


def labels_of_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the labels of a mask that was saved in the colours of the DAVIS palette.

    Args:
        pixels: uint8 [h, w, 3] RGB, or [h, w, 4] RGBA; the alpha channel is ignored.

    Returns:
        uint8 [h, w], or None if the mask has a colour that is not in :data:`PALETTE`.
    """
    wide = pixels.astype(np.uint32)
    codes, places = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_inverse=True)
    colours = [((code >> 16) & 255, (code >> 8) & 255, code & 255) for code in codes.tolist()]
    if any(colour not in _NUMBERS for colour in colours):
        return None
    return np.array([_NUMBERS[colour] for colour in colours], np.uint8)[places].reshape(pixels.shape[:2])


def bright(colour: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return a colour (RGB) at full brightness, for an outline that is visible around a tinted area."""
    red, green, blue = (colour.astype(float) * 255 / max(int(colour.max()), 1)).astype(int).tolist()
    return red, green, blue


def write_labels(path: str | Path, labels: NDArray[np.uint8]) -> None:
    """Write labels uint8 [h, w] as a PNG file with the DAVIS palette."""
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    with named(path):
        image.save(path)
