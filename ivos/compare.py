"""Several segmenters in the same DAVIS session, side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray
from rich.table import Table

from ivos.engine import Segmenter
from ivos.evaluation import SessionSettings, evaluate
from ivos.evaluation.session import Video
from ivos.interaction import Stroke


class Watched:
    """A segmenter whose annotated frames are written down, by video in the session's order."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.annotated: list[list[int]] = []
        if hasattr(segmenter, "network"):
            self.network = segmenter.network

    def start(self, frames: NDArray[np.uint8], num_objects: int) -> None:
        """Begin a video."""
        self.annotated.append([])
        self.segmenter.start(frames, num_objects)

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
        """Run a round."""
        self.annotated[-1].append(frame)
        return self.segmenter.interact(frame, strokes)


def compare(
    segmenters: Mapping[str, Segmenter],
    videos: Sequence[Video],
    settings: SessionSettings,
    folder: str | Path,
    make_trainer: Callable[[], pl.Trainer],
) -> pd.DataFrame:
    """Run a session for each segmenter, on J and without a limit of time, so that no machine is too slow.

    Args:
        segmenters: by what they are called.
        videos: of the session.
        settings: of the session; its metric and its limit of time are left aside.
        folder: each report goes into a folder of its own in here.
        make_trainer: makes the trainer that runs a session.

    Returns:
        a row for each segmenter; mean J over objects and frames after each round (``round 1``, ...), and,
        after the first and after the last one, over the frames not annotated so far (``propagated 1``, ...).
    """
    settings, rows = replace(settings, metric="J", max_time=None), {}
    for name, segmenter in segmenters.items():
        watched, place = Watched(segmenter), Path(folder, name.replace(" ", "_").replace(",", ""))
        evaluate(watched, videos, settings, place, make_trainer())
        rows[name] = _figures(pd.read_csv(place / "report.csv"), watched.annotated)
    return pd.DataFrame.from_dict(rows, orient="index")


def _figures(report: pd.DataFrame, annotated: Sequence[Sequence[int]]) -> dict[str, float]:
    last = int(report["interaction"].max())
    by_round = report.groupby("interaction")["jaccard"].mean()
    figures = {f"round {number}": float(by_round[number]) for number in range(1, last + 1)}
    samples = report.groupby(["sequence", "scribble_idx"])
    for number in sorted({1, last}):
        values: list[float] = []
        for (_, sample), frames in zip(samples, annotated, strict=True):
            of_round = sample[sample["interaction"] == number]
            values += of_round.loc[~of_round["frame"].isin(frames[:number]), "jaccard"].tolist()
        figures[f"propagated {number}"] = float(np.mean(values)) if values else float("nan")
    return figures


def comparison_table(scores: pd.DataFrame) -> Table:
    """The scores for a terminal."""
    table = Table(title="Mean J after each round; prop.: on frames not annotated so far", title_style="bold")
    table.add_column("")
    for column in scores.columns:
        table.add_column(column.replace("propagated", "prop."), justify="right", no_wrap=True)
    for name, row in scores.iterrows():
        table.add_row(str(name), *(f"{value:.3f}" for value in row))
    return table
