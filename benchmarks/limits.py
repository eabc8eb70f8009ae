"""Measure what limits sessions on real video: A-Net on its own frame, or the propagation of correct masks.

uv run benchmarks/limits.py FOLDER [--checkpoint base] [--frames 30] [--flow]

FOLDER is in DAVIS layout with a list ``val``. The script prints two tables with a row for each sequence. The
first one has the mean J of A-Net's masks on five frames after each of three rounds of the robot on the same
frame. The second one has the mean J of the other frames after true masks of the first, the last, the middle
and a further frame were propagated in turn.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivos import build_segmenter
from ivos.data.datasets.davis import DavisFolder
from ivos.engine import ATNetSegmenter
from ivos.interaction.robot import Robot
from ivos.metrics import jaccard, mean_over
from ivos.video.clip import Clip

Row = NDArray[np.float64]


def annotated(segmenter: ATNetSegmenter, clip: Clip, rounds: int = 3) -> Row:
    """Return the mean J of A-Net's masks after each round on the same frame, over five frames, [rounds]."""
    found = []
    for frame in np.linspace(0, clip.num_frames - 1, 5).astype(int).tolist():
        segmenter.start(clip.frames, clip.num_objects)
        masks, truth = np.zeros_like(clip.labels[frame]), clip.labels[frame]
        for number in range(rounds):
            strokes = Robot().strokes(masks, truth, clip.num_objects, (0, clip.name, frame, number))
            [(_, masks)] = segmenter.propagate(frame, strokes, (frame, frame))
            found.append(jaccard(truth[None], masks[None], clip.num_objects)[0])
    by_round = np.array(found).reshape(5, rounds, -1)
    return np.array([mean_over(by_round[:, number]) for number in range(rounds)])


def propagated(segmenter: ATNetSegmenter, clip: Clip) -> Row:
    """Return the mean J of the frames without a true mask, after each of four true masks, [4]."""
    last = clip.num_frames - 1
    frames, found = (0, last, last // 2, last // 4), []
    segmenter.start(clip.frames, clip.num_objects)
    for number, frame in enumerate(frames, start=1):
        segmenter.adopt(frame, clip.labels[frame])
        masks = segmenter.interact(frame, [])
        others = np.delete(np.arange(clip.num_frames), frames[:number])
        found.append(mean_over(jaccard(clip.labels, masks, clip.num_objects)[others]))
    return np.array(found)


def show(
    title: str,
    measure: Callable[[ATNetSegmenter, Clip], Row],
    segmenter: ATNetSegmenter,
    clips: list[Clip],
) -> None:
    """Print a table with a row for each clip and the mean of the rows."""
    print(title)
    rows = []
    for clip in clips:
        rows.append(measure(segmenter, clip))
        print(f"{clip.name:16}", *(f"{value:.3f}" for value in rows[-1]), flush=True)
    print(f"{'mean':16}", *(f"{value:.3f}" for value in np.mean(rows, axis=0)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", default="base")
    parser.add_argument("--frames", type=int, help="number of frames of each sequence; default: all")
    parser.add_argument("--flow", action=argparse.BooleanOptionalAction, help="default: as the weights ask")
    chosen = parser.parse_args()
    options = {} if chosen.flow is None else {"flow": chosen.flow}
    segmenter = build_segmenter(chosen.checkpoint, **options)
    clips = [video.load(range(video.num_frames)[: chosen.frames]) for video in DavisFolder(chosen.folder)]
    show("A-Net on its own frame, J by round", annotated, segmenter, clips)
    show("true masks propagated, J by number of true masks", propagated, segmenter, clips)
    return 0


if __name__ == "__main__":
    sys.exit(main())
