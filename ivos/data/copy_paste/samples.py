"""Deformed stills: video pasted together from cut-outs of pictures, drawn while training asks for it.

A clip is a world (a picture, with pieces of other pictures standing about in it) seen by a moving camera, and
things that move before it. A thing is made of several materials, each a piece of a picture at any scale and
of any tint: a patch of outline and materials of its own, a region of a picture along its edges, or a jointed
figure; where the pictures have masks, a thing can also be an object of theirs. Every thing moves smoothly, is
bent by a smooth flow that changes with time, and may hide another; some look like the object and are not.

Nothing is kept on disk: a clip is a function of its numbers, and takes milliseconds.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ivos.data.batches import MiniSequence
from ivos.data.synthetic.sprites import inpainted_rim, picture_files, sprite_files, sprite_labels
from ivos.data.training import TrainingData
from ivos.interaction.simulate import SimulatedUser
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError
from ivos.video.labels import VOID

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
_CANVAS = 96  # pixels of a thing's side as it is drawn before it is placed
_INVERSE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@accept_former_keywords(subset="split")
class Pictures:
    """A folder's pictures in memory, each at full, half and quarter size.

    Attributes:
        names: of the files.
        levels: the three sizes of each picture, uint8 RGB [h, w, 3].
        objects: of each object of 16 pixels or more: its picture and its mask, uint8 [h, w] of 0 and 1.

    Args:
        folder: of JPEG and PNG files, other folders in it are not looked at; or one with ``images`` and
            ``masks`` of the same names in it, as sets of still images with masks have (0 background, 255 void
            or, in masks of 0 and 255 alone, the object).
        height: larger pictures are reduced to this height.
        split: ``all``, or ``train`` and ``val``: every eighth picture, from the first on, is of ``val``.

    Raises:
        DataError: no such folder, no picture in it (or in the split), files that cannot be read (all of them
            are named), or masks that do not match their pictures.
    """

    def __init__(self, folder: str | Path | None, height: int = 432, split: str = "all") -> None:
        if folder is None:
            raise DataError("pictures: a folder of pictures is needed: pictures=FOLDER")
        chosen = {"all": lambda i: True, "train": lambda i: i % 8, "val": lambda i: i % 8 == 0}
        if split not in chosen:
            raise DataError(f"pictures have no split {split!r}; they have: {', '.join(chosen)}")
        root = Path(folder)
        masked = (root / "images").is_dir() and (root / "masks").is_dir()
        every = sprite_files(str(root)) if masked else [(path, None) for path in picture_files(root)]
        pairs = [pair for i, pair in enumerate(every) if chosen[split](i)]
        files = [path for path, _ in pairs]
        if not files:
            raise DataError(f"{folder}: one picture alone leaves none for the split {split!r}")
        found = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in files]
        if broken := [path.name for path, picture in zip(files, found, strict=True) if picture is None]:
            raise DataError(f"{folder}: {len(broken)} of {len(files)} pictures cannot be read", broken)
        self.names = [path.name for path in files]
        self.levels: list[list[Image]] = []
        self.objects: list[tuple[int, Image]] = []
        for picture, (path, mask) in zip(found, pairs, strict=True):
            if picture is None:
                continue
            labels = None if mask is None else sprite_labels(path, mask)
            image = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            if min(image.shape[:2]) < 32:
                raise DataError(f"{folder}: pictures of at least 32 x 32 pixels are needed")
            if image.shape[0] > height:
                width = max(32, round(image.shape[1] * height / image.shape[0]))
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            if labels is not None:
                size = (image.shape[1], image.shape[0])
                labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
                shown = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:VOID] >= 16) + 1
                self.objects += [(len(self.levels), (labels == one).astype(np.uint8)) for one in shown]
            pyramid = [np.asarray(image, np.uint8)]
            for _ in range(2):
                pyramid.append(np.asarray(cv2.pyrDown(pyramid[-1]), np.uint8))
            self.levels.append(pyramid)

    def __len__(self) -> int:
        return len(self.levels)

    def patch(
        self, number: int, size: tuple[int, int], scale: float, turn: float, rng: np.random.Generator
    ) -> Image:
        """A piece of a picture, uint8 RGB [height, width, 3].

        Args:
            number: which picture.
            size: height and width of the piece.
            scale: pixels of the picture to a pixel of the piece.
            turn: in radians.
            rng: draws where the piece is; what reaches beyond the picture is its mirror image.
        """
        level = int(np.clip(np.floor(np.log2(max(scale, 1e-3)) + 0.5), 0, 2))
        image = self.levels[number][level]
        scale /= 2**level
        centre = rng.uniform(0, 1, 2) * image.shape[1::-1]
        matrix = scale * _turn(turn)
        offset = centre - matrix @ (np.array(size[::-1]) / 2)
        return np.asarray(
            cv2.warpAffine(
                image,
                np.column_stack([matrix, offset]),
                size[::-1],
                flags=_INVERSE,
                borderMode=cv2.BORDER_REFLECT_101,
            ),
            np.uint8,
        )


@dataclass(frozen=True)
class CopyPasteConfig:
    """What pasted clips are like.

    Attributes:
        num_things: fewest and most things that can be the object.
        size: smallest and largest square root of a thing's area, as a share of the frame's shorter side.
        cutouts: share of things that are objects of pictures, where those have masks; the shares that follow
            are of the others.
        figures: share of things that are jointed figures.
        regions: share of things that are regions of a picture.
        speed: slowest and fastest clip, in shorter sides a frame; drawn evenly in its logarithm.
        bend: furthest push of the flow that bends things, as a share of their size.
        clutter: most pieces that stand about in the world.
        camouflage: chance that a thing is cut out of the backdrop's own picture.
        twins: chance that a thing comes with another that looks like it and is background, or an object of
            its own.
        occluders: chance of a thing before all others that is background.
        light: chance that the light changes, smoothly or from one frame to the next.
        blur: chance that what moves fast is blurred.
        soft: chance that a clip is out of focus.
        noise: greatest standard deviation of the noise, in grey levels of 255.
        jpeg: lowest quality of compression.
    """

    num_things: tuple[int, int] = (1, 4)
    size: tuple[float, float] = (0.1, 0.75)
    cutouts: float = 0.6
    figures: float = 0.1
    regions: float = 0.2
    speed: tuple[float, float] = (0.002, 0.08)
    bend: float = 0.12
    clutter: int = 8
    camouflage: float = 0.12
    twins: float = 0.25
    occluders: float = 0.25
    light: float = 0.4
    blur: float = 0.4
    soft: float = 0.3
    noise: float = 8.0
    jpeg: int = 40


def render(
    pictures: Pictures,
    spec: CopyPasteConfig,
    size: tuple[int, int],
    times: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Image, Image]:
    """A clip: frames uint8 RGB [T, h, w, 3] and labels uint8 [T, h, w], 0 where no object is.

    Args:
        pictures: what it is pasted from.
        spec: what it is like.
        size: (h, w).
        times: of the T frames, rising from 0; ``range(T)`` for a clip without gaps.
        rng: all of its randomness.
    """
    side = min(size)
    tempo = float(np.exp(rng.uniform(*np.log(spec.speed))))
    backdrop = int(rng.integers(len(pictures)))
    world = _World(pictures, spec, size, backdrop, tempo, rng)
    actors = _cast(pictures, spec, size, backdrop, tempo, rng)
    light = _Light(spec, times[-1] + 1, rng)
    blurred = rng.random() < spec.blur
    frames = np.empty((len(times), *size, 3), np.uint8)
    labels = np.zeros((len(times), *size), np.uint8)
    softness = rng.uniform(0.4, 1.4) if rng.random() < spec.soft else 0.0
    noise, quality = spec.noise * rng.random() ** 2, int(rng.integers(spec.jpeg, 101))
    for i, t in enumerate(times):
        camera = world.camera.at(t)
        frame = world.seen(camera)
        for actor in actors:
            layer, alpha = actor.drawn(t, camera)
            if blurred:
                layer, alpha = _smear(layer, alpha, actor.path.velocity(t) * side)
            if actor.shadow:
                frame *= 1 - actor.shadow * np.roll(cv2.blur(alpha, (5, 5)), (3, 2), (0, 1))[..., None]
            frame *= 1 - alpha[..., None]
            frame += layer * light.of_thing(actor.number, t)
            labels[i][alpha > 0.5] = actor.label
        frames[i] = _develop(frame * light.of_all(t), softness, noise, quality, rng)
    return frames, labels


def _develop(frame: Float, softness: float, noise: float, quality: int, rng: np.random.Generator) -> Image:
    """What a camera makes of a frame: out of focus, noisy, compressed."""
    if softness:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), softness), np.float32)
    if noise > 0.5:
        frame = frame + np.float32(noise) * rng.standard_normal(frame.shape, np.float32)
    image = np.clip(frame, 0, 255).astype(np.uint8)
    if quality < 95:
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


# ------------------------------------------------------------------------------------------------- movement


def _turn(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _affine(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """3 x 3."""
    return np.vstack([np.column_stack([linear, offset]), [0.0, 0.0, 1.0]])


class _Path:
    """A smooth walk: place (in shorter sides), turn and size over time."""

    def __init__(self, tempo: float, rng: np.random.Generator) -> None:
        direction = rng.uniform(0, 2 * np.pi)
        self.speed = tempo * rng.uniform(0.2, 1.6) * np.array([np.cos(direction), np.sin(direction)])
        self.sway = tempo * rng.uniform(0, 3, 2)
        self.rate, self.phase = rng.uniform(0.2, 1.2), rng.uniform(0, 2 * np.pi, 2)
        self.spin, self.growth = rng.normal(0, 2.0 * tempo), rng.normal(0, 0.6 * tempo)
        self.wag = rng.uniform(0, 0.15) * min(1.0, 15 * tempo)
        self.start = rng.uniform(-0.3, 0.3)

    def shift(self, t: float) -> NDArray[np.float64]:
        """How far from where it was at first."""
        swing = np.sin(self.rate * t + self.phase) - np.sin(self.phase)
        return self.speed * t + self.sway * swing

    def velocity(self, t: float) -> NDArray[np.float64]:
        """Per frame."""
        return self.speed + self.sway * self.rate * np.cos(self.rate * t + self.phase)

    def linear(self, t: float) -> NDArray[np.float64]:
        """Turn and size, 2 x 2."""
        angle = self.start + self.spin * t + self.wag * np.sin(self.rate * t + self.phase[1])
        return float(np.exp(np.clip(self.growth * t, -0.6, 0.6))) * _turn(angle)


class _Camera:
    """Where the camera looks: a 3 x 3 map of the world's pixels to those of the frame."""

    def __init__(self, size: tuple[int, int], tempo: float, rng: np.random.Generator) -> None:
        self.path = _Path(tempo * rng.uniform(0, 1.2), rng)
        self.path.start = rng.uniform(-0.1, 0.1)
        self.shake = tempo * rng.uniform(0, 0.3)
        self.side, self.centre = min(size), np.array(size[::-1]) / 2
        self.jolts = rng.standard_normal((64, 2))

    def at(self, t: int) -> NDArray[np.float64]:
        """At a frame, about the middle of the frame."""
        linear = self.path.linear(t)
        shift = (self.path.shift(t) + self.shake * self.jolts[t % 64]) * self.side
        return _affine(linear, self.centre + shift - linear @ self.centre)


# ------------------------------------------------------------------------------------------------- surfaces


_TINT = 0.3  # more, and things stand out from real scenes by colours that none has


def _tint(image: Image, strength: float, rng: np.random.Generator) -> Float:
    """Another light on another paint: channels mixed, contrast and brightness changed."""
    strength *= _TINT
    mix = np.eye(3) + strength * rng.normal(0, 0.25, (3, 3))
    if rng.random() < 0.25 * strength:
        mix = mix[rng.permutation(3)]
    mix *= np.exp(rng.normal(0, 0.3 * strength))
    offset = strength * rng.normal(0, 25) - (mix.sum(1) - 1) * 100
    return np.clip(cv2.transform(image, np.column_stack([mix, offset])).astype(np.float32), 0, 255)


def _material(
    pictures: Pictures, size: tuple[int, int], number: int | None, rng: np.random.Generator
) -> Float:
    """A surface, float32 RGB [h, w, 3]: a piece of a picture from far to so near that it is a plain shade."""
    which = int(rng.integers(len(pictures))) if number is None else number
    low, high = (np.log(0.04), np.log(0.3)) if rng.random() < 0.4 else (np.log(0.3), np.log(2.5))
    scale = float(np.exp(rng.uniform(low, high)))
    return _tint(pictures.patch(which, size, scale, rng.uniform(-np.pi, np.pi), rng), 1.0, rng)


def _smooth(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Float:
    """Noise that varies over a few cells of the picture, [h, w]."""
    grid = rng.standard_normal((cells + 1, cells + 1), np.float32)
    return np.asarray(cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _painted(pictures: Pictures, number: int | None, rng: np.random.Generator, most: int = 4) -> Float:
    """A thing's surface [C, C, 3] of one to several materials that meet along curves, lines or spots."""
    size = (_CANVAS, _CANVAS)
    surface = _material(pictures, size, number, rng)
    for _ in range(int(rng.integers(0, most))):
        kind, where = rng.random(), np.zeros(size, np.uint8)
        if kind < 0.35:
            where = (_smooth(size, int(rng.integers(1, 5)), rng) > rng.uniform(-0.3, 0.8)).astype(np.uint8)
        elif kind < 0.7:  # a side of a line, or a band
            angle, rows = rng.uniform(0, np.pi), np.arange(_CANVAS) - _CANVAS / 2
            height = np.cos(angle) * rows[None] + np.sin(angle) * rows[:, None]
            low = rng.uniform(-0.3, 0.3) * _CANVAS
            high = _CANVAS if rng.random() < 0.5 else low + rng.uniform(0.05, 0.3) * _CANVAS
            where = ((height > low) & (height < high)).astype(np.uint8)
        else:
            for _ in range(int(rng.integers(1, 5))):
                _ellipse(where, rng.uniform(0.2, 0.8, 2) * _CANVAS, rng.uniform(0.04, 0.22, 2) * _CANVAS, rng)
        where = np.asarray(where, np.uint8)
        np.copyto(surface, _material(pictures, size, None, rng), where=where[..., None] > 0)
    if rng.random() < 0.5:  # round: light from one side
        surface *= 1 + 0.25 * np.clip(_smooth(size, 1, rng), -1.5, 1.5)[..., None]
    return surface


def _ellipse(
    mask: Image, centre: NDArray[np.float64], axes: NDArray[np.float64], rng: np.random.Generator
) -> None:
    at, radii = (int(centre[0]), int(centre[1])), (max(1, int(axes[0])), max(1, int(axes[1])))
    cv2.ellipse(mask, at, radii, float(rng.uniform(0, 180)), 0, 360, 1, -1)


# ------------------------------------------------------------------------------------------------- outlines


def _outline(rng: np.random.Generator) -> Image:
    """A thing's shape, uint8 [C, C] of 0 and 1, in the middle of its canvas."""
    mask, kind = np.zeros((_CANVAS, _CANVAS), np.uint8), rng.random()
    middle = _CANVAS / 2
    if kind < 0.4:  # a wavy round
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radius = np.ones_like(angles)
        for k in range(1, 6):
            radius += rng.normal(0, 0.3 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
        points = (
            np.stack([np.cos(angles) * rng.uniform(0.4, 1), np.sin(angles)], 1)
            * np.clip(radius, 0.25, 1.7)[:, None]
        )
    elif kind < 0.65:  # a polygon
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.4, 1, len(angles))[:, None]
    else:  # boxes and rounds put together
        for _ in range(int(rng.integers(2, 6))):
            centre, axes = (
                middle + rng.uniform(-0.25, 0.25, 2) * _CANVAS,
                rng.uniform(0.06, 0.25, 2) * _CANVAS,
            )
            if rng.random() < 0.5:
                _ellipse(mask, centre, axes, rng)
            else:
                corners = (
                    np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * axes @ _turn(rng.uniform(0, np.pi)).T
                )
                cv2.fillConvexPoly(mask, np.round(centre + corners).astype(np.int32), 1)
        return mask
    points = points / np.abs(points).max() * 0.45 * _CANVAS @ _turn(rng.uniform(0, 2 * np.pi)).T
    cv2.fillPoly(mask, [np.round(middle + points).astype(np.int32)], 1)
    return mask


def _region(patch: Image, rng: np.random.Generator) -> Image:
    """A piece of a picture bounded by the picture's own edges, uint8 [C, C]; empty where there is none."""
    colours = cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.8, 2)).astype(np.float32) / 64
    features = [colours[..., i] for i in range(3)] + [_smooth(patch.shape[:2], 2, rng) * 0.7]
    weights = rng.standard_normal(4)
    value = sum(w * f for w, f in zip(weights, features, strict=True))
    rows = np.arange(_CANVAS) - _CANVAS / 2
    fade = (rows[None] ** 2 + rows[:, None] ** 2) / (0.45 * _CANVAS) ** 2
    middle = slice(_CANVAS // 3, 2 * _CANVAS // 3)
    level = float(np.quantile(np.asarray(value)[middle, middle], rng.uniform(0.2, 0.6)))
    mask = ((np.asarray(value) - level > 0) & (fade < 1)).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return np.zeros_like(mask)
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    piece = (pieces == best).astype(np.uint8)
    if rng.random() < 0.7:
        contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.fillPoly(piece, list(contours), 1)
    return piece


# ------------------------------------------------------------------------------------------------- things


@dataclass
class _Part:
    """A piece of a thing on a canvas of its own, and how it hangs on the thing's frame."""

    image: Float  # RGBA, premultiplied [h, w, 4]
    joint: NDArray[np.float64]  # of the canvas (x, y)
    at: NDArray[np.float64]  # where the joint is on what it hangs on (on the canvas of that, or the thing's)
    angle: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0
    parent: int | None = None

    def place(self, t: float) -> NDArray[np.float64]:
        """3 x 3, its canvas to what it hangs on."""
        linear = _turn(self.angle + self.swing * np.sin(self.rate * t + self.phase))
        return _affine(linear, self.at - linear @ self.joint)


def _rgba(surface: Float, mask: Image) -> Float:
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6)[..., None]
    return np.asarray(np.concatenate([surface * alpha, alpha], axis=2), np.float32)


def _patch_thing(pictures: Pictures, number: int | None, rng: np.random.Generator) -> list[_Part]:
    centre = np.full(2, _CANVAS / 2)
    return [_Part(_rgba(_painted(pictures, number, rng), _outline(rng)), centre, np.zeros(2))]


def _region_thing(pictures: Pictures, number: int | None, rng: np.random.Generator) -> list[_Part]:
    which = int(rng.integers(len(pictures))) if number is None else number
    for _ in range(4):
        scale = float(np.exp(rng.uniform(np.log(0.6), np.log(3))))
        patch = pictures.patch(which, (_CANVAS, _CANVAS), scale, rng.uniform(-0.5, 0.5), rng)
        mask = _region(patch, rng)
        if mask.sum() > 0.08 * mask.size:
            surface = _tint(patch, 0.5, rng)
            return [_Part(_rgba(surface, mask), np.full(2, _CANVAS / 2), np.zeros(2))]
    return _patch_thing(pictures, number, rng)


def _cutout_thing(pictures: Pictures, rng: np.random.Generator) -> list[_Part]:
    which, mask = pictures.objects[int(rng.integers(len(pictures.objects)))]
    x, y, w, h = cv2.boundingRect(mask)
    box = slice(y, y + h), slice(x, x + w)
    factor = 0.9 * _CANVAS / max(w, h)
    size = (max(1, round(factor * w)), max(1, round(factor * h)))
    smoothing = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    cover = np.asarray(cv2.resize(mask[box].astype(np.float32), size, interpolation=smoothing), np.float32)
    colours = inpainted_rim(pictures.levels[which][0][box].astype(np.float32), mask[box].astype(np.float32))
    surface = _tint(
        np.clip(cv2.resize(colours, size, interpolation=smoothing), 0, 255).astype(np.uint8), 0.5, rng
    )
    alpha = cv2.copyMakeBorder(cover, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)[..., None]
    surface = np.asarray(cv2.copyMakeBorder(surface, 1, 1, 1, 1, cv2.BORDER_REPLICATE), np.float32)
    image = np.concatenate([surface * alpha, alpha], axis=2)
    return [_Part(image, np.array(alpha.shape[1::-1]) / 2, np.zeros(2))]


def _limb(
    pictures: Pictures, surface: Float | None, length: float, thick: float, rng: np.random.Generator
) -> tuple[Float, NDArray[np.float64]]:
    """A limb that hangs down from its joint: RGBA [h, w, 4] and the joint (x, y)."""
    width, height = max(4, int(2 * thick) + 5), max(6, int(length + 2 * thick) + 5)
    mask = np.zeros((height, width), np.uint8)
    taper, x = rng.uniform(0.55, 1.0), width / 2
    low, top, bottom = thick * taper, thick + 2, thick + 2 + length
    outline = np.array([[x - thick, top], [x + thick, top], [x + low, bottom], [x - low, bottom]])
    cv2.fillConvexPoly(mask, np.round(outline).astype(np.int32), 1)
    cv2.circle(mask, (int(x), int(top)), max(1, int(thick)), 1, -1)
    cv2.circle(mask, (int(x), int(bottom)), max(1, int(low)), 1, -1)
    if surface is None:
        image = _material(pictures, (height, width), None, rng)
    else:
        top_left = [int(rng.integers(0, max(1, surface.shape[i] - n))) for i, n in enumerate((height, width))]
        piece = surface[top_left[0] : top_left[0] + height, top_left[1] : top_left[1] + width]
        image = np.asarray(cv2.resize(piece, (width, height)), np.float32)
    return _rgba(image, mask), np.array([x, top])


def _figure_thing(pictures: Pictures, number: int | None, rng: np.random.Generator) -> list[_Part]:
    """A trunk with a head, legs and arms of several materials: upright as a person, or lying as a beast."""
    canvas, c = (_CANVAS, _CANVAS), float(_CANVAS)
    upright = rng.random() < 0.65
    cloths = [_material(pictures, canvas, number if i == 0 else None, rng) for i in range(3)]
    skin, shirt, trousers = cloths
    rate, swing = rng.uniform(0.2, 1.1), rng.uniform(0.05, 0.7)
    parts: list[_Part] = []

    def limb(
        surface: Float,
        length: float,
        thick: float,
        at: Sequence[float],
        angle: float,
        swing: float,
        phase: float,
        parent: int | None,
    ) -> int:
        image, joint = _limb(pictures, surface, length, thick, rng)
        parts.append(_Part(image, joint, np.array(at, np.float64), angle, swing, rate, phase, parent))
        return len(parts) - 1

    if upright:
        trunk, leg, arm = rng.uniform(0.2, 0.32) * c, rng.uniform(0.3, 0.42) * c, rng.uniform(0.22, 0.3) * c
        thick = rng.uniform(0.06, 0.11) * c
        hips = 0.02 * c
        for side in (-1, 1):
            phase = 0 if side < 0 else np.pi
            spread = -side * rng.uniform(0, 0.35)
            upper = limb(
                trousers, leg * 0.5, thick * 0.62, [side * thick * 0.45, hips], spread, swing, phase, None
            )
            knee = np.add(parts[upper].joint, [0, leg * 0.5]).tolist()
            shank = trousers if rng.random() < 0.6 else skin
            lower = limb(
                shank, leg * 0.5, thick * 0.5, knee, rng.uniform(-0.2, 0.3), 0.6 * swing, phase + 1, upper
            )
            foot = np.add(parts[lower].joint, [0, leg * 0.5]).tolist()
            limb(
                _material(pictures, canvas, None, rng),
                thick * 1.2,
                thick * 0.4,
                foot,
                rng.choice([-1.4, 1.4]),
                0,
                0,
                lower,
            )
        arms = []
        for side in (-1, 1):
            phase = np.pi if side < 0 else 0
            angle = -side * rng.uniform(0, 1.2)
            arms.append((side, phase, angle))
        limb(shirt, trunk, thick, [0, hips - trunk], 0, 0.03, 0, None)
        for side, phase, angle in arms:
            sleeve = shirt if rng.random() < 0.7 else skin
            upper = limb(
                sleeve, arm * 0.5, thick * 0.4, [side * thick * 0.9, hips - trunk], angle, swing, phase, None
            )
            elbow = np.add(parts[upper].joint, [0, arm * 0.5]).tolist()
            fore = skin if rng.random() < 0.6 else shirt
            limb(fore, arm * 0.5, thick * 0.33, elbow, rng.uniform(-1.0, 1.0), swing * 0.5, phase, upper)
        hair = _material(pictures, canvas, None, rng)
        head = rng.uniform(0.8, 1.15) * thick
        limb(skin, head, head * 0.7, [0, hips - trunk - 1.9 * head], 0, 0.05, 1, None)
        limb(hair, head * 0.3, head * 0.72, [0, hips - trunk - 2.2 * head], 0, 0.05, 1, None)
    else:
        body, thick, leg = (
            rng.uniform(0.35, 0.55) * c,
            rng.uniform(0.08, 0.15) * c,
            rng.uniform(0.12, 0.32) * c,
        )
        for i, x in enumerate((-0.42, -0.3, 0.3, 0.42)):
            phase = (0, np.pi, 0.6, np.pi + 0.6)[i]
            coat = skin if rng.random() < 0.7 else trousers
            upper = limb(coat, leg * 0.5, thick * 0.35, [x * body, thick * 0.4], 0, swing, phase, None)
            knee = np.add(parts[upper].joint, [0, leg * 0.5]).tolist()
            limb(coat, leg * 0.5, thick * 0.27, knee, 0.1, swing * 0.6, phase + 1, upper)
        limb(skin, body, thick, [body / 2, 0], np.pi / 2, 0.03, 0, None)
        if rng.random() < 0.5:
            limb(shirt, body * 0.4, thick * 1.03, [body * 0.2, 0], np.pi / 2, 0.03, 0, None)
        neck = limb(
            skin, thick * 1.4, thick * 0.5, [body / 2, -thick * 0.3], rng.uniform(-2.6, -1.2), 0.15, 0, None
        )
        limb(
            skin,
            thick,
            thick * 0.5,
            np.add(parts[neck].joint, [0, thick * 1.4]).tolist(),
            rng.uniform(0.4, 1.4),
            0.15,
            1,
            neck,
        )
        limb(skin, leg * 0.8, thick * 0.15, [-body / 2, -thick * 0.3], rng.uniform(0.5, 2.2), 0.4, 0, None)
    return parts


class _Actor:
    """A thing on its way through a clip."""

    def __init__(
        self, parts: list[_Part], number: int, label: int, extent: float, size: tuple[int, int],
        tempo: float, bend: float, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.parts, self.number, self.label, self.size = parts, number, label, size
        self.path = _Path(tempo, rng)
        if len(parts) > 1:  # figures stand
            self.path.start *= 0.4
        self.flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
        self.stretch = np.diag(np.exp(rng.normal(0, 0.15, 2)))
        self.side = min(size)
        self.extent = extent  # pixels of the frame to one of the canvas
        self.place = rng.uniform(0.1, 0.9, 2) * np.array(size[::-1])
        self.shadow = float(rng.uniform(0.1, 0.5)) if rng.random() < 0.3 else 0.0
        cells = int(rng.integers(3, 6))
        self.flow = rng.standard_normal((3, cells, cells, 2)).astype(np.float32)
        self.bend = bend * rng.random() * extent * _CANVAS
        self.rate = rng.uniform(0.1, 0.9)
        self.grid = np.stack(np.meshgrid(*map(np.arange, size[::-1])), 2).astype(np.float32)

    def whereabouts(self, t: int) -> NDArray[np.float64]:
        """3 x 3: the thing's frame to the picture's pixels, before the camera moves."""
        linear = self.path.linear(t) @ self.stretch @ self.flip * self.extent
        return _affine(linear, self.place + self.path.shift(t) * self.side)

    def drawn(self, t: int, camera: NDArray[np.float64]) -> tuple[Float, Float]:
        """What is seen of it: colours times alpha [h, w, 3], alpha [h, w]."""
        base = camera @ self.whereabouts(t)
        layer = np.zeros((*self.size, 4), np.float32)
        places: list[NDArray[np.float64]] = []
        for part in self.parts:
            place = part.place(t)
            places.append(places[part.parent] @ place if part.parent is not None else place)
            drawn = _warped(part.image, base @ places[-1], self.size)
            if drawn is not None:
                rows, columns, piece = drawn
                below = layer[rows, columns]
                below *= 1 - piece[..., 3:]
                below += piece
        if self.bend > 0.3:
            layer = self._bent(layer, t)
        return layer[..., :3], layer[..., 3]

    def _bent(self, layer: Float, t: int) -> Float:
        wave = np.array([1.0, np.sin(self.rate * t), np.cos(self.rate * t)], np.float32)
        push = np.tensordot(wave * [0.7, 0.5, 0.5], self.flow, 1).astype(np.float32) * np.float32(
            0.6 * self.bend
        )
        field_ = cv2.resize(push, self.size[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(cv2.remap(layer, self.grid + field_, None, cv2.INTER_LINEAR), np.float32)  # type: ignore[call-overload]


def _warped(
    image: Float, matrix: NDArray[np.float64], size: tuple[int, int]
) -> tuple[slice, slice, Float] | None:
    """An image put into a frame of this size: the rows and columns it touches, and what is there."""
    h, w = image.shape[:2]
    corners = np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]], np.float64)
    box = (matrix @ corners)[:2]
    low = np.floor(box.min(1)).astype(int) - 1
    high = np.ceil(box.max(1)).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, size[::-1])
    if (high <= low).any():
        return None
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if shrink < 0.6:  # else pixels would be passed over
        image = np.asarray(cv2.blur(image, (round(1 / shrink),) * 2), np.float32)
    local = matrix[:2].copy()
    local[:, 2] -= low
    piece = cv2.warpAffine(image, local, tuple(int(n) for n in high - low), flags=cv2.INTER_LINEAR)
    return slice(low[1], high[1]), slice(low[0], high[0]), np.asarray(piece, np.float32)


def _smear(layer: Float, alpha: Float, motion: NDArray[np.float64]) -> tuple[Float, Float]:
    """Blur along the way of half a frame's time."""
    length = int(np.hypot(*motion) * 0.5)
    if length < 2:
        return layer, alpha
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    step = motion / max(np.hypot(*motion), 1e-6) * length / 2
    start, end = np.round(length - step).astype(int), np.round(length + step).astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0)
    kernel /= kernel.sum()
    return np.asarray(cv2.filter2D(layer, -1, kernel)), np.asarray(cv2.filter2D(alpha, -1, kernel))


def _thing(
    pictures: Pictures, spec: CopyPasteConfig, number: int | None, rng: np.random.Generator
) -> list[_Part]:
    if pictures.objects and rng.random() < spec.cutouts:
        return _cutout_thing(pictures, rng)
    kind = rng.random()
    if kind < spec.figures:
        return _figure_thing(pictures, number, rng)
    if kind < spec.figures + spec.regions:
        return _region_thing(pictures, number, rng)
    return _patch_thing(pictures, number, rng)


def _cast(
    pictures: Pictures, spec: CopyPasteConfig, size: tuple[int, int], backdrop: int, tempo: float,
    rng: np.random.Generator,
) -> list[_Actor]:  # fmt: skip
    """The things of a clip from back to front: objects are labelled 1, 2, ..., all else 0."""
    actors: list[_Actor] = []
    label = 0
    for _ in range(int(rng.integers(spec.num_things[0], spec.num_things[1] + 1))):
        own = backdrop if rng.random() < spec.camouflage else None
        parts = _thing(pictures, spec, own, rng)
        label += 1
        extent = float(np.exp(rng.uniform(*np.log(spec.size)))) * min(size) / (0.5 * _CANVAS)
        actors.append(_Actor(parts, len(actors), label, extent, size, tempo, spec.bend, rng))
        if rng.random() < spec.twins:
            twin = 0
            if rng.random() < 0.5:
                label += 1
                twin = label
            near = extent * float(np.exp(rng.normal(0, 0.2)))
            actors.append(_Actor(parts, len(actors), twin, near, size, tempo, spec.bend, rng))
    if rng.random() < spec.occluders:
        parts = _thing(pictures, spec, None, rng)
        extent = float(rng.uniform(0.1, 0.35)) * min(size) / (0.5 * _CANVAS)
        actors.append(_Actor(parts, len(actors), 0, extent, size, tempo, spec.bend, rng))
    return actors


# ------------------------------------------------------------------------------------------------- the rest


class _World:
    """What stands still: a picture with other pictures' pieces in it, larger than the frame."""

    def __init__(
        self, pictures: Pictures, spec: CopyPasteConfig, size: tuple[int, int], backdrop: int, tempo: float,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.size, self.camera = size, _Camera(size, tempo, rng)
        self.margin = np.array([size[1] // 3, size[0] // 3])
        h, w = size[0] + 2 * int(self.margin[1]), size[1] + 2 * int(self.margin[0])
        shown = min(pictures.levels[backdrop][0].shape[:2])
        scale = float(np.exp(rng.uniform(np.log(0.35), np.log(1.1)))) * shown / min(size) * 0.8
        base = _tint(pictures.patch(backdrop, (h, w), scale, rng.uniform(-0.2, 0.2), rng), 0.6, rng)
        if rng.random() < 0.4:  # a floor, or a wall
            other = _material(pictures, (h, w), None, rng)
            line = rng.uniform(0.3, 0.8) * h + rng.uniform(-0.2, 0.2) * np.arange(w)
            np.copyto(base, other, where=(np.arange(h)[:, None] > line[None])[..., None])
        for _ in range(int(rng.integers(0, spec.clutter + 1))):
            self._clutter(pictures, base, rng)
        self.image = np.clip(base, 0, 255).astype(np.uint8)

    def _clutter(self, pictures: Pictures, base: Float, rng: np.random.Generator) -> None:
        h, w = base.shape[:2]
        if rng.random() < 0.35:  # a post, a line, a frame of bars
            thick = int(rng.integers(1, max(2, h // 20)))
            points = rng.uniform(0, 1, (2, 2)) * (w, h)
            if rng.random() < 0.6:
                points[1, rng.integers(2)] = 0.0
                points[1] = (
                    (points[0, 0], points[1, 1]) if rng.random() < 0.5 else (points[1, 0], points[0, 1])
                )
            colour = tuple(float(v) for v in rng.uniform(0, 255, 3))
            first, second = (tuple(int(v) for v in point) for point in points)
            cv2.line(base, first, second, colour, thick, cv2.LINE_AA)  # type: ignore[arg-type]
            return
        [part] = (
            _patch_thing(pictures, None, rng) if rng.random() < 0.6 else _region_thing(pictures, None, rng)
        )
        extent = float(np.exp(rng.uniform(np.log(0.08), np.log(0.5)))) * h / _CANVAS
        place = _affine(extent * _turn(rng.uniform(-0.5, 0.5)), rng.uniform(-0.1, 1, 2) * (w, h))
        drawn = _warped(part.image, place, (h, w))
        if drawn is not None:
            rows, columns, piece = drawn
            below = base[rows, columns]
            below *= 1 - piece[..., 3:]
            below += piece[..., :3]

    def seen(self, camera: NDArray[np.float64]) -> Float:
        """Through the camera, float32 [h, w, 3]."""
        matrix = camera @ _affine(np.eye(2), -self.margin.astype(np.float64))
        image = cv2.warpAffine(
            self.image, matrix[:2], self.size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(image, np.float32)


class _Light:
    """Gains over time of the whole picture and of each thing."""

    def __init__(self, spec: CopyPasteConfig, num_frames: int, rng: np.random.Generator) -> None:
        self.gains = np.ones((num_frames, 3), np.float32)
        time = np.arange(num_frames)
        if rng.random() < spec.light:
            wave = np.sin(rng.uniform(0.05, 0.5) * time + rng.uniform(0, 6))[:, None]
            self.gains *= (1 + rng.uniform(0, 0.2) * wave * (1 + rng.normal(0, 0.2, 3))).astype(np.float32)
            if rng.random() < 0.3:
                self.gains[int(rng.integers(num_frames)) :] *= rng.uniform(0.7, 1.35, 3).astype(np.float32)
        waves = rng.uniform(0, 0.12, 32) if rng.random() < spec.light else np.zeros(32)
        self.waves, self.phases, self.rate = waves, rng.uniform(0, 6, 32), rng.uniform(0.1, 0.6)

    def of_all(self, t: int) -> Float:
        """RGB."""
        return self.gains[t]

    def of_thing(self, number: int, t: int) -> np.float32:
        """One gain."""
        wave, phase = self.waves[number % 32], self.phases[number % 32]
        return np.float32(1 + wave * np.sin(self.rate * t + phase))


# ------------------------------------------------------------------------------------------------- samples


class CopyPasteSamples(Dataset[MiniSequence]):
    """Mini-sequences of pasted clips by number, without end: a function of (seed, number).

    A sample is a clip of its own whose first frame is annotated. The objects that first frame shows well are
    candidates; the others are background, as a user has pointed at one of many things.

    Args:
        pictures: what clips are pasted from.
        spec: what they are like.
        num_frames: T.
        window: the frames that follow are drawn from this many after the annotated one, at least T - 1; None:
            they follow without gaps.
        size: height and width of the frames, multiples of 32.
        max_objects: of a sample.
        min_area: pixels of an object that can be annotated.
        user: draws the strokes.
        seed: see above.
    """

    def __init__(
        self,
        pictures: Pictures,
        spec: CopyPasteConfig | None = None,
        num_frames: int = 1,
        window: int | None = None,
        size: tuple[int, int] = (128, 128),
        max_objects: int = 1,
        min_area: int = 48,
        user: SimulatedUser | None = None,
        seed: int = 0,
    ) -> None:
        if any(side % 32 or side <= 0 for side in size):
            raise DataError(f"size: multiples of 32 are needed, got {list(size)}")
        self.pictures, self.spec, self.num_frames = pictures, spec or CopyPasteConfig(), num_frames
        self.window = num_frames - 1 if window is None else window
        if not 1 <= num_frames <= self.window + 1:
            raise DataError(
                f"num_frames={num_frames}: with window={window}, 1 to {self.window + 1} are possible"
            )
        self.size = (int(size[0]), int(size[1]))
        self.max_objects, self.min_area, self.seed = max_objects, min_area, seed
        self.user = user or SimulatedUser()

    def __getitem__(self, number: int) -> MiniSequence:
        """MiniSequence of this number; see the class."""
        for attempt in itertools.count():  # a clip may begin with all of its objects out of sight
            rng = np.random.default_rng([self.seed, number, attempt])
            steps = rng.permutation(self.window)[: self.num_frames - 1] + 1
            times = [0, *sorted(steps.tolist())]
            frames, labels = render(self.pictures, self.spec, self.size, times, rng)
            areas = np.bincount(labels[0].ravel(), minlength=2)[1:]
            shown = 1 + np.flatnonzero((areas >= self.min_area) & (areas < 0.8 * labels[0].size))
            if len(shown):
                break
        objects = rng.permutation(shown)[: self.max_objects]
        masks = np.stack([labels == label for label in objects]).astype(np.uint8)
        return {
            "name": f"pasted {self.seed}-{number}, objects {objects.tolist()}",
            "frames": frames,
            "masks": masks,
            "interaction": np.stack([self.user(mask[0], rng) for mask in masks]),
        }


class CopyPasteData(TrainingData):
    """Training on pasted clips, validation on videos; arguments as of :class:`TrainingData`.

    Args:
        train: the pictures.
        samples: makes the samples of pictures: :class:`CopyPasteSamples` with all but its pictures given.
        options: see :class:`TrainingData`.
    """

    def __init__(
        self, train: Pictures, samples: Callable[[Pictures], CopyPasteSamples], **options: Any
    ) -> None:
        super().__init__(train=train, samples=samples, **options)  # type: ignore[arg-type]

    def _mini_sequences(self, videos: Any, name: str = "") -> Any:
        return self.samples(videos)
