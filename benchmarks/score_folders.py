"""Compare the scoring of saved masks with vos-benchmark, by processor time and results.

uv run benchmarks/score_folders.py [--peer PYTHON] [--videos 3] [--frames 40] [--objects 3] [--repeats 3]

PYTHON is the interpreter of an environment with vos-benchmark, for example of
``uv venv /tmp/vos && uv pip install --python /tmp/vos/bin/python vos-benchmark``. Both programs read the same
masks of 854x480, run alternately, and use one process and one thread. The time of imports is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.video.palette import write_labels

OURS = """
import json, sys, time
import cv2
from ivos.evaluation.score import score
cv2.setNumThreads(1)
began = time.process_time()
found = score(sys.argv[2], sys.argv[1], processes=1)
seconds = time.process_time() - began
means = {}
for one in found:
    scores = one.benchmark
    means[f"{one.sequence} {one.number}"] = [scores.jaccard.mean, scores.f_measure.mean]
print(json.dumps([seconds, means]))
"""
PEER = """
import json, os, sys, time
import cv2
from vos_benchmark.benchmark import VideoEvaluator
cv2.setNumThreads(1)
began = time.process_time()
found = [VideoEvaluator(*sys.argv[1:])(name) for name in sorted(os.listdir(sys.argv[1]))]
seconds = time.process_time() - began
means = {f"{name} {n}": [iou[n] / 100, f[n] / 100] for name, iou, f in found for n in iou}
print(json.dumps([seconds, means]))
"""


def moving_stars(frames: int, objects: int, seed: int) -> NDArray[np.uint8]:
    """Return labels [T, 480, 854] of objects with ragged outlines that move a pixel or two per frame."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outlines = [rng.uniform(0.6, 1, 60) * rng.uniform(60, 110) for _ in range(objects)]
    places, steps = rng.uniform((150, 120), (700, 360), (objects, 2)), rng.uniform(-2, 2, (objects, 2))
    labels = np.zeros((frames, 480, 854), np.uint8)
    for t, frame in enumerate(labels):
        for number, (outline, place, step) in enumerate(zip(outlines, places, steps, strict=True), start=1):
            points = place + step * t + outline[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(frame, [points.astype(np.int32)], number)
    return labels


def write_folders(root: Path, videos: int, frames: int, objects: int) -> tuple[Path, Path]:
    """Write true masks, and predictions that are the same moved by some pixels."""
    for video in range(videos):
        for t, mask in enumerate(moving_stars(frames, objects, seed=video)):
            for kind, labels in (("truth", mask), ("predicted", np.roll(mask, (3, t % 5), (0, 1)))):
                path = root / kind / f"video{video}" / f"{t:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_labels(path, np.ascontiguousarray(labels))
    return root / "truth", root / "predicted"


def run(python: str, program: str, *folders: Path) -> tuple[float, dict[str, list[float]]]:
    """Return the processor seconds of a program, and J and F of each object."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [python, "-c", program, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr.strip().splitlines()[-1]}; name another one by --peer")
    seconds, means = json.loads(done.stdout)
    return seconds, means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="Python interpreter with vos-benchmark")
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    times: dict[str, list[float]] = {"ivos": [], "vos-benchmark": []}
    with tempfile.TemporaryDirectory() as place:
        folders = write_folders(Path(place), chosen.videos, chosen.frames, chosen.objects)
        for _ in range(chosen.repeats):
            ours, mine = run(sys.executable, OURS, *folders)
            peer, theirs = run(chosen.peer, PEER, *folders)
            times["ivos"].append(ours)
            times["vos-benchmark"].append(peer)
    if set(mine) != set(theirs):
        raise SystemExit(f"other objects are scored: {sorted(set(mine) ^ set(theirs))}")
    largest = max(abs(a - b) for key in mine for a, b in zip(mine[key], theirs[key], strict=True))
    frames = chosen.videos * (chosen.frames - 2)
    table = Table(title=f"{frames} scored frames of 854x480, {chosen.objects} objects", box=box.MARKDOWN)
    for column in ("", "processor time", "each frame", "fastest", "slowest"):
        table.add_column(column, justify="left" if not column else "right")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        middle = medians[name]
        each = f"{1000 * middle / frames:.1f} ms"
        table.add_row(name, f"{middle:.2f} s", each, f"{min(values):.2f} s", f"{max(values):.2f} s")
    console = Console(width=120)
    console.print(table)
    console.print(f"ratio of the medians: {medians['vos-benchmark'] / medians['ivos']:.2f}")
    console.print(f"largest difference of J and F of {len(mine)} objects: {largest:.1e}")


if __name__ == "__main__":
    main()
