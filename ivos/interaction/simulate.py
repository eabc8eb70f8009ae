"""Simulated users for training, who annotate a frame or correct a faulty mask of a frame.

All functions treat one object at a time, as A-Net does. They use only the random generator that is passed to
them, so that the same state of the generator yields the same strokes in any process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.interaction.raster import interaction_channels
from ivos.interaction.robot import Robot
from ivos.interaction.stroke_kinds import STROKE_KINDS, fractions, largest_piece
from ivos.interaction.strokes import Stroke
from ivos.runtime.errors import UserError
from ivos.runtime.options import Share
from ivos.runtime.renamed_options import accept_former_keywords

Mask = NDArray[np.uint8]
KEEP_FIRST = 0.3
"""Fraction of corrections that also have strokes of a first round, as on a frame that is annotated again."""

_NEGATIVE_FOR_OTHERS = 0.6  # fraction of frames on which each object's strokes are negative for the others
_MIN_PIXELS = 10  # smallest number of pixels of a region in which strokes are drawn


def sample_points(mask: Mask, rng: np.random.Generator, density: tuple[float, float]) -> list[Stroke]:
    """Sample points inside an object, at a density drawn log-uniformly for each call.

    Args:
        mask: Mask uint8 [h, w], 1 on the object, 0 elsewhere, 255 for void.
        rng: The random generator.
        density: Lowest and highest number of points per pixel of the object; at least one point is drawn.

    Returns:
        Strokes of a single point each, for object 1; an empty list if the mask is empty.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask == 1)
    if not len(rows):
        return []
    low, high = density
    count = max(1, round(len(rows) * float(np.exp(rng.uniform(np.log(low), np.log(high))))))
    chosen = rng.choice(len(rows), min(count, len(rows)), replace=False)
    return [{"path": [[columns[i] / width, rows[i] / height]], "object_id": 1} for i in chosen]


@dataclass(frozen=True)
class Deformation:
    """A random deformation of a ground-truth mask, which simulates the errors of a network's prediction.

    Attributes:
        rotation: Largest rotation to either side, in degrees, about the object's centre.
        scale: Largest change of size, as a fraction; 0.1 stands for factors from 1/1.1 to 1.1.
        shear: Largest shear along x.
        shift: Largest shift along x and y, as a fraction of the object's width and height.
        noise: Largest displacement of the boundary, as a fraction of the square root of the area.
        blunder: Probability that a piece of the object is removed, and also that a piece is added.
        blunder_size: Smallest and largest radius of a piece, as a fraction of the square root of the area.
        lost: Probability that the mask becomes empty, as after a failed propagation.
    """

    rotation: float = 10.0
    scale: float = 0.15
    shear: float = 0.1
    shift: float = 0.12
    noise: float = 0.12
    blunder: float = 0.4
    blunder_size: tuple[float, float] = (0.15, 0.4)
    lost: float = 0.0

    def __call__(self, mask: Mask, rng: np.random.Generator) -> Mask:
        """Return a deformed mask of 0 and 1 from a mask uint8 [h, w]; an empty mask stays empty."""
        solid = (mask == 1).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(solid)
        if not width:
            return solid
        if self.lost and rng.random() < self.lost:
            return np.zeros_like(solid)
        side = float(np.sqrt(np.count_nonzero(solid)))
        moved = self._affine(solid.astype(np.float32), (x, y, width, height), rng)
        # Comparing a blurred mask with smooth noise moves its boundary inwards and outwards.
        blur = max(self.noise * side, 0.5)
        soft = cv2.GaussianBlur(moved, (0, 0), blur) - 0.5
        wobble = _smooth_noise(mask.shape, 2 * blur, rng)
        faulty = (soft + 0.25 * wobble > 0).astype(np.uint8)
        for value in (0, 1):
            if rng.random() < self.blunder:
                _blunder(faulty, solid, value, side * rng.uniform(*self.blunder_size), rng)
        return faulty

    def _affine(
        self, solid: NDArray[np.float32], box: tuple[int, int, int, int], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        x, y, width, height = box
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        factor = (1 + self.scale) ** rng.uniform(-1, 1)
        shear = np.array([[1, rng.uniform(-self.shear, self.shear)], [0, 1]])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = factor * turn @ shear
        centre = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
        shift = rng.uniform(-self.shift, self.shift, 2) * (width, height)
        matrix = np.column_stack([linear, centre + shift - linear @ centre])
        return np.asarray(cv2.warpAffine(solid, matrix, solid.shape[::-1]), np.float32)


def _smooth_noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth noise from -1 to 1 that varies on a scale of about `scale` pixels."""
    height, width = shape[:2]
    grid = rng.uniform(-1, 1, (int(height / scale) + 2, int(width / scale) + 2)).astype(np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _blunder(faulty: Mask, solid: Mask, value: int, radius: float, rng: np.random.Generator) -> None:
    """Set an ellipse at the object's boundary to `value`, in place."""
    inner = cv2.erode(solid, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    rows, columns = np.nonzero(solid != inner)
    centre = int(rng.integers(len(rows)))
    axes = (max(1, round(radius)), max(1, round(radius * rng.uniform(0.5, 1))))
    turn = float(rng.uniform(0, 180))
    cv2.ellipse(faulty, (int(columns[centre]), int(rows[centre])), axes, turn, 0, 360, value, -1)


@accept_former_keywords(later="correction_prob", points="point_prob")
@dataclass(frozen=True)
class SimulatedUser:
    """A simulated user who annotates one object on one frame, and returns A-Net's interaction channels.

    Attributes:
        correction_prob: Fraction of samples that are corrections of a faulty mask; all others are first
            rounds.
        point_prob: Fraction of first rounds that are points in the object; all others are the robot's
            strokes.
        density: Lowest and highest number of points per pixel of the object.
        deformation: Deformation that creates the faulty mask of a correction.
        robot: Robot that draws the strokes of corrections.
        boundary_prob: Fraction of all rounds whose strokes are on the boundary of the object or of the
            errors.
        skeleton_prob: Fraction of all rounds whose strokes are on the skeleton of the object or of the
            errors.
        curve_prob: Fraction of all rounds whose strokes are Bézier curves.
        click_prob: Fraction of all rounds whose strokes are clicks, drawn as points or rings.
        box_prob: Fraction of first rounds whose stroke is a bounding box.
        negatives_everywhere: Whether to keep negative strokes outside the previous mask, as networks with a
            frozen encoder expect; see :func:`ivos.interaction.interaction_channels`.

    Raises:
        UserError: The probabilities of the kinds of strokes are negative, or their sum is above 1.
    """

    correction_prob: Share = 0.5
    point_prob: Share = 0.5
    density: tuple[float, float] = (0.0005, 0.02)
    deformation: Deformation = field(default_factory=Deformation)
    robot: Robot = field(default_factory=Robot)
    boundary_prob: float = 0.0
    skeleton_prob: float = 0.0
    curve_prob: float = 0.0
    click_prob: float = 0.0
    box_prob: float = 0.0
    negatives_everywhere: bool = False

    def __post_init__(self) -> None:
        chances = self._chances()
        if min(chances.values()) < 0 or sum(chances.values()) > 1 + 1e-9:
            named = ", ".join(f"{name}_prob={chance}" for name, chance in chances.items())
            raise UserError(f"user: probabilities of at least 0 with a sum of at most 1 are needed: {named}")

    def _chances(self) -> dict[str, float]:
        return {name: getattr(self, f"{name}_prob") for name in STROKE_KINDS}

    def __call__(self, mask: Mask, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the channels of either a first round or a correction, chosen at random.

        The arguments and the result are those of :meth:`first_round`.
        """
        if rng.random() >= self.correction_prob:
            return self.first_round(mask, rng)
        return self.later_round(mask, rng)

    def annotate(self, masks: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the channels of all N objects of a frame, each drawn by :meth:`__call__`.

        If the user keeps negative strokes in the first round (``negatives_everywhere``), the positive strokes
        of each object are negative strokes of the other objects in 60 % of the frames.

        Args:
            masks: Mask of each object, uint8 [N, h, w]; see :meth:`first_round`.
            rng: The random generator.

        Returns:
            Interaction channels, float32 [N, 3, h, w].
        """
        channels = np.stack([self(mask, rng) for mask in masks])
        if self.negatives_everywhere and rng.random() < _NEGATIVE_FOR_OTHERS:
            channels = negative_for_others(channels)
        return channels

    def first_round(self, mask: Mask, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the channels of a first round: previous mask 0.5, positive strokes, no negative strokes.

        Args:
            mask: Mask uint8 [h, w], 1 on the object, 0 elsewhere, 255 for void. There are no strokes if the
                object is empty.
            rng: The random generator.

        Returns:
            Interaction channels, float32 [3, h, w].
        """
        return self.channels(self.first_strokes(mask, rng), None, mask.shape)

    def later_round(self, mask: Mask, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the channels of a correction: the deformed mask, and strokes on its errors.

        The arguments and the result are those of :meth:`first_round`.
        """
        faulty = self.deformation(mask, rng)
        strokes = self.first_strokes(mask, rng) if rng.random() < KEEP_FIRST else []
        return self.channels(strokes + self.correct(faulty, mask, rng), faulty, mask.shape)

    def first_strokes(self, mask: Mask, rng: np.random.Generator) -> list[Stroke]:
        """Draw strokes of a random kind on the object: points, the robot's strokes, or another kind."""
        kind = self._kind(rng)
        if kind and (drawn := self._strokes(kind, (mask == 1).astype(np.uint8), 1, rng)):
            return drawn
        if rng.random() < self.point_prob:
            return sample_points(mask, rng, self.density)
        drawn = self.correct(np.zeros_like(mask), mask, rng)
        strokes = [stroke for stroke in drawn if stroke["object_id"] == 1]
        return strokes or sample_points(mask, rng, self.density)  # the robot draws nothing on thin objects

    def correct(self, predicted: Mask, mask: Mask, rng: np.random.Generator) -> list[Stroke]:
        """Draw strokes on the errors of a prediction: object 1 on missing pixels, 0 on superfluous pixels."""
        kind = self._kind(rng)
        if kind and kind != "box":
            missed = ((mask == 1) & (predicted == 0)).astype(np.uint8)
            added = ((mask == 0) & (predicted != 0)).astype(np.uint8)
            drawn = self._strokes(kind, missed, 1, rng) + self._strokes(kind, added, 0, rng)
            if drawn:
                return drawn
        return self.robot.strokes(predicted, mask, 1, (int(rng.integers(2**32)),))

    def correction(
        self, predicted: Mask, mask: Mask, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], np.random.Generator]:
        """Return the channels [3, h, w] of a correction, and the random generator in its new state.

        The method is meant for worker processes, which import only this module. The caller in the main
        process continues with the returned generator.
        """
        return self.channels(self.correct(predicted, mask, rng), predicted, mask.shape), rng

    def _kind(self, rng: np.random.Generator) -> str | None:
        """Choose a random kind of strokes for a round; None stands for points or the robot's strokes."""
        chances = self._chances()
        if not any(chances.values()):
            return None  # the state of the generator must not change here
        value = rng.random()
        for name, chance in chances.items():
            value -= chance
            if value < 0:
                return name
        return None

    @staticmethod
    def _strokes(kind: str, region: Mask, object_id: int, rng: np.random.Generator) -> list[Stroke]:
        """Draw strokes of a kind in the largest component of a region, unless it is very small."""
        piece = largest_piece(region)
        if np.count_nonzero(piece) < _MIN_PIXELS:
            return []
        paths = STROKE_KINDS[kind](piece, rng)
        size = piece.shape[0], piece.shape[1]
        return [{"path": fractions(path, size), "object_id": object_id} for path in paths]

    def channels(
        self, strokes: Sequence[Stroke], previous: Mask | None, size: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return the channels [3, h, w] of one object; see :func:`ivos.interaction.interaction_channels`."""
        return interaction_channels(strokes, previous, 1, size[0], size[1], self.negatives_everywhere)[0]


def negative_for_others(interaction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the positive strokes of each object to the negative strokes of all other objects.

    This imitates a user who annotates several objects on one frame, for a network that gets negative strokes
    also in the first round.

    Args:
        interaction: Previous mask, positive and negative strokes of each object, [N, 3, h, w].

    Returns:
        New interaction channels of the same shape.
    """
    together = interaction.copy()
    for index in range(len(interaction)):
        others = np.delete(interaction[:, 1], index, axis=0)
        if len(others):
            together[index, 2] = np.maximum(together[index, 2], others.max(axis=0))
    return together
