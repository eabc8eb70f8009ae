"""Compare the speed of J, F and the robot with davisinteractive, on a clip of 480p and on one core.

uv run benchmarks/scoring.py [--frames 70] [--objects 3] [--repeats 3]

The robot is compared with that of davisinteractive, and with an earlier robot of ivos (:class:`Inherited`),
which used davisinteractive's graph search after a faster opening and thinning.
"""

import argparse
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from scipy.special import comb
from skimage.morphology import disk
from skimage.morphology._skeletonize_various_cy import _skeletonize_loop

from ivos.evaluation import davisinteractive_compat
from ivos.interaction.medial_axis import _removal_table
from ivos.interaction.robot import Robot
from ivos.interaction.strokes import Stroke
from ivos.metrics import GroundTruth, f_measure, jaccard

davisinteractive_compat.install()

from davisinteractive.metrics import batched_f_measure, batched_jaccard  # noqa: E402
from davisinteractive.robot import InteractiveScribblesRobot  # noqa: E402

HEIGHT, WIDTH = 480, 854


def moving_blobs(frames: int, objects: int, fault: float = 0.0) -> NDArray[np.uint8]:
    """Return labels [T, 480, 854] of wobbling objects with radii of 60 to 110 pixels, the third with a hole.

    Args:
        frames: number of frames T.
        objects: number of objects, from 1 to 6.
        fault: size of their error: pixels by which they are moved, and a change of their outline.
    """
    rows, columns = np.indices((HEIGHT, WIDTH), np.float32)
    labels = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    for t, frame in enumerate(labels):
        for index in range(objects):
            radius = 110 - 50 * (index % 3) / 2
            y = 130 + 215 * (index % 2) + 15 * np.sin(t / 9 + index) + fault
            x = 150 + 270 * (index // 2) + 90 * (index % 2) + 1.2 * t + fault
            angle, distance = np.arctan2(rows - y, columns - x), np.hypot(rows - y, columns - x)
            outline = radius * (1 + 0.16 * np.sin(5 * angle + t / 7 + fault / 20))
            frame[(distance < outline) & (distance >= (25 if index == 2 else 0))] = index + 1
    return labels


def ragged(
    labels: NDArray[np.uint8], objects: int, noise: float = 6, specks: int = 400, seed: int = 0
) -> NDArray[np.uint8]:
    """Return labels [h, w] with a network's errors: displaced boundaries, and specks of any object.

    Args:
        labels: the labels of a frame.
        objects: number of objects.
        noise: largest displacement by each of two smooth fields, in pixels.
        specks: number of ellipses with radii of 1 to 6 pixels.
        seed: seed of the randomness.
    """
    rng = np.random.default_rng(seed)
    height, width = labels.shape

    def push() -> NDArray[np.float32]:
        grids = [rng.uniform(-noise, noise, (height // s + 2, width // s + 2)) for s in (6, 24)]
        fields = [cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) for grid in grids]
        return np.asarray(sum(fields), np.float32)

    rows, columns = np.indices((height, width), np.float32)
    border = cv2.BORDER_REPLICATE
    faulty = cv2.remap(labels, columns + push(), rows + push(), cv2.INTER_NEAREST, borderMode=border)
    for _ in range(specks):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes, turn = rng.integers(1, 7, 2).tolist(), float(rng.uniform(0, 180))
        cv2.ellipse(faulty, centre, axes, turn, 0, 360, int(rng.integers(objects + 1)), -1)
    return np.asarray(faulty, np.uint8)


def in_pieces(objects: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return labels [480, 854] in hundreds of pieces all over the frame, as of an untrained network."""
    rng = np.random.default_rng(seed)
    grids = rng.normal(size=(objects + 1, HEIGHT // 25, WIDTH // 25)).astype(np.float32)
    size = WIDTH, HEIGHT
    fields = [cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC) for grid in grids]
    return np.argmax(fields, axis=0).astype(np.uint8)


def best(function: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of several durations, in seconds of processor time."""
    durations = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        durations.append(time.process_time() - start)
    return min(durations)


def official_strokes(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], objects: int) -> list[Any]:
    """Draw with davisinteractive's robot, with the release's settings and the seed of ours."""
    robot, ours = InteractiveScribblesRobot(kernel_size=0.2, min_nb_nodes=2), Robot()
    ours.seed(0)
    robot.rng = ours.rng
    drawn = robot.interact("", prediction[None], truth[None], nb_objects=objects, frame=0)["scribbles"][0]
    return [{"path": stroke["path"], "object_id": stroke["object_id"]} for stroke in drawn]


class Inherited(InteractiveScribblesRobot):
    """An earlier robot: davisinteractive's graph search, the rest in the bounding box of an error."""

    def __init__(self) -> None:
        super().__init__(kernel_size=0.2, min_nb_nodes=2)
        self.rng = np.random.default_rng(0)

    def strokes(
        self, prediction: NDArray[np.integer], truth: NDArray[np.integer], objects: int
    ) -> list[Stroke]:
        self.rng = np.random.default_rng([0])
        size = np.array(truth.shape[::-1], np.float64)
        drawn: list[Stroke] = []
        for label in range(objects + 1):
            curves = self._curves((truth == label) & (prediction != label))
            drawn += [{"path": (curve / size).tolist(), "object_id": label} for curve in curves]
        return drawn

    def _curves(self, error: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        x, y, width, height = cv2.boundingRect(error.view(np.uint8))
        if not width:
            return []
        margin = 2 * int(np.ceil(self._radius(error))) + 2
        left, top = max(x - margin, 0), max(y - margin, 0)
        axis = self._generate_scribble_mask(error[top : y + height + margin, left : x + width + margin])
        if not axis.any():
            return []
        graph, points = self._mask2graph(axis)
        points = points + np.array((left, top))
        paths = [self._longest_path_in_tree(tree) for tree in self._acyclics_subgraphs(graph)]
        return [self._curve(points[path]) for path in paths]

    def _radius(self, error: NDArray[np.generic]) -> float:
        return min(self.kernel_size * float(np.sqrt(np.count_nonzero(error))) * 0.5, self.max_kernel_radius)

    def _generate_scribble_mask(self, mask: NDArray[np.generic]) -> NDArray[np.bool_]:
        error: NDArray[np.uint8] = np.ascontiguousarray(mask, np.uint8)
        radius, opened = self._radius(error), error
        while radius > 1:
            kernel = disk(radius)
            inside = cv2.dilate(np.ones_like(error), kernel)
            opened = cv2.dilate(cv2.bitwise_and(cv2.erode(error, kernel), inside), kernel).astype(np.uint8)
            if opened.any():
                break
            radius *= 0.9
        return self._medial_axis(np.pad(opened, 1).astype(bool))[1:-1, 1:-1]

    def _medial_axis(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        square = np.ones((3, 3), np.uint8)
        neighbours = cv2.filter2D(mask.view(np.uint8), cv2.CV_16S, square, borderType=cv2.BORDER_CONSTANT)
        distance = ndimage.distance_transform_edt(mask)[mask]
        rows, columns = np.nonzero(mask)
        tie_break = self.rng.permutation(np.arange(len(rows)))
        order = np.lexsort((tie_break, 9 - neighbours[mask], distance)).astype(np.int32)
        result = mask.astype(np.uint8)
        _skeletonize_loop(result, rows.astype(np.intp), columns.astype(np.intp), order, _removal_table())
        return result.astype(bool)

    def _curve(self, points: NDArray[np.integer]) -> NDArray[np.float64]:
        if len(points) > self.nb_points:
            return points.astype(np.float64)
        return self._bernstein(len(points)).dot(points.astype(np.float64))

    @staticmethod
    @lru_cache(maxsize=16)
    def _bernstein(count: int) -> NDArray[np.float64]:
        t, i = np.linspace(0.0, 1.0, 1000).reshape(1, -1), np.arange(count).reshape(-1, 1)
        return (comb(count - 1, i) * (t ** (count - 1 - i)) * (1 - t) ** i).T


def draw_all(draw: Callable[..., list[Any]], pictures: list[tuple[Any, Any]], objects: int) -> list[Any]:
    """Return a robot's strokes on pairs of prediction and truth."""
    return [draw(prediction, truth, objects) for prediction, truth in pictures]


def measure(frames: int, objects: int, repeats: int) -> Table:
    truth, guess = moving_blobs(frames, objects), moving_blobs(frames, objects, fault=7)
    kept = GroundTruth(truth, objects)
    options = {"average_over_objects": False, "nb_objects": objects}
    table = Table(title=f"{frames} frames of {WIDTH}x{HEIGHT}, {objects} objects, one core", box=box.MARKDOWN)
    for column in ("", "unit", "official", "ratio", "before", "ratio", "ivos"):
        table.add_column(column, justify="right" if column not in ("", "unit") else "left")

    def row(
        name: str, unit: str, count: int, official: float, ours: float, before: float | None = None
    ) -> None:
        cells = []
        for other in (official, before):
            cells += [f"{other * 1000 / count:.2f}", f"{other / ours:.1f}"] if other is not None else ["", ""]
        table.add_row(name, unit, *cells, f"{ours * 1000 / count:.2f}")

    pairs = frames * objects
    for name, reference, once, again in (
        ("J", batched_jaccard, jaccard, kept.jaccard),
        ("F", batched_f_measure, f_measure, kept.f_measure),
    ):
        assert np.array_equal(reference(truth, guess, **options), again(guess))
        official = best(partial(reference, truth, guess, **options), repeats)
        unit = "ms/frame/object"
        row(name, unit, pairs, official, best(partial(again, guess), repeats))
        new = best(partial(once, truth, guess, objects), repeats)
        row(f"{name}, a new ground truth", unit, pairs, official, new)
    chosen = slice(0, frames, max(1, frames // 5))
    faulty = {index: ragged(truth[index], objects, seed=index) for index in range(frames)[chosen]}
    for name, predictions in (
        ("first round", [np.zeros_like(truth[0])] * len(faulty)),
        ("correction", [guess[index] for index in faulty]),
        ("correction, ragged", list(faulty.values())),
        ("correction, in pieces", [in_pieces(objects, seed=index) for index in faulty]),
    ):
        pictures = [(p, truth[index]) for p, index in zip(predictions, faulty, strict=True)]
        fast, before, slow = (
            partial(draw_all, draw, pictures, objects)
            for draw in (Robot().strokes, Inherited().strokes, official_strokes)
        )
        assert fast() == before() == slow()
        seconds = best(slow, 1), best(fast, repeats), best(before, repeats)
        row(f"robot, {name}", "ms/round", len(pictures), *seconds)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=70)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    Console(width=120).print(measure(arguments.frames, arguments.objects, arguments.repeats))


if __name__ == "__main__":
    main()
