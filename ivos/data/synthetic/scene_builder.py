"""Random composition of scenes: figures, their surfaces and their positions."""

import math

import cv2
import numpy as np

from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.figures import Figure, Part, cut, drawn, lit
from ivos.data.synthetic.motion import Matrix, Wander
from ivos.data.synthetic.scene import Scene
from ivos.data.synthetic.sprites import cut_out
from ivos.data.synthetic.textures import Float, blob, faded, palette, texture
from ivos.video.files import DataError

_ATTEMPTS = 40
_MIN_PIXELS = 16  # smallest area of an object in frame 0


def build_scene(spec: SyntheticSpec, rng: np.random.Generator) -> Scene:
    """Build a scene whose objects are all visible in frame 0; they are placed repeatedly until they are."""
    scene = Scene(spec, rng)
    objects = int(rng.integers(spec.min_objects, spec.max_objects + 1))
    scene.num_labels = objects + 1
    cast = _cast(spec, rng, scene.colours, objects)
    order = rng.permutation(len(cast))
    occluders = [_occluder(spec, rng) for _ in range(rng.poisson(spec.occluders))]
    for attempt in range(_ATTEMPTS):
        for figure in cast:
            figure.size *= 1 if attempt == 0 else 0.94  # smaller figures fit more easily
            _place(figure, spec, rng, scene.half)
        for occluder in occluders:
            occluder.place = rng.uniform(-scene.half, scene.half)
        scene.figures = [cast[i] for i in order] + occluders
        areas = np.bincount(scene.expose(0)[1].ravel(), minlength=objects + 1)
        full = {figure.label: figure.area * (figure.size * scene.unit) ** 2 for figure in cast}
        if all(areas[label] >= max(_MIN_PIXELS, 0.5 * full[label]) for label in range(1, objects + 1)):
            return scene
    raise DataError(
        f"synthetic video: no room for {objects} objects of at least {_MIN_PIXELS} pixels in "
        f"{spec.width}x{spec.height}; lower max_objects or max_size, or raise min_size"
    )


def _cast(
    spec: SyntheticSpec, rng: np.random.Generator, backdrop_colours: Float, objects: int
) -> list[Figure]:
    """Return the figures: first the objects in the order of their labels, then the distractors."""
    taken = [backdrop_colours]
    skins: list[tuple[Float, Float]] = []
    cast = []
    for label in [*range(1, objects + 1), *[0] * rng.poisson(spec.distractors)]:
        target = rng.uniform(spec.min_size, spec.max_size)
        if spec.sprites is not None:
            cast.append(cut_out(spec, rng, label, target, spec.sprites))
            continue
        if label == 0 and rng.random() < spec.similarity:
            skin = skins[rng.integers(objects)]
        else:
            colours = _colours(rng, taken, camouflaged=rng.random() < spec.camouflage)
            taken.append(colours)
            skin = _skin(spec, rng, colours)
        skins.append(skin)
        cast.append(drawn(spec, rng, label, target, skin))
    return cast


def _colours(rng: np.random.Generator, taken: list[Float], camouflaged: bool) -> Float:
    """Return colours unlike all colours in use, or those of the backdrop if the figure is camouflaged."""
    if camouflaged:
        return taken[0] if len(taken[0]) > 1 else (taken[0] * rng.uniform(0.5, 1.5, (4, 1))).clip(0, 1)
    choice = [palette(rng) for _ in range(6)]
    means = np.stack([colours.mean(0) for colours in taken])
    return max(choice, key=lambda colours: float(np.linalg.norm(means - colours.mean(0), axis=1).min()))


def _skin(spec: SyntheticSpec, rng: np.random.Generator, colours: Float) -> tuple[Float, Float]:
    """Return the two surfaces of a figure: of its main parts and of its trim."""
    side = math.ceil(2.5 * spec.max_size * min(spec.width, spec.height))
    bulk = texture(rng, side, side, colours, rng.uniform(2, 7))
    trim = texture(rng, side, side, colours[::-1], rng.uniform(2, 7), "clouds")
    return faded(bulk, spec.texture), faded(trim, spec.texture)


def _place(figure: Figure, spec: SyntheticSpec, rng: np.random.Generator, half: Matrix) -> None:
    """Set the position and motion of a figure; a distractor may start outside the frame and enter it."""
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


def _occluder(spec: SyntheticSpec, rng: np.random.Generator) -> Figure:
    """Return a static occluder in front of all figures, shaped like a pole or a bush."""
    side = min(spec.width, spec.height)
    surface = faded(texture(rng, side, side, palette(rng), rng.uniform(2, 8)), spec.texture)
    if rng.random() < 0.6:
        points, angle = np.array([[-1, -25], [1, -25], [1, 25], [-1, 25]]) * rng.uniform(0.02, 0.06), 0.0
    else:
        points, angle = blob(rng, 0.5) * rng.uniform(0.08, 0.16), rng.uniform(0, 2 * np.pi)
    half = float(np.abs(points).max())
    pixels = math.ceil(2 * half * side)
    outline = np.round((points + half) / (2 * half) * pixels).astype(np.int32)
    cover = cv2.fillPoly(np.zeros((pixels, pixels), np.uint8), [outline], 255, cv2.LINE_AA)
    image = lit(rng, cut(rng, surface, pixels), cover.astype(np.float32) / 255)
    still = np.zeros((0, 6))
    return Figure([Part(image, half)], 0, 1.0, 0.0, Wander(rng, 4), still, angle + rng.normal(0, 0.15))
