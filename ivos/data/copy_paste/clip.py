"""Rendering of copy-paste clips: backdrop, camera motion, lighting, objects and camera noise."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.copy_paste.appearance import material, tint
from ivos.data.copy_paste.config import CANVAS, CopyPasteConfig, Float, Image
from ivos.data.copy_paste.motion import Camera, affine, rotation
from ivos.data.copy_paste.objects import patch_object, place_objects, region_object, warp
from ivos.data.copy_paste.pictures import Pictures
from ivos.data.synthetic.camera_effects import compress


def render(
    pictures: Pictures,
    spec: CopyPasteConfig,
    size: tuple[int, int],
    times: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Image, Image]:
    """Render a clip.

    Args:
        pictures: Pictures of which the clip is composed.
        spec: Settings of the clip.
        size: Height and width of the frames.
        times: Times of the T frames, increasing from 0; ``range(T)`` for a clip without gaps.
        rng: Generator of all random choices.

    Returns:
        Frames uint8 RGB [T, h, w, 3] and labels uint8 [T, h, w], 0 for background.
    """
    side = min(size)
    tempo = float(np.exp(rng.uniform(*np.log(spec.speed))))
    backdrop = int(rng.integers(len(pictures)))
    scenery = Backdrop(pictures, spec, size, backdrop, tempo, rng)
    objects = place_objects(pictures, spec, size, backdrop, tempo, rng)
    light = Lighting(spec, times[-1] + 1, rng)
    blurred = rng.random() < spec.blur
    frames = np.empty((len(times), *size, 3), np.uint8)
    labels = np.zeros((len(times), *size), np.uint8)
    softness = rng.uniform(0.4, 1.4) if rng.random() < spec.soft else 0.0
    noise, quality = spec.noise * rng.random() ** 2, int(rng.integers(spec.jpeg, 101))
    for i, t in enumerate(times):
        camera = scenery.camera.at(t)
        frame = scenery.render(camera)
        for each in objects:
            layer, alpha = each.render(t, camera)
            if blurred:
                layer, alpha = motion_blur(layer, alpha, each.path.velocity(t) * side)
            if each.shadow:
                frame *= 1 - each.shadow * np.roll(cv2.blur(alpha, (5, 5)), (3, 2), (0, 1))[..., None]
            frame *= 1 - alpha[..., None]
            frame += layer * light.of_object(each.number, t)
            labels[i][alpha > 0.5] = each.label
        frames[i] = record(frame * light.of_frame(t), softness, noise, quality, rng)
    return frames, labels


def record(frame: Float, softness: float, noise: float, quality: int, rng: np.random.Generator) -> Image:
    """Apply the camera's defocus, noise and compression to a frame."""
    if softness:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), softness), np.float32)
    if noise > 0.5:
        frame = frame + np.float32(noise) * rng.standard_normal(frame.shape, np.float32)
    image = np.clip(frame, 0, 255).astype(np.uint8)
    if quality < 95:
        image = compress(image, quality)
    return image


def motion_blur(layer: Float, alpha: Float, motion: NDArray[np.float64]) -> tuple[Float, Float]:
    """Blur an object along its motion, as with an exposure time of half the frame interval."""
    length = int(np.hypot(*motion) * 0.5)
    if length < 2:
        return layer, alpha
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    step = motion / max(np.hypot(*motion), 1e-6) * length / 2
    start, end = np.round(length - step).astype(int), np.round(length + step).astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0)
    kernel /= kernel.sum()
    return np.asarray(cv2.filter2D(layer, -1, kernel)), np.asarray(cv2.filter2D(alpha, -1, kernel))


class Backdrop:
    """Static backdrop, larger than the frame: a picture with pasted pieces of other pictures."""

    def __init__(
        self, pictures: Pictures, spec: CopyPasteConfig, size: tuple[int, int], backdrop: int, tempo: float,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.size, self.camera = size, Camera(size, tempo, rng)
        self.margin = np.array([size[1] // 3, size[0] // 3])
        h, w = size[0] + 2 * int(self.margin[1]), size[1] + 2 * int(self.margin[0])
        shown = min(pictures.levels[backdrop][0].shape[:2])
        scale = float(np.exp(rng.uniform(np.log(0.35), np.log(1.1)))) * shown / min(size) * 0.8
        base = tint(pictures.patch(backdrop, (h, w), scale, rng.uniform(-0.2, 0.2), rng), 0.6, rng)
        if rng.random() < 0.4:  # a floor or a wall
            other = material(pictures, (h, w), None, rng)
            line = rng.uniform(0.3, 0.8) * h + rng.uniform(-0.2, 0.2) * np.arange(w)
            np.copyto(base, other, where=(np.arange(h)[:, None] > line[None])[..., None])
        for _ in range(int(rng.integers(0, spec.clutter + 1))):
            self._clutter(pictures, base, rng)
        self.image = np.clip(base, 0, 255).astype(np.uint8)

    def _clutter(self, pictures: Pictures, base: Float, rng: np.random.Generator) -> None:
        h, w = base.shape[:2]
        if rng.random() < 0.35:  # a line, such as a post or a bar
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
            patch_object(pictures, None, rng) if rng.random() < 0.6 else region_object(pictures, None, rng)
        )
        extent = float(np.exp(rng.uniform(np.log(0.08), np.log(0.5)))) * h / CANVAS
        place = affine(extent * rotation(rng.uniform(-0.5, 0.5)), rng.uniform(-0.1, 1, 2) * (w, h))
        drawn = warp(part.image, place, (h, w))
        if drawn is not None:
            rows, columns, piece = drawn
            below = base[rows, columns]
            below *= 1 - piece[..., 3:]
            below += piece[..., :3]

    def render(self, camera: NDArray[np.float64]) -> Float:
        """Render the backdrop through the camera, float32 [h, w, 3]."""
        matrix = camera @ affine(np.eye(2), -self.margin.astype(np.float64))
        image = cv2.warpAffine(
            self.image, matrix[:2], self.size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(image, np.float32)


class Lighting:
    """Time-dependent brightness gains of the whole frame and of each object."""

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

    def of_frame(self, t: int) -> Float:
        """Return the gains of a frame, RGB."""
        return self.gains[t]

    def of_object(self, number: int, t: int) -> np.float32:
        """Return the gain of one object."""
        wave, phase = self.waves[number % 32], self.phases[number % 32]
        return np.float32(1 + wave * np.sin(self.rate * t + phase))
