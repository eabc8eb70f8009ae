"""Objects of copy-paste clips: their composition from pictures and their motion."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.copy_paste.appearance import (
    material,
    painted_surface,
    picture_region,
    random_outline,
    tint,
)
from ivos.data.copy_paste.config import CANVAS, CopyPasteConfig, Float, Image
from ivos.data.copy_paste.motion import SmoothPath, affine, rotation
from ivos.data.copy_paste.pictures import Pictures
from ivos.data.synthetic.sprites import inpainted_rim


@dataclass
class Part:
    """A part of an object, drawn on its own canvas, which swings about a joint.

    Attributes:
        image: RGBA, premultiplied by alpha, float32 [h, w, 4].
        joint: Position of the joint on this part's canvas, (x, y).
        at: Position of the joint on the parent's canvas, or in object coordinates without a parent, (x, y).
        angle: Mean angle in radians.
        swing: Amplitude of the swing in radians.
        rate: Angular frequency of the swing, in radians per frame.
        phase: Phase of the swing.
        parent: Index of the part to which this part is attached; None attaches it to the object.
        scale: Pixels of the parent's canvas per pixel of this part's canvas.
    """

    image: Float
    joint: NDArray[np.float64]
    at: NDArray[np.float64]
    angle: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0
    parent: int | None = None
    scale: float = 1.0

    def place(self, t: float) -> NDArray[np.float64]:
        """Return the transformation from this part's canvas to the parent's, 3 x 3."""
        linear = self.scale * rotation(self.angle + self.swing * np.sin(self.rate * t + self.phase))
        return affine(linear, self.at - linear @ self.joint)


def with_alpha(surface: Float, mask: Image) -> Float:
    """Return a surface as premultiplied RGBA with the softened mask as alpha."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6)[..., None]
    return np.asarray(np.concatenate([surface * alpha, alpha], axis=2), np.float32)


def patch_object(pictures: Pictures, number: int | None, rng: np.random.Generator) -> list[Part]:
    """Make an object with a random outline and random materials."""
    centre = np.full(2, CANVAS / 2)
    return [
        Part(with_alpha(painted_surface(pictures, number, rng), random_outline(rng)), centre, np.zeros(2))
    ]


def region_object(pictures: Pictures, number: int | None, rng: np.random.Generator) -> list[Part]:
    """Make an object of a region of a picture, or a :func:`patch_object` if no region is large enough."""
    which = int(rng.integers(len(pictures))) if number is None else number
    for _ in range(4):
        scale = float(np.exp(rng.uniform(np.log(0.6), np.log(3))))
        patch = pictures.patch(which, (CANVAS, CANVAS), scale, rng.uniform(-0.5, 0.5), rng)
        mask = picture_region(patch, rng)
        if mask.sum() > 0.08 * mask.size:
            surface = tint(patch, 0.5, rng)
            return [Part(with_alpha(surface, mask), np.full(2, CANVAS / 2), np.zeros(2))]
    return patch_object(pictures, number, rng)


def cutout_object(pictures: Pictures, spec: CopyPasteConfig, rng: np.random.Generator) -> list[Part]:
    """Make an object of a masked object of a picture or of a cut-out.

    Its longer side has at most ``spec.cutout_resolution`` pixels.
    """
    number = int(rng.integers(len(pictures.objects) + len(pictures.cutouts)))
    if number < len(pictures.objects):
        which, mask = pictures.objects[number]
        x, y, w, h = cv2.boundingRect(mask)
        box = slice(y, y + h), slice(x, x + w)
        opacity = mask[box].astype(np.float32)
        colours = inpainted_rim(pictures.levels[which][0][box].astype(np.float32), opacity)
    else:
        rgb, opacity = pictures.cutouts[number - len(pictures.objects)]
        h, w = opacity.shape
        colours = inpainted_rim(rgb.astype(np.float32), opacity)
    longest = min(spec.cutout_resolution, max(w, h)) if spec.cutout_resolution else 0.9 * CANVAS
    factor = longest / max(w, h)
    size = (max(1, round(factor * w)), max(1, round(factor * h)))
    smoothing = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    cover = np.asarray(cv2.resize(opacity, size, interpolation=smoothing), np.float32)
    surface = tint(
        np.clip(cv2.resize(colours, size, interpolation=smoothing), 0, 255).astype(np.uint8),
        spec.cutout_tint,
        rng,
    )
    alpha = cv2.copyMakeBorder(cover, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)[..., None]
    surface = np.asarray(cv2.copyMakeBorder(surface, 1, 1, 1, 1, cv2.BORDER_REPLICATE), np.float32)
    image = np.concatenate([surface * alpha, alpha], axis=2)
    return [Part(image, np.array(alpha.shape[1::-1]) / 2, np.zeros(2), scale=0.9 * CANVAS / longest)]


def make_limb(
    pictures: Pictures, surface: Float | None, length: float, thick: float, rng: np.random.Generator
) -> tuple[Float, NDArray[np.float64]]:
    """Make a limb that points down from its joint.

    Returns:
        Image RGBA [h, w, 4] and position of the joint (x, y).
    """
    width, height = max(4, int(2 * thick) + 5), max(6, int(length + 2 * thick) + 5)
    mask = np.zeros((height, width), np.uint8)
    taper, x = rng.uniform(0.55, 1.0), width / 2
    low, top, bottom = thick * taper, thick + 2, thick + 2 + length
    outline = np.array([[x - thick, top], [x + thick, top], [x + low, bottom], [x - low, bottom]])
    cv2.fillConvexPoly(mask, np.round(outline).astype(np.int32), 1)
    cv2.circle(mask, (int(x), int(top)), max(1, int(thick)), 1, -1)
    cv2.circle(mask, (int(x), int(bottom)), max(1, int(low)), 1, -1)
    if surface is None:
        image = material(pictures, (height, width), None, rng)
    else:
        top_left = [int(rng.integers(0, max(1, surface.shape[i] - n))) for i, n in enumerate((height, width))]
        piece = surface[top_left[0] : top_left[0] + height, top_left[1] : top_left[1] + width]
        image = np.asarray(cv2.resize(piece, (width, height)), np.float32)
    return with_alpha(image, mask), np.array([x, top])


def figure_object(pictures: Pictures, number: int | None, rng: np.random.Generator) -> list[Part]:
    """Make a trunk with a head, legs and arms of several materials: a standing person or an animal."""
    upright = rng.random() < 0.65
    figure = _Figure(pictures, number, rng)
    if upright:
        figure.add_person()
    else:
        figure.add_animal()
    return figure.parts


class _Figure:
    """Builder of a jointed figure, with the materials and the motion that its limbs share."""

    def __init__(self, pictures: Pictures, number: int | None, rng: np.random.Generator) -> None:
        self.pictures, self.rng, self.canvas = pictures, rng, (CANVAS, CANVAS)
        cloths = [material(pictures, self.canvas, number if i == 0 else None, rng) for i in range(3)]
        self.skin, self.shirt, self.trousers = cloths
        self.rate, self.swing = rng.uniform(0.2, 1.1), rng.uniform(0.05, 0.7)
        self.parts: list[Part] = []

    def _add(
        self,
        surface: Float,
        length: float,
        thick: float,
        at: Sequence[float],
        angle: float,
        swing: float,
        phase: float,
        parent: int | None,
    ) -> int:
        """Add a limb and return its index; see :class:`Part`."""
        image, joint = make_limb(self.pictures, surface, length, thick, self.rng)
        part = Part(image, joint, np.array(at, np.float64), angle, swing, self.rate, phase, parent)
        self.parts.append(part)
        return len(self.parts) - 1

    def add_person(self) -> None:
        """Add the limbs of a standing person."""
        rng, parts, swing = self.rng, self.parts, self.swing
        skin, shirt = self.skin, self.shirt
        pictures, canvas = self.pictures, self.canvas
        trunk, leg, arm = (
            rng.uniform(0.2, 0.32) * float(CANVAS),
            rng.uniform(0.3, 0.42) * float(CANVAS),
            rng.uniform(0.22, 0.3) * float(CANVAS),
        )
        thick = rng.uniform(0.06, 0.11) * float(CANVAS)
        hips = 0.02 * float(CANVAS)
        self._add_legs(leg, thick, hips)
        arms = []
        for side in (-1, 1):
            phase = np.pi if side < 0 else 0
            angle = -side * rng.uniform(0, 1.2)
            arms.append((side, phase, angle))
        self._add(shirt, trunk, thick, [0, hips - trunk], 0, 0.03, 0, None)
        for side, phase, angle in arms:
            sleeve = shirt if rng.random() < 0.7 else skin
            upper = self._add(
                sleeve,
                arm * 0.5,
                thick * 0.4,
                [side * thick * 0.9, hips - trunk],
                angle,
                swing,
                phase,
                None,
            )
            elbow = np.add(parts[upper].joint, [0, arm * 0.5]).tolist()
            fore = skin if rng.random() < 0.6 else shirt
            self._add(
                fore,
                arm * 0.5,
                thick * 0.33,
                elbow,
                rng.uniform(-1.0, 1.0),
                swing * 0.5,
                phase,
                upper,
            )
        hair = material(pictures, canvas, None, rng)
        head = rng.uniform(0.8, 1.15) * thick
        self._add(skin, head, head * 0.7, [0, hips - trunk - 1.9 * head], 0, 0.05, 1, None)
        self._add(hair, head * 0.3, head * 0.72, [0, hips - trunk - 2.2 * head], 0, 0.05, 1, None)

    def _add_legs(self, leg: float, thick: float, hips: float) -> None:
        """Add two legs, each with a foot, below the hips."""
        rng, parts, swing = self.rng, self.parts, self.swing
        skin, trousers = self.skin, self.trousers
        for side in (-1, 1):
            phase = 0 if side < 0 else np.pi
            spread = -side * rng.uniform(0, 0.35)
            upper = self._add(
                trousers,
                leg * 0.5,
                thick * 0.62,
                [side * thick * 0.45, hips],
                spread,
                swing,
                phase,
                None,
            )
            knee = np.add(parts[upper].joint, [0, leg * 0.5]).tolist()
            shank = trousers if rng.random() < 0.6 else skin
            lower = self._add(
                shank,
                leg * 0.5,
                thick * 0.5,
                knee,
                rng.uniform(-0.2, 0.3),
                0.6 * swing,
                phase + 1,
                upper,
            )
            foot = np.add(parts[lower].joint, [0, leg * 0.5]).tolist()
            self._add(
                material(self.pictures, self.canvas, None, rng),
                thick * 1.2,
                thick * 0.4,
                foot,
                rng.choice([-1.4, 1.4]),
                0,
                0,
                lower,
            )

    def add_animal(self) -> None:
        """Add the limbs of an animal on four legs."""
        rng, parts, swing = self.rng, self.parts, self.swing
        skin, shirt, trousers = self.skin, self.shirt, self.trousers
        body, thick, leg = (
            rng.uniform(0.35, 0.55) * float(CANVAS),
            rng.uniform(0.08, 0.15) * float(CANVAS),
            rng.uniform(0.12, 0.32) * float(CANVAS),
        )
        for i, x in enumerate((-0.42, -0.3, 0.3, 0.42)):
            phase = (0, np.pi, 0.6, np.pi + 0.6)[i]
            coat = skin if rng.random() < 0.7 else trousers
            upper = self._add(coat, leg * 0.5, thick * 0.35, [x * body, thick * 0.4], 0, swing, phase, None)
            knee = np.add(parts[upper].joint, [0, leg * 0.5]).tolist()
            self._add(coat, leg * 0.5, thick * 0.27, knee, 0.1, swing * 0.6, phase + 1, upper)
        self._add(skin, body, thick, [body / 2, 0], np.pi / 2, 0.03, 0, None)
        if rng.random() < 0.5:
            self._add(shirt, body * 0.4, thick * 1.03, [body * 0.2, 0], np.pi / 2, 0.03, 0, None)
        neck = self._add(
            skin,
            thick * 1.4,
            thick * 0.5,
            [body / 2, -thick * 0.3],
            rng.uniform(-2.6, -1.2),
            0.15,
            0,
            None,
        )
        self._add(
            skin,
            thick,
            thick * 0.5,
            np.add(parts[neck].joint, [0, thick * 1.4]).tolist(),
            rng.uniform(0.4, 1.4),
            0.15,
            1,
            neck,
        )
        self._add(
            skin,
            leg * 0.8,
            thick * 0.15,
            [-body / 2, -thick * 0.3],
            rng.uniform(0.5, 2.2),
            0.4,
            0,
            None,
        )


def make_object(
    pictures: Pictures, spec: CopyPasteConfig, number: int | None, rng: np.random.Generator
) -> list[Part]:
    """Make an object of a random kind from picture ``number``, or from random pictures if it is None."""
    if (pictures.objects or pictures.cutouts) and rng.random() < spec.cutouts:
        return cutout_object(pictures, spec, rng)
    kind = rng.random()
    if kind < spec.figures:
        return figure_object(pictures, number, rng)
    if kind < spec.figures + spec.regions:
        return region_object(pictures, number, rng)
    return patch_object(pictures, number, rng)


def warp(
    image: Float, matrix: NDArray[np.float64], size: tuple[int, int]
) -> tuple[slice, slice, Float] | None:
    """Warp an image into a frame.

    Returns:
        Rows and columns of the frame that the warped image covers, and its pixels there; None if it is
        outside the frame.
    """
    h, w = image.shape[:2]
    corners = np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]], np.float64)
    box = (matrix @ corners)[:2]
    low = np.floor(box.min(1)).astype(int) - 1
    high = np.ceil(box.max(1)).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, size[::-1])
    if (high <= low).any():
        return None
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if shrink < 0.6:  # against aliasing
        image = np.asarray(cv2.blur(image, (round(1 / shrink),) * 2), np.float32)
    local = matrix[:2].copy()
    local[:, 2] -= low
    piece = cv2.warpAffine(image, local, tuple(int(n) for n in high - low), flags=cv2.INTER_LINEAR)
    return slice(low[1], high[1]), slice(low[0], high[0]), np.asarray(piece, np.float32)


class MovingObject:
    """An object that moves through a clip."""

    def __init__(
        self, parts: list[Part], number: int, label: int, extent: float, size: tuple[int, int],
        tempo: float, bend: float, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.parts, self.number, self.label, self.size = parts, number, label, size
        self.path = SmoothPath(tempo, rng)
        if len(parts) > 1:  # figures are upright
            self.path.start *= 0.4
        self.flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
        self.stretch = np.diag(np.exp(rng.normal(0, 0.15, 2)))
        self.side = min(size)
        self.extent = extent  # pixels of the frame per pixel of the canvas
        self.place = rng.uniform(0.1, 0.9, 2) * np.array(size[::-1])
        self.shadow = float(rng.uniform(0.1, 0.5)) if rng.random() < 0.3 else 0.0
        cells = int(rng.integers(3, 6))
        self.flow = rng.standard_normal((3, cells, cells, 2)).astype(np.float32)
        self.bend = bend * rng.random() * extent * CANVAS
        self.rate = rng.uniform(0.1, 0.9)
        self.grid = np.stack(np.meshgrid(*map(np.arange, size[::-1])), 2).astype(np.float32)

    def to_world(self, t: int) -> NDArray[np.float64]:
        """Return the transformation from object coordinates to world pixels, 3 x 3."""
        linear = self.path.linear(t) @ self.stretch @ self.flip * self.extent
        return affine(linear, self.place + self.path.shift(t) * self.side)

    def render(self, t: int, camera: NDArray[np.float64]) -> tuple[Float, Float]:
        """Render the object at time t: premultiplied colours [h, w, 3] and alpha [h, w]."""
        base = camera @ self.to_world(t)
        layer = np.zeros((*self.size, 4), np.float32)
        places: list[NDArray[np.float64]] = []
        for part in self.parts:
            place = part.place(t)
            places.append(places[part.parent] @ place if part.parent is not None else place)
            drawn = warp(part.image, base @ places[-1], self.size)
            if drawn is not None:
                rows, columns, piece = drawn
                below = layer[rows, columns]
                below *= 1 - piece[..., 3:]
                below += piece
        if self.bend > 0.3:
            layer = self._bent(layer, t)
        return layer[..., :3], layer[..., 3]

    def _bent(self, layer: Float, t: int) -> Float:
        """Deform a rendered object by its flow at time t."""
        wave = np.array([1.0, np.sin(self.rate * t), np.cos(self.rate * t)], np.float32)
        push = np.tensordot(wave * [0.7, 0.5, 0.5], self.flow, 1).astype(np.float32) * np.float32(
            0.6 * self.bend
        )
        field_ = cv2.resize(push, self.size[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(cv2.remap(layer, self.grid + field_, None, cv2.INTER_LINEAR), np.float32)  # type: ignore[call-overload]


def place_objects(
    pictures: Pictures, spec: CopyPasteConfig, size: tuple[int, int], backdrop: int, tempo: float,
    rng: np.random.Generator,
) -> list[MovingObject]:  # fmt: skip
    """Return the objects of a clip from back to front, with labels 1, 2, ..., or 0 for background."""
    objects: list[MovingObject] = []
    label = 0
    for _ in range(int(rng.integers(spec.num_things[0], spec.num_things[1] + 1))):
        own = backdrop if rng.random() < spec.camouflage else None
        parts = make_object(pictures, spec, own, rng)
        label += 1
        extent = float(np.exp(rng.uniform(*np.log(spec.size)))) * min(size) / (0.5 * CANVAS)
        objects.append(MovingObject(parts, len(objects), label, extent, size, tempo, spec.bend, rng))
        if rng.random() < spec.twins:
            twin = 0
            if rng.random() < 0.5:
                label += 1
                twin = label
            near = extent * float(np.exp(rng.normal(0, 0.2)))
            objects.append(MovingObject(parts, len(objects), twin, near, size, tempo, spec.bend, rng))
        if spec.same_kind and rng.random() < spec.same_kind:
            for _ in range(int(rng.integers(1, spec.max_same_kind + 1))):
                label += 1
                near = extent * float(np.exp(rng.normal(0, 0.2)))
                objects.append(MovingObject(parts, len(objects), label, near, size, tempo, spec.bend, rng))
    if rng.random() < spec.occluders:
        parts = make_object(pictures, spec, None, rng)
        extent = float(rng.uniform(0.1, 0.35)) * min(size) / (0.5 * CANVAS)
        objects.append(MovingObject(parts, len(objects), 0, extent, size, tempo, spec.bend, rng))
    return objects
