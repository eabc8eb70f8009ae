"""Clips made of single images by smooth motion and deformation."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.video.labels import VOID


@dataclass(frozen=True)
class StillMotion:
    """Animates a still image by a random affine map and a thin-plate spline, which grow from frame to frame.

    Attributes:
        rotation: Largest rotation per frame about the centre in either direction, in degrees.
        scale: Largest relative change of size per frame (0.03 means factors from 1/1.03 to 1.03).
        shear: Largest shear along x per frame.
        shift: Largest shift per frame along x and y, as a fraction of the side.
        thin_plate: Largest displacement per frame of the control points of a thin-plate spline, as a fraction
            of the side; 0 disables the spline.
    """

    rotation: float = 3.0
    scale: float = 0.03
    shear: float = 0.02
    shift: float = 0.03
    thin_plate: float = 0.0

    def __call__(
        self, frame: NDArray[np.uint8], labels: NDArray[np.uint8], num_frames: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Make a clip whose first frame is the image itself.

        Args:
            frame: The image, uint8 [h, w, 3].
            labels: Labels of the image, uint8 [h, w].
            num_frames: Number of frames T.
            rng: Generator of the random choices.

        Returns:
            Frames [T, h, w, 3] and labels [T, h, w]; areas from outside the image are black and void.
        """
        size = labels.shape[::-1]
        centre = (np.array(size) - 1) / 2
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        growth = np.log1p(self.scale) * rng.uniform(-1, 1)
        shear, shift = rng.uniform(-self.shear, self.shear), rng.uniform(-self.shift, self.shift, 2)
        pushes = rng.uniform(-1, 1, (len(_CONTROL_POINTS), 2)) * self.thin_plate if self.thin_plate else None
        frames, masks = [frame], [labels]
        for t in range(1, num_frames):
            turn = np.array([[np.cos(t * angle), -np.sin(t * angle)], [np.sin(t * angle), np.cos(t * angle)]])
            linear = np.exp(t * growth) * turn @ np.array([[1, t * shear], [0, 1]])
            matrix = np.column_stack([linear, centre + t * shift * size - linear @ centre])
            if pushes is not None:
                x, y = _spline_map(matrix, t * pushes, size)
                frames.append(np.asarray(cv2.remap(frame, x, y, cv2.INTER_LINEAR), np.uint8))
                bent = cv2.remap(labels, x, y, cv2.INTER_NEAREST, borderValue=VOID)
                masks.append(np.asarray(bent, np.uint8))
                continue
            frames.append(np.asarray(cv2.warpAffine(frame, matrix, size), np.uint8))
            moved = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST, borderValue=VOID)
            masks.append(np.asarray(moved, np.uint8))
        return np.stack(frames), np.stack(masks)


_CONTROL_POINTS = np.stack(np.meshgrid(*[np.linspace(0, 1, 4)] * 2), -1).reshape(-1, 2)
_CELLS = 32  # cells per side of the grid on which the spline is evaluated before linear interpolation


def _thin_plate(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the thin-plate kernel r^2 log r of distances r."""
    return distances**2 * np.log(np.maximum(distances, 1e-12))


def _spline(pushes: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate displacements of the control points by a thin-plate spline at points [n, 2] to [n, 2]."""

    def basis(at: NDArray[np.float64]) -> NDArray[np.float64]:
        distances = np.linalg.norm(at[:, None] - _CONTROL_POINTS[None], axis=2)
        return np.column_stack([_thin_plate(distances), np.ones(len(at)), at])

    count = len(_CONTROL_POINTS)
    system = np.zeros((count + 3, count + 3))
    system[:count] = basis(_CONTROL_POINTS)
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.concatenate([pushes, np.zeros((3, 2))]))
    return basis(points) @ weights


def _spline_map(
    matrix: NDArray[np.float64], pushes: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the source coordinates x and y [h, w] of each pixel after a spline and an affine map."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, _CELLS + 1)] * 2), -1)
    field = _spline(pushes, grid.reshape(-1, 2)).reshape(grid.shape).astype(np.float32)
    spots = [np.linspace(0, _CELLS, side, dtype=np.float32) for side in size]
    x, y = np.meshgrid(*spots)
    shifts = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) * np.array(size)
    pixels = np.stack(np.meshgrid(*map(np.arange, size)), -1) + shifts
    inverse = cv2.invertAffineTransform(matrix)
    places = pixels @ inverse[:, :2].T + inverse[:, 2]
    return places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
