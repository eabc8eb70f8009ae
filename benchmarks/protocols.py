"""Measure the time of a round of each protocol without the segmenter: prompts, scores and files at 480p.

uv run benchmarks/protocols.py [--frames 70] [--repeats 3]

The video shows two moving discs, and the simulated predictions lag behind them. A time is the shortest of
several measurements, in seconds of processor time on one core.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.evaluation.report import COLUMNS, round_rows
from ivos.evaluation.score import score
from ivos.interaction.clicks import click_on_error, clicks_on_errors
from ivos.metrics import GroundTruth
from ivos.session import Davis, Sample, ScoredRound, SessionSettings
from ivos.video.clip import Clip
from ivos.video.palette import write_labels

HEIGHT, WIDTH, OBJECTS = 480, 854, 2


def discs(frames: int, lag: int = 0) -> NDArray[np.uint8]:
    """Return labels [T, 480, 854] of two discs of radius 100 that move two pixels per frame."""
    labels = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    for t, frame in enumerate(labels):
        for number in range(OBJECTS):
            cv2.circle(frame, (220 + 380 * number + 2 * t - lag, 240 - lag), 100, number + 1, -1)
    return labels


def best(function: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of several durations, in seconds of processor time."""
    durations = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        durations.append(time.process_time() - began)
    return min(durations)


def write(folder: Path, masks: NDArray[np.uint8], per_object: bool) -> None:
    for number in range(1, OBJECTS + 1) if per_object else (0,):
        place = folder / f"{number - 1:03d}" if per_object else folder
        place.mkdir(parents=True, exist_ok=True)
        for t, mask in enumerate(masks):
            write_labels(place / f"{t:05d}.png", (mask == number).view(np.uint8) if per_object else mask)


def measure(frames: int, repeats: int, folder: Path) -> list[tuple[str, float]]:
    """Return the kinds of work with their seconds."""
    labels, masks = discs(frames), discs(frames, lag=15)
    sample = Sample(Clip("discs", np.zeros((*labels.shape, 3), np.uint8), labels, OBJECTS))
    truth, settings = GroundTruth(labels, OBJECTS), SessionSettings(max_time=None)
    j, f = truth.jaccard(masks), truth.f_measure(masks)
    scored = ScoredRound(1, 0, [], masks, j, f, 1.0)

    def robot() -> None:
        Davis().on(sample, settings, "J").next(scored)

    def report() -> str:
        rows = round_rows(sample, scored, "seed-0")
        return pd.DataFrame(pd.concat([rows] * 8), columns=list(COLUMNS)).to_csv()

    for layout in ("davis", "per_object"):
        write(folder / "truth" / layout / "discs", labels, layout == "per_object")
    work: list[tuple[str, Callable[[], Any]]] = [
        ("robot's strokes (davis)", robot),
        ("clicks, S3 (davis_clicks)", lambda: clicks_on_errors(labels[0], masks[0], OBJECTS, 3, 100)),
        ("a click (sam2_offline, sam2_online)", lambda: click_on_error(labels[0] == 1, masks[0] == 1, 1)),
        ("J", lambda: truth.jaccard(masks)),
        ("F", lambda: truth.f_measure(masks)),
        ("the report, eight rounds", report),
        ("masks, DAVIS layout", lambda: write(folder / "davis" / "discs", masks, False)),
        ("masks, layout per object", lambda: write(folder / "per_object" / "discs", masks, True)),
        ("score, DAVIS layout", lambda: score(folder / "davis", folder / "truth/davis", processes=1)),
        ("score, per object", lambda: score(folder / "per_object", folder / "truth/per_object", processes=1)),
    ]
    return [(name, best(function, repeats)) for name, function in work]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=70)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    title = f"A round of {chosen.frames} frames of {WIDTH}x{HEIGHT}, {OBJECTS} objects, one core"
    table = Table(title=title, box=box.MARKDOWN)
    table.add_column("work")
    table.add_column("s of processor time", justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in measure(chosen.frames, chosen.repeats, Path(folder)):
            table.add_row(name, f"{seconds:.4f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
