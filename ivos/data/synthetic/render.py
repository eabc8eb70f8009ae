"""Rendering of synthetic clips: figures that move, deform and occlude each other in front of a backdrop."""

import numpy as np
from numpy.typing import NDArray

from ivos.data.synthetic.camera_effects import CameraEffects
from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.scene_builder import build_scene


def render_clip(spec: SyntheticSpec, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one clip, which depends on the arguments only.

    At least half of every object is visible in frame 0; later it may leave the frame or be occluded, and
    return. A pixel has the label that covers most of it during the exposure.

    Args:
        spec: Settings of the clips.
        index: Index of the clip, below ``spec.num_clips``.

    Returns:
        Frames uint8 RGB [T, h, w, 3] and labels uint8 [T, h, w]: 0 is the background, 1..N are the objects.

    Raises:
        DataError: The folder of backgrounds or sprites cannot be used, or there is not enough room for the
            objects.
    """
    if not 0 <= index < spec.num_clips:
        raise IndexError(f"clip {index} of {spec.num_clips}")
    rng = np.random.default_rng([spec.seed, int.from_bytes(spec.stream.encode(), "little"), index])
    scene = build_scene(spec, rng)
    effects = CameraEffects(spec, rng)
    frames = np.empty((spec.num_frames, spec.height, spec.width, 3), np.uint8)
    labels = np.empty(frames.shape[:3], np.uint8)
    for t in range(spec.num_frames):
        colour, labels[t] = scene.expose(t)
        frames[t] = effects.record(colour, t)
    return frames, labels
