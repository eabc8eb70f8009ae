"""Comparison of several segmenters in the same DAVIS session."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from rich.table import Table

from ivos.engine import Segmenter
from ivos.evaluation.module import SessionCallback, run_samples
from ivos.evaluation.report import round_rows
from ivos.metrics import mean_over
from ivos.runtime.files import write_text
from ivos.session import Sample, ScoredRound, SessionSettings, all_samples, davis
from ivos.video.video import Video


class _Scores(SessionCallback):
    """Collects the scores of every round of every sample, without masks and strokes."""

    def __init__(self) -> None:
        self.samples: list[list[ScoredRound]] = []

    def on_sample(self, sample: Sample) -> None:
        self.samples.append([])

    def on_round(self, sample: Sample, scored: ScoredRound) -> None:
        self.samples[-1].append(replace(scored, masks=np.zeros((0, 0, 0), np.uint8), strokes=()))


def compare(
    segmenters: Mapping[str, Segmenter],
    videos: Sequence[Video],
    settings: SessionSettings,
    folder: str | Path,
    make_trainer: Callable[[], pl.Trainer],
) -> pd.DataFrame:
    """Run a session for each segmenter, with the metric J and without a time limit.

    Args:
        segmenters: Segmenters by their names in the table.
        videos: The sequences.
        settings: Settings of the session; its metric and its time limit are ignored.
        folder: Folder in which each segmenter gets a subfolder for its ``report.csv``.
        make_trainer: Function that creates the trainer of a session.

    Returns:
        A row for each segmenter: mean J over objects and frames after each round (``round 1``, ...), and mean
        J over the frames not annotated so far after the first and the last round (``propagated 1``, ...).
    """
    settings, rows = replace(settings, metric="J", max_time=None), {}
    samples = all_samples(videos)
    for name, segmenter in segmenters.items():
        scores = _Scores()
        run_samples(
            segmenter,
            samples,
            lambda sample: davis(sample, settings, "J"),
            make_trainer(),
            metric="J",
            session_callbacks=[scores],
            total=len(samples),
        )
        _write_report(
            Path(folder, name.replace(" ", "_").replace(",", "")), samples, scores.samples, settings
        )
        rows[name] = _metrics(scores.samples)
    return pd.DataFrame.from_dict(rows, orient="index")


def _write_report(
    folder: Path,
    samples: Sequence[Sample],
    results: Sequence[Sequence[ScoredRound]],
    settings: SessionSettings,
) -> None:
    report = pd.concat(
        [
            round_rows(sample, scored, f"seed-{settings.seed}")
            for sample, rounds in zip(samples, results, strict=True)
            for scored in rounds
        ],
        ignore_index=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.csv", report.to_csv())


def _metrics(results: Sequence[Sequence[ScoredRound]]) -> dict[str, float]:
    """Return mean J over all objects and frames of all samples."""
    last = len(results[0])

    def mean(number: int, propagated: bool) -> float:
        values = [rounds[number - 1].jaccard.copy() for rounds in results]
        if propagated:
            for quality, rounds in zip(values, results, strict=True):
                quality[[each.frame for each in rounds[:number]]] = np.nan
        return float(mean_over(np.concatenate([quality.ravel() for quality in values])))

    found = {f"round {number}": mean(number, False) for number in range(1, last + 1)}
    return found | {f"propagated {number}": mean(number, True) for number in sorted({1, last})}


def comparison_table(scores: pd.DataFrame) -> Table:
    """Return the scores as a table for a terminal, with a column for each segmenter."""
    table = Table(
        title="Mean J after each round; propagated: on frames not annotated so far", title_style="bold"
    )
    table.add_column("", no_wrap=True)
    for name in scores.index:
        table.add_column(str(name), justify="right", min_width=5)
    for column in scores.columns:
        values = [f"{value:.3f}" for value in scores[column]]
        table.add_row(column, *values, end_section=str(column) == f"round {_rounds(scores)}")
    return table


def _rounds(scores: pd.DataFrame) -> int:
    return sum(str(column).startswith("round ") for column in scores.columns)
