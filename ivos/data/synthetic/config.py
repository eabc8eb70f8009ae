"""What a set of synthetic clips is like."""

import math
from dataclasses import asdict, dataclass
from typing import Annotated

from ivos.runtime.options import Seed, Share, number, whole
from ivos.runtime.signatures import option_faults
from ivos.video.labels import VOID

Strength = Annotated[float, number(0)]


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
