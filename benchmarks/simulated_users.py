"""Measure the samples per second and core of each kind of simulated user at 384x384.

uv run benchmarks/simulated_users.py [--seconds 10]

The objects are crops of synthetic clips, as in training (zoom 0.75 to 1.5). Rates are given per second of
processor time of one process, which other programs on the machine hardly affect, and per second of elapsed
time.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.data.synthetic import SyntheticSpec, render_clip
from ivos.data.training import MiniSequences
from ivos.interaction.simulate import SimulatedUser
from ivos.video.clip import Clip

Mask = NDArray[np.uint8]


def masks(count: int, size: int) -> list[Mask]:
    """Return objects as in training samples, uint8 [size, size]: 1 on the object, 0 elsewhere, 255 void."""
    spec = SyntheticSpec(num_clips=4, num_frames=6, width=854, height=480)
    drawn = [render_clip(spec, index) for index in range(spec.num_clips)]
    clips = [Clip(str(i), *pair, int(pair[1][0].max())) for i, pair in enumerate(drawn)]
    points = SimulatedUser(correction_prob=0, point_prob=1)
    samples = MiniSequences(clips, 1, 0, crop=size, zoom=(0.75, 1.5), user=points)
    return [samples[number]["masks"][0, 0] for number in range(count)]


def rate(
    work: Callable[[Mask, np.random.Generator], Any], objects: list[Mask], seconds: float
) -> list[float]:
    """Return the calls per second of processor time, and per second by the clock."""
    work(objects[0], np.random.default_rng(0))
    start, began, count = time.process_time(), time.perf_counter(), 0
    while time.process_time() - start < seconds:
        work(objects[count % len(objects)], np.random.default_rng(count))
        count += 1
    return [count / (time.process_time() - start), count / (time.perf_counter() - began)]


def measure(size: int, count: int, seconds: float) -> Table:
    user, objects = SimulatedUser(), masks(count, size)
    faulty = {id(mask): user.deformation(mask, np.random.default_rng(n)) for n, mask in enumerate(objects)}
    kinds: dict[str, Callable[[Mask, np.random.Generator], Any]] = {
        "first round, points": SimulatedUser(point_prob=1).first_round,
        "first round, the robot's strokes": SimulatedUser(point_prob=0).first_round,
        "the robot's strokes on a faulty mask": lambda mask, rng: user.correct(faulty[id(mask)], mask, rng),
        "deformation of a mask": user.deformation,
        "later round (deformation and correction)": user.later_round,
        "all kinds as in training": user,
    }
    table = Table(title=f"Simulated users, one object of {size}x{size}, one thread", box=box.MARKDOWN)
    for column in ("kind", "samples/s of processor time", "samples/s by the clock"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for name, work in kinds.items():
        table.add_row(name, *(f"{value:.0f}" for value in rate(work, objects, seconds)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="seconds of processor time for each kind")
    parser.add_argument("--size", type=int, default=384, help="side of a sample in pixels, a multiple of 32")
    parser.add_argument("--objects", type=int, default=60, help="number of different masks")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    Console(width=120).print(measure(chosen.size, chosen.objects, chosen.seconds))


if __name__ == "__main__":
    main()
