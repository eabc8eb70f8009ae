"""What a set of synthetic clips is like."""

import math
from dataclasses import dataclass, fields

from ivos.runtime.options import number, whole
from ivos.video.labels import VOID


@dataclass(frozen=True)
class SyntheticSpec:
    """What a set of synthetic clips is like. Speeds and strengths of 0 switch an effect off.

    ``conf/synthetic/default.yaml`` has the same names and values.

    Attributes:
        num_clips: clips in the set.
        num_frames: T, of every clip.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        min_objects: objects in a clip, at least.
        max_objects: objects in a clip, at most.
        seed: clip ``index`` is a function of (seed, stream, index) and of the values here, but ``num_clips``.
        stream: mixed into the seed: the name of the split, so that no clip of one is in another.
        min_size: square root of an object's area over the frame's shorter side, at least.
        max_size: the same, at most.
        motion: speed of the objects, root mean square, in shorter sides a frame.
        rotation: the same in degrees a frame.
        scaling: the same for the logarithm of the size.
        deformation: how far an object's surface is bent, in [0, 1].
        articulation: how far limbs swing, in radians.
        leaving: chance that an object crosses the frame's border and comes back.
        texture: contrast of the patterns on things and backdrop, in [0, 1]; at 0 each has a single colour.
        camouflage: chance that an object has the colours of the backdrop.
        distractors: mean number of moving things besides the objects, which are background.
        similarity: chance that a distractor wears the surface of an object.
        occluders: mean number of things that stand before everything else.
        shadows: darkness of the shadows that things cast behind them, in [0, 1].
        camera_pan: speed of the camera as ``motion``.
        camera_zoom: speed of its zoom as ``scaling``.
        camera_shake: its jitter from frame to frame, in shorter sides.
        backdrop_motion: speed of the backdrop's own drift, as ``motion``.
        lighting: change of brightness, tint and direction of the light over a clip, in [0, 1].
        motion_blur: exposure, as a share of the time between frames, in [0, 1].
        defocus: greatest blur of a clip (standard deviation in pixels).
        noise: greatest noise of a clip's sensor (standard deviation, white being 1).
        jpeg_quality: lowest quality a clip is compressed with (the highest is 95); 100 for no artefacts.
        backgrounds: folder of pictures to use instead of drawn backdrops.
        sprites: folder with ``images/`` and ``masks/`` (alike but for their endings) whose masked
            objects are used instead of drawn ones: a label each in masks with a palette or of small
            labels, all that is brighter than mid-grey in others.
        scribbles_per_clip: files of first strokes, drawn by the seeded robot, for each clip.

    Raises:
        ValueError: a value out of range.
    """

    num_clips: int = 4
    num_frames: int = 12
    width: int = 160
    height: int = 128
    min_objects: int = 1
    max_objects: int = 3
    seed: int = 0
    stream: str = ""
    min_size: float = 0.2
    max_size: float = 0.4
    motion: float = 0.02
    rotation: float = 4.0
    scaling: float = 0.02
    deformation: float = 0.4
    articulation: float = 0.5
    leaving: float = 0.15
    texture: float = 1.0
    camouflage: float = 0.1
    distractors: float = 0.7
    similarity: float = 0.4
    occluders: float = 0.3
    shadows: float = 0.4
    camera_pan: float = 0.01
    camera_zoom: float = 0.01
    camera_shake: float = 0.004
    backdrop_motion: float = 0.005
    lighting: float = 0.2
    motion_blur: float = 0.5
    defocus: float = 0.6
    noise: float = 0.02
    jpeg_quality: int = 60
    backgrounds: str | None = None
    sprites: str | None = None
    scribbles_per_clip: int = 1

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "num_clips": (1, math.inf), "num_frames": (1, math.inf), "seed": (0, math.inf),
            "width": (32, math.inf), "height": (32, math.inf), "scribbles_per_clip": (0, 999),
            "max_objects": (1, VOID - 1), "min_objects": (1, self.max_objects),
            "max_size": (0.02, 1), "min_size": (0.02, self.max_size),
            "jpeg_quality": (1, 100), "articulation": (0, math.pi), "defocus": (0, 10),
        }  # fmt: skip
        shares = ("deformation", "leaving", "texture", "camouflage", "similarity", "shadows", "lighting")
        speeds = ("motion", "rotation", "scaling", "camera_pan", "camera_zoom", "camera_shake")
        bounds |= dict.fromkeys((*shares, "motion_blur", "noise"), (0, 1))
        bounds |= dict.fromkeys((*speeds, "backdrop_motion", "distractors", "occluders"), (0, math.inf))
        kinds = {field.name: field.type for field in fields(self)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            rule = number(low, high)
            if kinds[name] is int:
                rule = whole(int(low), None if high == math.inf else int(high))
            if not rule.holds(value):
                raise ValueError(f"synthetic video: {name}: must be {rule.words}, got {value!r}")
