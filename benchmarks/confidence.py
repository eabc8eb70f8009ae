"""Compare the network's confidence with J, to check whether the app's timeline marks the worse frames.

    uv run benchmarks/confidence.py DAVIS_FOLDER

The folder has sequences in DAVIS layout with masks. In three rounds, the robot draws on the first frame and
then on the worst frames. For the frames to which a round was propagated, the table has the rank correlation
of confidence and J, the mean J of the frames that the timeline marks, the mean J of all other frames, and the
J of the frame with the lowest confidence.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from ivos.engine import ATNetSegmenter
from ivos.interaction.robot import Robot
from ivos.metrics import jaccard
from ivos.networks import load
from ivos.video.files import read_frame, read_mask
from ivos.video.reader import davis_sequences, open_source

LOW_CONFIDENCE = 0.8  # the same value as in ivos/app/static/timeline.js
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", default="small")
    parser.add_argument(
        "--begin", type=float, default=0, help="position of the first annotated frame, from 0 to 1"
    )
    options = parser.parse_args()
    segmenter = ATNetSegmenter(load(options.checkpoint), flow=False, short_side=None)
    table = Table("sequence", "round", "rank correlation", "marked", "J marked", "J others", "J least sure")
    for name in davis_sequences(options.folder):
        for row in rounds(segmenter, options.folder, name, options.begin):
            table.add_row(name, *row)
    Console(highlight=False).print(table)


def rounds(segmenter: ATNetSegmenter, folder: Path, name: str, begin: float) -> list[tuple[str, ...]]:
    """Return a row of the table for each round."""
    frames, truth = read(folder, name)
    num_objects = int(truth[truth < 255].max())
    segmenter.start(frames, num_objects)
    robot, rows = Robot(), []
    masks, annotated = np.zeros_like(truth), [int(begin * (len(frames) - 1))]
    for number in range(1, ROUNDS + 1):
        frame = annotated[-1]
        low, high = segmenter.planned(frame)
        masks = segmenter.interact(frame, robot.strokes(masks[frame], truth[frame], num_objects, (number,)))
        scores = np.nanmean(jaccard(truth, masks, num_objects), 1)
        sure = segmenter.confidence()
        middle = np.sort(sure[low : high + 1])[(high - low) // 2]
        others = np.array([t for t in range(low, high + 1) if t not in annotated])
        rows.append(
            (str(number), *compare(sure[others], scores[others], sure[others] < LOW_CONFIDENCE * middle))
        )
        annotated.append(int(np.where(np.isin(np.arange(len(scores)), annotated), 2, scores).argmin()))
    return rows


def compare(
    sure: NDArray[np.float32], scores: NDArray[np.float64], marked: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Return the cells of a row, given confidence, J and marks of the frames."""
    means = [f"{scores[chosen].mean():.3f}" if chosen.any() else "-" for chosen in (marked, ~marked)]
    found = f"{spearmanr(sure, scores)[0]:.2f}"
    return found, f"{marked.sum()} of {len(sure)}", *means, f"{scores[sure.argmin()]:.3f}"


def read(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the frames [T, h, w, 3] and the labels [T, h, w], enlarged to the size of the frames."""
    source = open_source(folder, name)
    masks = [read_mask(path) for path in source.masks if path is not None]
    if len(masks) < len(source.files):
        raise SystemExit(f"error: {name}: every frame needs a mask")
    size = source.size
    labels = [cv2.resize(one, size, interpolation=cv2.INTER_NEAREST) for one in masks]
    return np.stack([read_frame(path) for path in source.files]), np.stack(labels).astype(np.uint8)


if __name__ == "__main__":
    main()
