"""A clip of synthetic video: figures that move, bend and hide each other before a moving backdrop."""

import numpy as np
from numpy.typing import NDArray

from ivos.data.synthetic.camera_effects import Lens
from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.scene_builder import stage


def render_clip(spec: SyntheticSpec, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one clip: a function of its arguments and of nothing else.

    Every object shows at least half of itself in frame 0, where the number of objects can be read off;
    later it may leave the frame or be hidden, and come back. A pixel's label is what covers most of it
    during the exposure.

    Args:
        spec: the set.
        index: which of its clips; below ``spec.num_clips``.

    Returns:
        frames uint8 [T, h, w, 3] RGB and labels uint8 [T, h, w]: 0 background, 1..N objects.

    Raises:
        DataError: the folder of backgrounds or sprites cannot be used, or the objects find no place.
    """
    if not 0 <= index < spec.num_clips:
        raise IndexError(f"clip {index} of {spec.num_clips}")
    rng = np.random.default_rng([spec.seed, int.from_bytes(spec.stream.encode(), "little"), index])
    scene = stage(spec, rng)
    lens = Lens(spec, rng)
    frames = np.empty((spec.num_frames, spec.height, spec.width, 3), np.uint8)
    labels = np.empty(frames.shape[:3], np.uint8)
    for t in range(spec.num_frames):
        colour, labels[t] = scene.expose(t)
        frames[t] = lens.record(colour, t)
    return frames, labels
