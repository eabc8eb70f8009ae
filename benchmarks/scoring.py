"""Scoring against davisinteractive: J, F and the robot on a clip of 480p, on one core.

uv run benchmarks/scoring.py [--frames 70] [--objects 3] [--repeats 3]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.interaction.robot import Robot  # mends davisinteractive, so it must come before it
from ivos.metrics import GroundTruth, f_measure, jaccard, tensors

from davisinteractive.metrics import batched_f_measure, batched_jaccard  # isort: skip
from davisinteractive.robot import InteractiveScribblesRobot  # isort: skip

HEIGHT, WIDTH = 480, 854


def moving_blobs(frames: int, objects: int, fault: float = 0.0) -> NDArray[np.uint8]:
    """Labels [T, 480, 854] of wobbling objects of 60 to 110 pixels' radius, the third with a hole.

    Args:
        frames: T.
        objects: N, from 1 to 6.
        fault: how wrong they are: pixels by which they are moved, and a change of their outline.
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


def best(function: Callable[[], Any], repeats: int) -> float:
    """The shortest of several durations, in seconds."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return min(durations)


def official_strokes(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], objects: int) -> list[Any]:
    """davisinteractive's robot with the release's settings, seeded as ours is."""
    robot, ours = InteractiveScribblesRobot(kernel_size=0.2, min_nb_nodes=2), Robot()
    ours.seed(0)
    robot.rng = ours.rng
    drawn = robot.interact("", prediction[None], truth[None], nb_objects=objects, frame=0)["scribbles"][0]
    return [{"path": stroke["path"], "object_id": stroke["object_id"]} for stroke in drawn]


def draw_all(draw: Callable[..., list[Any]], pictures: list[tuple[Any, Any]], objects: int) -> list[Any]:
    """A robot's strokes on pairs of prediction and truth."""
    return [draw(prediction, truth, objects) for prediction, truth in pictures]


def measure(frames: int, objects: int, repeats: int) -> Table:
    truth, guess = moving_blobs(frames, objects), moving_blobs(frames, objects, fault=7)
    kept = GroundTruth(truth, objects)
    options = {"average_over_objects": False, "nb_objects": objects}
    table = Table(title=f"{frames} frames of {WIDTH}x{HEIGHT}, {objects} objects, one core", box=box.MARKDOWN)
    for column in ("", "davisinteractive", "ivos", "ratio"):
        table.add_column(column, justify="left" if not column else "right")

    def row(name: str, unit: str, count: int, official: float, ours: float) -> None:
        scale = 1000 / count
        table.add_row(
            name, f"{official * scale:.2f} {unit}", f"{ours * scale:.2f} {unit}", f"{official / ours:.1f}"
        )

    pairs = frames * objects
    on_tensors = torch.from_numpy(truth), torch.from_numpy(guess), objects
    for name, reference, once, again, as_tensors in (
        ("J", batched_jaccard, jaccard, kept.jaccard, tensors.jaccard),
        ("F", batched_f_measure, f_measure, kept.f_measure, tensors.f_measure),
    ):
        assert np.array_equal(reference(truth, guess, **options), again(guess))
        assert np.array_equal(as_tensors(*on_tensors).numpy(), again(guess))
        official = best(partial(reference, truth, guess, **options), repeats)
        unit = "ms/frame/object"
        row(name, unit, pairs, official, best(partial(again, guess), repeats))
        new = best(partial(once, truth, guess, objects), repeats)
        row(f"{name}, a new ground truth", unit, pairs, official, new)
        row(f"{name}, on tensors (CPU)", unit, pairs, official, best(partial(as_tensors, *on_tensors), 1))
    chosen = slice(0, frames, max(1, frames // 5))
    for name, prediction in (("first round", np.zeros_like(truth)), ("correction", guess)):
        pictures = list(zip(prediction[chosen], truth[chosen], strict=True))
        fast, slow = (
            partial(draw_all, draw, pictures, objects) for draw in (Robot().strokes, official_strokes)
        )
        assert fast() == slow()
        row(f"robot, {name}", "ms/round", len(pictures), best(slow, 1), best(fast, repeats))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=70)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    Console(width=120).print(measure(arguments.frames, arguments.objects, arguments.repeats))


if __name__ == "__main__":
    main()
