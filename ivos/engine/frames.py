"""The type of the frames that a segmenter takes, and their conversion to an array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
"""uint8 RGB [T, h, w, 3], or a list of T frames [h, w, 3]."""


def as_frames(frames: Frames) -> NDArray[np.uint8]:
    """Return frames as one array uint8 RGB [T, h, w, 3]; an array is not copied.

    Args:
        frames: An array, a list of frames of equal size, or any object that NumPy converts to such an array.

    Raises:
        ValueError: The frames cannot be converted; the message states the expected type and shape.
    """
    try:
        array = np.asarray(frames)
    except ValueError as error:
        raise ValueError("frames: uint8 [T, h, w, 3] is needed, got frames of several sizes") from error
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(f"frames: uint8 [T, h, w, 3] is needed, got {array.dtype} {list(array.shape)}")
    return array
