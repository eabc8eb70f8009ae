"""A clip of synthetic video: figures that move, bend and hide each other before a moving backdrop.

Coordinates: *world* has its origin at the middle of the first frame and the frame's shorter side as its unit;
a figure's parts live in *figure* coordinates about its middle. Time counts frames.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.davis import MAX_GREY_LABEL, VOID, DataError, read_frame, read_mask
from data.textures import Float, backdrop, blob, capsule, palette, polygon, texture

Matrix = NDArray[Any]  # float64
_PICTURES = (".jpg", ".jpeg", ".png")
_SUBFRAMES = 4  # instants averaged over an exposure
_ATTEMPTS = 40
_MIN_PIXELS = 16  # of an object in frame 0


@dataclass(frozen=True)
class SyntheticSpec:
    """What a set of synthetic clips is like. Speeds and strengths of 0 switch an effect off.

    Attributes:
        num_clips: clips in the set.
        num_frames: T, of every clip.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        min_objects: objects in a clip, at least.
        max_objects: objects in a clip, at most.
        seed: clip ``index`` is a function of (seed, stream, index) and of the values here, but ``num_clips``.
        stream: mixed into the seed: the name of the subset, so that no clip of one is in another.
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
        scribbles_per_clip: scribble files drawn for each clip.
        robot_kernel_size: see :class:`ivos.interaction.robot.Robot`, as for the other three.
        robot_max_kernel_radius: in pixels.
        robot_min_nb_nodes: in pixels.
        robot_nb_points: points of a stroke.

    Raises:
        ValueError: a value out of range.
    """

    num_clips: int = 8
    num_frames: int = 16
    width: int = 128
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
    robot_kernel_size: float = 0.2
    robot_max_kernel_radius: float = 16
    robot_min_nb_nodes: int = 2
    robot_nb_points: int = 1000

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "num_clips": (1, math.inf), "num_frames": (1, math.inf), "seed": (0, math.inf),
            "width": (32, math.inf), "height": (32, math.inf), "scribbles_per_clip": (0, 999),
            "min_objects": (1, self.max_objects), "max_objects": (1, VOID - 1),
            "min_size": (0.02, self.max_size), "max_size": (0.02, 1),
            "jpeg_quality": (1, 100), "articulation": (0, math.pi), "defocus": (0, 10),
        }  # fmt: skip
        shares = ("deformation", "leaving", "texture", "camouflage", "similarity", "shadows", "lighting")
        speeds = ("motion", "rotation", "scaling", "camera_pan", "camera_zoom", "camera_shake")
        bounds |= dict.fromkeys((*shares, "motion_blur", "noise"), (0, 1))
        bounds |= dict.fromkeys((*speeds, "backdrop_motion", "distractors", "occluders"), (0, math.inf))
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"synthetic video: {name}={getattr(self, name)} is not in [{low}, {high}]")


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
    scene = _stage(spec, rng)
    lens = _Lens(spec, rng)
    frames = np.empty((spec.num_frames, spec.height, spec.width, 3), np.uint8)
    labels = np.empty(frames.shape[:3], np.uint8)
    for t in range(spec.num_frames):
        colour, labels[t] = scene.expose(t)
        frames[t] = lens.record(colour, t)
    return frames, labels


# ------------------------------------------------------------------------------------------------ motion


class _Wander:
    """A smooth random curve of some dimensions: 0 at time 0, its speed 1 a frame (root mean square)."""

    def __init__(self, rng: np.random.Generator, dimensions: int) -> None:
        shape = (3, dimensions)
        self._frequency = 2 * np.pi / rng.uniform(16, 60, shape)
        self._phase = rng.uniform(0, 2 * np.pi, shape)
        self._amplitude = np.sqrt(2 / 3) / self._frequency

    def __call__(self, t: float) -> Matrix:
        swing = np.sin(self._frequency * t + self._phase) - np.sin(self._phase)
        return (self._amplitude * swing).sum(0)


def _similarity(shift: Matrix | tuple[float, float], angle: float = 0, scale: float = 1) -> Matrix:
    """Scale, then rotate, then shift: [3, 3]."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]], [0, 0, 1]])


# ----------------------------------------------------------------------------------------------- figures


@dataclass
class _Part:
    """A textured piece of a figure that swings about its pivot (figure coordinates)."""

    image: Float  # [s, s, 4] RGB and coverage in [0, 1], of the square of half-width `half` about the pivot
    half: float
    pivot: tuple[float, float] = (0, 0)
    swing: float = 0  # radians
    pace: float = 0  # radians a frame
    phase: float = 0
    is_shadow: bool = False

    @cached_property
    def radius(self) -> float:
        """Distance from the pivot to the farthest point that covers anything (figure units)."""
        pixel = 2 * self.half / self.image.shape[0]
        points = (np.argwhere(self.image[..., 3]) + 0.5) * pixel - self.half
        return float(np.hypot(*points.T).max(initial=0)) + 2 * pixel

    def pose(self, t: float) -> Matrix:
        """From the image's pixels to figure coordinates, [3, 3]."""
        pixel = 2 * self.half / self.image.shape[0]
        centred = _similarity((0.5 * pixel - self.half, 0.5 * pixel - self.half), scale=pixel)
        return _similarity(self.pivot, self.swing * math.sin(self.pace * t + self.phase)) @ centred


@dataclass
class _Figure:
    """Something that moves, with its parts from back to front; label 0 is background."""

    parts: list[_Part]
    label: int
    size: float  # world units per figure unit
    area: float  # figure units squared
    wander: _Wander  # of 4 dimensions: x, y, angle, log size
    bends: Matrix  # [3, 6]: the waves that bend it: direction (2), phase, pace, amplitude (2)
    angle: float  # at time 0, as `place`
    place: Matrix = dataclasses.field(default_factory=lambda: np.zeros(2))
    trip: Matrix = dataclasses.field(default_factory=lambda: np.zeros(2))  # there, and back after `period`
    period: float = 1
    speed: tuple[float, float, float] = (0, 0, 0)  # of shift, angle (radians) and log size

    def pose(self, t: float) -> Matrix:
        """From figure to world coordinates, [3, 3]."""
        x, y, turn, growth = self.wander(t)
        away = math.sin(math.pi * min(t / self.period, 1)) ** 2
        shift = self.place + self.speed[0] * np.array([x, y]) + away * self.trip
        size = self.size * math.exp(max(-0.6, min(0.6, self.speed[2] * growth)))
        return _similarity(shift, self.angle + self.speed[1] * turn, size)

    @cached_property
    def bow(self) -> float:
        """How far at most a point is moved by the bending (figure units)."""
        return float(np.hypot(*self.bends[:, 4:].T).sum())

    @cached_property
    def reach(self) -> float:
        """Radius of a circle about the middle that holds all of it however it bends (figure units)."""
        parts = max(part.radius + math.hypot(*part.pivot) for part in self.parts)
        return 1.001 * (self.bow + parts)  # so that rounding cannot put a part's window outside the figure's

    def unbent(self, x: Float, y: Float, t: float) -> tuple[Float, Float]:
        """The points of the unbent figure that are seen at figure coordinates (x, y)."""
        dx, dy = np.zeros_like(x), np.zeros_like(y)
        for kx, ky, phase, pace, ax, ay in self.bends.astype(np.float32):
            wave = np.sin(kx * x + ky * y + (phase + pace * np.float32(t)))
            dx += ax * wave
            dy += ay * wave
        return x + dx, y + dy


def _bends(rng: np.random.Generator, strength: float) -> Matrix:
    """Three waves that bend a figure; weak enough (sum of k * amplitude < 1) not to fold it."""
    direction, tilt = rng.uniform(0, 2 * np.pi, (2, 3))
    k = rng.uniform(1.5, 3.5, 3)
    amplitude = strength * rng.uniform(0.1, 0.3, 3) / k
    pace = 2 * np.pi / rng.uniform(12, 40, 3)
    shape = [k * np.cos(direction), k * np.sin(direction), rng.uniform(0, 2 * np.pi, 3), pace]
    return np.stack([*shape, amplitude * np.cos(tilt), amplitude * np.sin(tilt)], -1)


@dataclass
class _Outline:
    """The shape of a part: a polygon [P, 2] about its pivot; part of a figure's trim or of its bulk."""

    points: Matrix
    pivot: tuple[float, float] = (0, 0)
    swings: bool = False
    trim: bool = False


def _outlines(rng: np.random.Generator) -> tuple[list[_Outline], bool]:
    """The parts of a figure from back to front, and whether it stands upright."""
    kind = rng.choice(["blob", "polygon", "animal", "person"], p=[0.4, 0.15, 0.25, 0.2])
    if kind == "blob":
        return [_Outline(blob(rng, rng.uniform(0.1, 0.6)) * (1, rng.uniform(0.5, 1)))], False
    if kind == "polygon":
        return [_Outline(polygon(rng) * (1, rng.uniform(0.6, 1)))], False
    if kind == "animal":
        width, bare = rng.uniform(0.13, 0.22), rng.random() < 0.5
        legs = [
            _Outline(capsule(rng.uniform(0.35, 0.6), width), (x, 0.2), True, bare)
            for x in (-0.42, -0.25, 0.25, 0.42)
        ]
        tail = _Outline(capsule(0.4, 0.12) @ np.array([[0.0, -1], [1, 0]]), (-0.5, -0.15), True, bare)
        body = _Outline(blob(rng, 0.2) * (0.65, rng.uniform(0.3, 0.42)))
        head = _Outline(blob(rng, 0.25) * rng.uniform(0.22, 0.32), (0.62, rng.uniform(-0.45, -0.1)), True)
        return [*legs, tail, body, head], True
    legs = [_Outline(capsule(0.6, 0.24), (x, 0.3), True, True) for x in (-0.12, 0.12)]
    arms = [_Outline(capsule(0.55, 0.17), (x, -0.32), True) for x in (-0.26, 0.26)]
    body = _Outline(blob(rng, 0.15) * (rng.uniform(0.28, 0.36), 0.48))
    head = _Outline(blob(rng, 0.1) * 0.22, (0, -0.62), True, True)
    return [*legs, arms[0], body, head, arms[1]], True


def _silhouette(outlines: list[_Outline], half: float = 1.5, side: int = 96) -> NDArray[np.uint8]:
    """All parts at rest, uint8 [side, side] in {0, 1} of the square of half-width ``half``."""
    canvas = np.zeros((side, side), np.uint8)
    for outline in outlines:
        points = (outline.points + outline.pivot + half) / (2 * half) * side - 0.5
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1)
    return canvas


def _lit(rng: np.random.Generator, colour: Float, cover: Float) -> Float:
    """A bulging surface with light from one side: [s, s, 3] and its coverage [s, s] to [s, s, 4]."""
    height = cv2.GaussianBlur(cover, (0, 0), cover.shape[0] / 12)
    light = rng.uniform(0, 2 * np.pi)
    slope = np.cos(light) * cv2.Sobel(height, -1, 1, 0) + np.sin(light) * cv2.Sobel(height, -1, 0, 1)
    slope *= rng.uniform(0.1, 0.45) / max(float(np.abs(slope).max()), 1e-6)
    return np.dstack([(colour * (1 + slope[..., None])).clip(0, 1), cover]).astype(np.float32)


def _drawn(
    spec: SyntheticSpec, rng: np.random.Generator, label: int, target: float, skin: tuple[Float, Float]
) -> _Figure:
    """A figure of drawn parts whose area is ``target`` squared (world units), in a skin of bulk and trim."""
    outlines, upright = _outlines(rng)
    silhouette = _silhouette(outlines)
    area = silhouette.mean() * 9
    size = target / math.sqrt(area)
    pixels = size * min(spec.width, spec.height)
    parts = [_shadow(silhouette.astype(np.float32), 1.5, spec.shadows)] if spec.shadows else []
    pace = 2 * np.pi / rng.uniform(6, 20)
    for outline in outlines:
        half = float(np.abs(outline.points).max()) * 1.08 + 1 / pixels
        side = max(8, math.ceil(2 * half * pixels))
        # the coverage of a pixel is counted on 4x4
        points = np.round((outline.points + half) / (2 * half) * 4 * side - 0.5).astype(np.int32)
        inside = cv2.fillPoly(np.zeros((4 * side, 4 * side), np.uint8), [points], 255)
        cover = cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        image = _lit(rng, _cut(rng, skin[outline.trim], side), cover)
        swing = spec.articulation * rng.uniform(0.4, 1) * outline.swings
        parts.append(_Part(image, half, outline.pivot, swing, pace, rng.uniform(0, 2 * np.pi)))
    angle = rng.normal(0, 0.2) if upright else rng.uniform(0, 2 * np.pi)
    return _Figure(parts, label, size, area, _Wander(rng, 4), _bends(rng, spec.deformation), angle)


def _cut(rng: np.random.Generator, surface: Float, side: int) -> Float:
    """A square of a surface [s, s, 3] at a random place, or all of it where the square is larger."""
    spare = surface.shape[0] - side
    if spare < 0:
        return cv2.resize(surface, (side, side))
    y, x = rng.integers(0, spare + 1, 2)
    return surface[y : y + side, x : x + side]


def _shadow(silhouette: Float, half: float, strength: float) -> _Part:
    cover = cv2.GaussianBlur(silhouette, (0, 0), silhouette.shape[0] / 24) * strength
    image = np.dstack([np.zeros((*cover.shape, 3), np.float32), cover])
    return _Part(image, half, (0.1, 0.14), is_shadow=True)


def _cut_out(
    spec: SyntheticSpec, rng: np.random.Generator, label: int, target: float, folder: str
) -> _Figure:
    """A figure out of the user's own pictures."""
    pairs = sprite_files(folder)
    picture, mask = pairs[rng.integers(len(pairs))]
    labels = sprite_labels(picture, mask)
    inside = labels == rng.choice(np.setdiff1d(labels, (0, VOID)))
    x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
    colour: Float = read_frame(picture)[y : y + h, x : x + w].astype(np.float32) / 255
    cover = inside[y : y + h, x : x + w].astype(np.float32)
    half = 1.08
    frame = math.ceil(max(w, h) * half) + 2
    top, left = (frame - h) // 2, (frame - w) // 2
    border = (top, frame - h - top, left, frame - w - left)
    cover = cv2.copyMakeBorder(cover, *border, cv2.BORDER_CONSTANT, value=0)
    colour = cv2.copyMakeBorder(colour, *border, cv2.BORDER_REPLICATE)
    area = float(cover.mean()) * (2 * half) ** 2
    size = min(target / math.sqrt(area), 0.5)  # a thin one would be longer than the frame
    side = max(8, math.ceil(2 * half * size * min(spec.width, spec.height)))
    # what lies beyond the edge takes the object's colours, lest its old background shine through the rim
    near = cv2.GaussianBlur(np.dstack([colour * cover[..., None], cover]), (0, 0), frame / 40)
    spread = near[..., :3] / np.maximum(near[..., 3:], 1e-3)
    image = np.dstack([np.where(cover[..., None] > 0, colour, spread), cover])
    smoothing = cv2.INTER_AREA if side < frame else cv2.INTER_LINEAR
    image = cv2.resize(image, (side, side), interpolation=smoothing)
    image = np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image
    parts = [_shadow(image[..., 3], half, spec.shadows)] if spec.shadows else []
    bends = _bends(rng, spec.deformation)
    return _Figure(
        [*parts, _Part(image, half)], label, size, area, _Wander(rng, 4), bends, rng.normal(0, 0.2)
    )


@lru_cache(maxsize=4)
def sprite_files(folder: str) -> list[tuple[Path, Path]]:
    """The pictures of a sprite folder, each with its mask.

    Raises:
        DataError: no such folders, nothing in them, or a picture or mask without its partner.
    """
    images, masks = ({p.stem: p for p in picture_files(Path(folder, name))} for name in ("images", "masks"))
    if images.keys() != masks.keys():
        alone = [f"{images[stem]}: no mask" for stem in sorted(images.keys() - masks.keys())]
        alone += [f"{masks[stem]}: no picture" for stem in sorted(masks.keys() - images.keys())]
        raise DataError(f"sprites in {folder}: pictures and masks do not pair", alone)
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def sprite_labels(picture: Path, mask: Path) -> NDArray[np.uint8]:
    """The objects of a sprite's mask, uint8 [h, w]: 0 outside, 255 void, else one number for each.

    Raises:
        DataError: unreadable, without an object, or of another size than the picture.
    """
    labels = read_mask(mask)
    if labels[labels != VOID].max(initial=0) > MAX_GREY_LABEL or not np.setdiff1d(labels, (0, VOID)).size:
        labels = (labels > 127).astype(np.uint8)
    if not np.setdiff1d(labels, (0, VOID)).size:
        raise DataError(f"{mask}: no object")
    if labels.shape != read_frame(picture).shape[:2]:
        raise DataError(f"{mask}: of another size than {picture.name}")
    return labels


@lru_cache(maxsize=4)
def picture_files(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES and p.name[0] != ".")
    if not found:
        raise DataError(f"{folder}: no pictures ({', '.join(_PICTURES)})")
    return found


# ------------------------------------------------------------------------------------------------- scene


class _Scene:
    """Backdrop, camera and figures (from back to front) of a clip."""

    def __init__(self, spec: SyntheticSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self.backdrop, self.colours = _backdrop(spec, rng)
        self.figures: list[_Figure] = []
        self.num_labels = 1
        self._pan = _Wander(rng, 5)
        self._jitter = rng.normal(0, spec.camera_shake, (spec.num_frames + 2, 2))
        y, x = np.mgrid[: spec.height, : spec.width].astype(np.float32)
        self._pixels = np.stack([x, y])

    @property
    def half(self) -> Matrix:
        """Half the frame's width and height in world units."""
        return np.array([self.spec.width, self.spec.height]) / (2 * min(self.spec.width, self.spec.height))

    def camera(self, t: float) -> tuple[Matrix, Matrix]:
        """From world coordinates to pixels, and the backdrop's own drift in world units."""
        spec = self.spec
        x, y, zoom, *drift = self._pan(t)
        jitter = [np.interp(t + 1, np.arange(len(self._jitter)), axis) for axis in self._jitter.T]
        scale = min(spec.width, spec.height) * math.exp(max(-0.5, min(0.5, spec.camera_zoom * zoom)))
        shift = scale * (spec.camera_pan * np.array([x, y]) + jitter)
        centre = np.array([spec.width - 1, spec.height - 1]) / 2
        return _similarity(centre - shift, scale=scale), spec.backdrop_motion * np.array(drift)

    def expose(self, t: float) -> tuple[Float, NDArray[np.uint8]]:
        """The picture of frame ``t``, [h, w, 3] in [0, 1], and what covers most of each pixel [h, w]."""
        count = _SUBFRAMES if self.spec.motion_blur else 1
        shares = np.zeros((self.num_labels, self.spec.height, self.spec.width), np.float32)
        picture = np.zeros((self.spec.height, self.spec.width, 3), np.float32)
        for instant in range(count):
            moment = t + self.spec.motion_blur * ((instant + 0.5) / count - 0.5)
            colour, cover = self._paint(moment)
            picture += colour / count
            shares += cover
        return picture, shares.argmax(0).astype(np.uint8)

    def _paint(self, t: float) -> tuple[Float, Float]:
        """The picture of an instant, [h, w, 3], and each label's share in each pixel, [labels, h, w]."""
        camera, drift = self.camera(t)
        middle = np.array(self.backdrop.shape[1::-1]) / 2
        to_backdrop = camera @ _similarity(drift - middle / self._unit, scale=1 / self._unit)
        colour = cv2.warpAffine(
            self.backdrop,
            to_backdrop[:2],
            (self.spec.width, self.spec.height),
            borderMode=cv2.BORDER_REFLECT_101,
        )
        cover = np.zeros((self.num_labels, self.spec.height, self.spec.width), np.float32)
        cover[0] = 1
        for figure in self.figures:
            self._add(figure, t, camera, colour, cover)
        return colour, cover

    @property
    def _unit(self) -> float:
        """Pixels of the backdrop per world unit."""
        return min(self.spec.width, self.spec.height)

    def _add(self, figure: _Figure, t: float, camera: Matrix, colour: Float, cover: Float) -> None:
        """Paint one figure over what is there, each part within the smallest window that holds it."""
        to_pixels = camera @ figure.pose(t)
        rows, columns = self._window(to_pixels, (0, 0), figure.reach)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        x, y = _apply(np.linalg.inv(to_pixels), *self._pixels[:, rows, columns])
        x, y = figure.unbent(x, y, t)
        for part in figure.parts:
            v, u = self._window(to_pixels, part.pivot, part.radius + figure.bow)
            if v.start >= v.stop or u.start >= u.stop:
                continue
            inner = (_less(v, rows.start), _less(u, columns.start))
            points = _apply(np.linalg.inv(part.pose(t)), x[inner], y[inner])
            image = cv2.remap(
                part.image, *points, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
            )
            alpha = image[..., 3]
            below = colour[v, u]
            below += alpha[..., None] * (image[..., :3] - below)
            if not part.is_shadow:
                cover[:, v, u] *= 1 - alpha
                cover[figure.label, v, u] += alpha

    def _window(self, to_pixels: Matrix, point: tuple[float, float], radius: float) -> tuple[slice, slice]:
        """Rows and columns of the frame that a circle about a point of a figure touches."""
        column, row = (to_pixels @ (*point, 1))[:2]
        radius *= math.hypot(*to_pixels[:2, 0])
        return _span(row, radius, self.spec.height), _span(column, radius, self.spec.width)


def _span(middle: float, radius: float, limit: int) -> slice:
    return slice(max(0, math.floor(middle - radius)), min(limit, math.ceil(middle + radius) + 1))


def _less(span: slice, offset: int) -> slice:
    return slice(span.start - offset, span.stop - offset)


def _apply(matrix: Matrix, x: Float, y: Float) -> tuple[Float, Float]:
    a, b, c, d, e, f = matrix[:2].astype(np.float32).ravel()
    return a * x + b * y + c, d * x + e * y + f


def _backdrop(spec: SyntheticSpec, rng: np.random.Generator) -> tuple[Float, Float]:
    """A picture twice as wide and high as the frame, [2h, 2w, 3], and its colours [C, 3]."""
    width, height = 2 * spec.width, 2 * spec.height
    if spec.backgrounds is None:
        colours = palette(rng)
        return _faded(backdrop(rng, height, width, colours), spec.texture), colours
    files = picture_files(Path(spec.backgrounds))
    picture: Float = read_frame(files[rng.integers(len(files))]).astype(np.float32) / 255
    scale = max(width / picture.shape[1], height / picture.shape[0]) * rng.uniform(1, 1.3)
    size = (math.ceil(picture.shape[1] * scale), math.ceil(picture.shape[0] * scale))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x, y = (rng.integers(0, room + 1) for room in (size[0] - width, size[1] - height))
    picture = picture[y : y + height, x : x + width]
    picture = np.ascontiguousarray(picture[:, ::-1] if rng.random() < 0.5 else picture)
    return picture, picture.mean((0, 1))[None]


def _stage(spec: SyntheticSpec, rng: np.random.Generator) -> _Scene:
    """A scene whose objects all show in frame 0: cast once, then placed again and again until they do."""
    scene = _Scene(spec, rng)
    objects = int(rng.integers(spec.min_objects, spec.max_objects + 1))
    scene.num_labels = objects + 1
    cast = _cast(spec, rng, scene.colours, objects)
    order = rng.permutation(len(cast))
    occluders = [_occluder(spec, rng) for _ in range(rng.poisson(spec.occluders))]
    for attempt in range(_ATTEMPTS):
        for figure in cast:
            figure.size *= 1 if attempt == 0 else 0.94  # a crowd needs room
            _place(figure, spec, rng, scene.half)
        for occluder in occluders:
            occluder.place = rng.uniform(-scene.half, scene.half)
        scene.figures = [cast[i] for i in order] + occluders
        areas = np.bincount(scene.expose(0)[1].ravel(), minlength=objects + 1)
        full = {figure.label: figure.area * (figure.size * scene._unit) ** 2 for figure in cast}
        if all(areas[label] >= max(_MIN_PIXELS, 0.5 * full[label]) for label in range(1, objects + 1)):
            return scene
    raise DataError(
        f"synthetic video: {objects} objects of at least {_MIN_PIXELS} pixels find no place in "
        f"{spec.width}x{spec.height}; lower max_objects or max_size, or raise min_size"
    )


def _cast(
    spec: SyntheticSpec, rng: np.random.Generator, backdrop_colours: Float, objects: int
) -> list[_Figure]:
    """The objects, label 1 first, then the distractors."""
    taken = [backdrop_colours]
    skins: list[tuple[Float, Float]] = []
    cast = []
    for label in [*range(1, objects + 1), *[0] * rng.poisson(spec.distractors)]:
        target = rng.uniform(spec.min_size, spec.max_size)
        if spec.sprites is not None:
            cast.append(_cut_out(spec, rng, label, target, spec.sprites))
            continue
        if label == 0 and rng.random() < spec.similarity:
            skin = skins[rng.integers(objects)]
        else:
            colours = _colours(rng, taken, camouflaged=rng.random() < spec.camouflage)
            taken.append(colours)
            skin = _skin(spec, rng, colours)
        skins.append(skin)
        cast.append(_drawn(spec, rng, label, target, skin))
    return cast


def _colours(rng: np.random.Generator, taken: list[Float], camouflaged: bool) -> Float:
    """Colours unlike all those taken, or those of the backdrop (the first)."""
    if camouflaged:
        return taken[0] if len(taken[0]) > 1 else (taken[0] * rng.uniform(0.5, 1.5, (4, 1))).clip(0, 1)
    choice = [palette(rng) for _ in range(6)]
    means = np.stack([colours.mean(0) for colours in taken])
    return max(choice, key=lambda colours: float(np.linalg.norm(means - colours.mean(0), axis=1).min()))


def _skin(spec: SyntheticSpec, rng: np.random.Generator, colours: Float) -> tuple[Float, Float]:
    """The surfaces of a figure's bulk and of its trim."""
    side = math.ceil(2.5 * spec.max_size * min(spec.width, spec.height))
    bulk = texture(rng, side, side, colours, rng.uniform(2, 7))
    trim = texture(rng, side, side, colours[::-1], rng.uniform(2, 7), "clouds")
    return _faded(bulk, spec.texture), _faded(trim, spec.texture)


def _faded(surface: Float, contrast: float) -> Float:
    """A surface [h, w, 3] that departs less from its mean colour."""
    if contrast == 1:
        return surface
    mean = surface.mean((0, 1), dtype=np.float32)
    return mean + np.float32(contrast) * (surface - mean)


def _place(figure: _Figure, spec: SyntheticSpec, rng: np.random.Generator, half: Matrix) -> None:
    """Where a figure starts and how it moves; a distractor may start beyond the border and come in."""
    figure.speed = (spec.motion, math.radians(spec.rotation), spec.scaling)
    figure.place = rng.uniform(-0.85, 0.85, 2) * half
    figure.period = rng.uniform(10, 24)
    figure.trip = np.zeros(2)
    if figure.label and rng.random() >= spec.leaving:
        return
    axis = int(rng.integers(2))
    side = 1 if figure.place[axis] > 0 else -1
    beyond = side * (half[axis] + figure.size * rng.uniform(0.7, 1.2))
    if figure.label:
        figure.trip[axis] = beyond - figure.place[axis]
    elif rng.random() < 0.5:
        figure.trip[axis] = figure.place[axis] - beyond
        figure.place[axis] = beyond


def _occluder(spec: SyntheticSpec, rng: np.random.Generator) -> _Figure:
    """A pole or a bush that stands still before everything else."""
    side = min(spec.width, spec.height)
    surface = _faded(texture(rng, side, side, palette(rng), rng.uniform(2, 8)), spec.texture)
    if rng.random() < 0.6:
        points, angle = np.array([[-1, -25], [1, -25], [1, 25], [-1, 25]]) * rng.uniform(0.02, 0.06), 0.0
    else:
        points, angle = blob(rng, 0.5) * rng.uniform(0.08, 0.16), rng.uniform(0, 2 * np.pi)
    half = float(np.abs(points).max())
    pixels = math.ceil(2 * half * side)
    outline = np.round((points + half) / (2 * half) * pixels).astype(np.int32)
    cover = cv2.fillPoly(np.zeros((pixels, pixels), np.uint8), [outline], 255, cv2.LINE_AA)
    image = _lit(rng, _cut(rng, surface, pixels), cover.astype(np.float32) / 255)
    still = np.zeros((0, 6))
    return _Figure([_Part(image, half)], 0, 1.0, 0.0, _Wander(rng, 4), still, angle + rng.normal(0, 0.15))


# -------------------------------------------------------------------------------------------------- lens


class _Lens:
    """Light, blur, sensor and compression of a clip."""

    def __init__(self, spec: SyntheticSpec, rng: np.random.Generator) -> None:
        self._rng = rng
        self._light = _Wander(rng, 6)
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
        """A picture in [0, 1] as the camera's file shows it: uint8 [h, w, 3]."""
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
        _, code = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        decoded: Any = cv2.imdecode(code, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(decoded[..., ::-1])
