"""Settings of synthetic clips."""

import math
from dataclasses import asdict, dataclass
from typing import Annotated

from ivos.runtime.options import Seed, Share, number, whole
from ivos.runtime.signatures import option_faults
from ivos.video.labels import VOID

Strength = Annotated[float, number(0)]


@dataclass(frozen=True)
class SyntheticSpec:
    """Settings of a set of synthetic clips; a speed or strength of 0 disables an effect.

    ``conf/synthetic/default.yaml`` has the same names and values.

    Attributes:
        num_clips: Number of clips.
        num_frames: Number of frames T of each clip.
        width: Width of the frames, in pixels.
        height: Height of the frames, in pixels.
        min_objects: Smallest number of objects in a clip.
        max_objects: Largest number of objects in a clip.
        seed: Seed; a clip is a function of the seed, ``stream``, its index and all other settings except
            ``num_clips``.
        stream: Name of the split, which is mixed into the seed, so that splits have different clips.
        min_size: Smallest square root of an object's area, relative to the frame's shorter side.
        max_size: Largest square root of an object's area, relative to the frame's shorter side.
        motion: Root mean square speed of the objects, in shorter sides per frame.
        rotation: Root mean square speed of the objects' rotation, in degrees per frame.
        scaling: Root mean square change of the logarithm of the objects' size per frame.
        deformation: Strength of the objects' deformation, in [0, 1].
        articulation: Amplitude of the limbs' swing, in radians.
        leaving: Probability that an object leaves the frame and returns.
        texture: Contrast of the textures of figures and backdrop, in [0, 1]; at 0 they have a single colour.
        camouflage: Probability that an object has the colours of the backdrop.
        distractors: Mean number of moving figures that are labelled as background.
        similarity: Probability that a distractor has the same surface as an object.
        occluders: Mean number of static figures in front of all others, labelled as background.
        shadows: Darkness of the figures' shadows, in [0, 1].
        camera_pan: Root mean square speed of the camera, in shorter sides per frame.
        camera_zoom: Root mean square change of the logarithm of the camera's zoom per frame.
        camera_shake: Standard deviation of the camera's jitter, in shorter sides.
        backdrop_motion: Root mean square speed of the backdrop's own drift, in shorter sides per frame.
        lighting: Strength of changes of brightness, tint and direction of the light, in [0, 1].
        motion_blur: Exposure time as a share of the frame interval, in [0, 1].
        defocus: Largest standard deviation of a clip's defocus blur, in pixels.
        noise: Largest standard deviation of a clip's sensor noise; white is 1.
        jpeg_quality: Lowest JPEG quality of a clip (the highest is 95); 100 disables compression artefacts.
        backgrounds: Folder of pictures that replace the drawn backdrops.
        sprites: Folder with subfolders ``images`` and ``masks``, which contain files of equal names; their
            masked objects replace the drawn figures. In masks with a palette or small labels, each label is
            an object; in other masks, all pixels brighter than mid-grey are one object.
        scribbles_per_clip: Number of scribble files per clip, with first strokes drawn by the seeded robot.

    Raises:
        ValueError: A value is out of range.
    """

    num_clips: Annotated[int, whole(1)] = 4
    num_frames: Annotated[int, whole(1)] = 12
    width: Annotated[int, whole(32)] = 160
    height: Annotated[int, whole(32)] = 128
    min_objects: Annotated[int, whole(1)] = 1
    max_objects: Annotated[int, whole(1, VOID - 1)] = 3
    seed: Seed = 0
    stream: str = ""
    min_size: Annotated[float, number(0.02)] = 0.2
    max_size: Annotated[float, number(0.02, 1)] = 0.4
    motion: Strength = 0.02
    rotation: Strength = 4.0
    scaling: Strength = 0.02
    deformation: Share = 0.4
    articulation: Annotated[float, number(0, math.pi)] = 0.5
    leaving: Share = 0.15
    texture: Share = 1.0
    camouflage: Share = 0.1
    distractors: Strength = 0.7
    similarity: Share = 0.4
    occluders: Strength = 0.3
    shadows: Share = 0.4
    camera_pan: Strength = 0.01
    camera_zoom: Strength = 0.01
    camera_shake: Strength = 0.004
    backdrop_motion: Strength = 0.005
    lighting: Share = 0.2
    motion_blur: Share = 0.5
    defocus: Annotated[float, number(0, 10)] = 0.6
    noise: Share = 0.02
    jpeg_quality: Annotated[int, whole(1, 100)] = 60
    backgrounds: str | None = None
    sprites: str | None = None
    scribbles_per_clip: Annotated[int, whole(0, 999)] = 1

    def __post_init__(self) -> None:
        faults = option_faults(asdict(self), type(self))
        for name, rule in (
            ("min_objects", whole(1, self.max_objects)),
            ("min_size", number(0.02, self.max_size)),
        ):
            if not faults and not rule.holds(value := getattr(self, name)):
                faults[name] = f"{name}: must be {rule.words}, got {value!r}"
        for said in faults.values():
            raise ValueError(f"synthetic video: {said}")
