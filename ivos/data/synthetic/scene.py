"""A scene: figures in front of a moving backdrop, recorded by a moving camera.

*World* coordinates have their origin at the centre of the first frame; their unit is the frame's shorter
side. The unit of time is one frame.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.figures import Figure
from ivos.data.synthetic.motion import Matrix, Wander, similarity
from ivos.data.synthetic.sprites import picture_files
from ivos.data.synthetic.textures import Float, backdrop, faded, palette
from ivos.video.files import read_frame

_SUBFRAMES = 4  # number of instants that are averaged in an exposure


class Scene:
    """Backdrop, camera and figures (from back to front) of a clip."""

    def __init__(self, spec: SyntheticSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self.backdrop, self.colours = _backdrop(spec, rng)
        self.figures: list[Figure] = []
        self.num_labels = 1
        self._pan = Wander(rng, 5)
        self._jitter = rng.normal(0, spec.camera_shake, (spec.num_frames + 2, 2))
        y, x = np.mgrid[: spec.height, : spec.width].astype(np.float32)
        self._pixels = np.stack([x, y])

    @property
    def half(self) -> Matrix:
        """Half the frame's width and height, in world units."""
        return np.array([self.spec.width, self.spec.height]) / (2 * min(self.spec.width, self.spec.height))

    def camera(self, t: float) -> tuple[Matrix, Matrix]:
        """Return the transformation from world to pixel coordinates, and the drift of the backdrop."""
        spec = self.spec
        x, y, zoom, *drift = self._pan(t)
        jitter = [np.interp(t + 1, np.arange(len(self._jitter)), axis) for axis in self._jitter.T]
        scale = min(spec.width, spec.height) * math.exp(max(-0.5, min(0.5, spec.camera_zoom * zoom)))
        shift = scale * (spec.camera_pan * np.array([x, y]) + jitter)
        centre = np.array([spec.width - 1, spec.height - 1]) / 2
        return similarity(centre - shift, scale=scale), spec.backdrop_motion * np.array(drift)

    def expose(self, t: float) -> tuple[Float, NDArray[np.uint8]]:
        """Return frame ``t``, [h, w, 3] in [0, 1], and its labels [h, w]; see :func:`render_clip`."""
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
        """Return the image at an instant [h, w, 3], and each label's share of each pixel [labels, h, w]."""
        camera, drift = self.camera(t)
        middle = np.array(self.backdrop.shape[1::-1]) / 2
        to_backdrop = camera @ similarity(drift - middle / self.unit, scale=1 / self.unit)
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
    def unit(self) -> float:
        """Pixels of the backdrop per world unit."""
        return min(self.spec.width, self.spec.height)

    def _add(self, figure: Figure, t: float, camera: Matrix, colour: Float, cover: Float) -> None:
        """Paint a figure over the image and its coverage; each part is painted within a small window."""
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
        """Return the rows and columns of the frame within a circle about a point of a figure."""
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
    """Return a picture twice as wide and high as the frame, [2h, 2w, 3], and its colours [C, 3]."""
    width, height = 2 * spec.width, 2 * spec.height
    if spec.backgrounds is None:
        colours = palette(rng)
        return faded(backdrop(rng, height, width, colours), spec.texture), colours
    files = picture_files(Path(spec.backgrounds))
    picture: Float = read_frame(files[rng.integers(len(files))]).astype(np.float32) / 255
    scale = max(width / picture.shape[1], height / picture.shape[0]) * rng.uniform(1, 1.3)
    size = (math.ceil(picture.shape[1] * scale), math.ceil(picture.shape[0] * scale))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x, y = (rng.integers(0, room + 1) for room in (size[0] - width, size[1] - height))
    picture = picture[y : y + height, x : x + width]
    picture = np.ascontiguousarray(picture[:, ::-1] if rng.random() < 0.5 else picture)
    return picture, picture.mean((0, 1))[None]
