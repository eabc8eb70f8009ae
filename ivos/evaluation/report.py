"""What a session leaves beside the official report: rounds.csv, the curve, the tables, media for loggers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger
from rich.table import Table

from ivos import loggers as media
from ivos.interaction.pictures import write_video

COLUMN = {"J": "jaccard", "F": "contour", "J_AND_F": "j_and_f"}
TITLE = {"J": "J", "F": "F", "J_AND_F": "J&F"}


def figures(metric: str, summary: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a session's summary by name, as they go to the logger.

    Returns:
        ``J/auc``, ``J/at_60s``, ``J/round_1``, ..., ``J/seconds_1``, ... with the metric's own name for J.
    """
    curve, at = summary["curve"], summary["metric_at_threshold"]
    found = {f"{metric}/auc": summary["auc"], f"{metric}/at_{at['threshold']:g}s": at[metric]}
    values, seconds = curve[metric][1:-1], np.diff(curve["time"][:-1]).tolist()  # between zero and time-out
    for number, (value, duration) in enumerate(zip(values, seconds, strict=True), start=1):
        found[f"{metric}/round_{number}"] = value
        found[f"{metric}/seconds_{number}"] = duration
    return {name: float(value) for name, value in found.items()}


def rounds_table(
    report: pd.DataFrame, metric: str, rows: Sequence[tuple[str, int, int]], max_interactions: int
) -> pd.DataFrame:
    """What goes into ``rounds.csv``: the metric's mean over the frames for each object, sample and round.

    Rounds that a sample did not reach in its time are left empty.

    Args:
        report: the official report.
        metric: J, F or J_AND_F.
        rows: (sequence, object, scribble) of every row, whether it was reached or not.
        max_interactions: columns.
    """
    keys = ["sequence", "object_id", "scribble_idx"]
    means = report.groupby([*keys, "interaction"])[COLUMN[metric]].mean().unstack("interaction")
    table = means.reindex(index=pd.MultiIndex.from_tuples(rows), columns=range(1, max_interactions + 1))
    table.columns = [f"round-{number}" for number in table.columns]
    return table.rename_axis(index=["sequence", "obj_idx", "scr_idx"])


def sequences_table(report: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What goes into ``sequences.csv``: a sequence's mean over frames, objects and samples in every round."""
    means = report.groupby(["sequence", "interaction"])[COLUMN[metric]].mean().unstack("interaction")
    means.columns = [f"round-{number}" for number in means.columns]
    return means


def log_session(
    loggers: Iterable[Logger], metric: str, summary: Mapping[str, Any], folder: Path, report: pd.DataFrame
) -> None:
    """Hand a finished session to the loggers: figures, tables, curve, videos of saved overlays, the reports.

    Of each sequence there is one video, ``overlays/SEQUENCE.webm``: the last round of its first sample.

    Args:
        loggers: what to log to.
        metric: J, F or J_AND_F.
        summary: in the official form.
        folder: where the session's files are.
        report: the official report.
    """
    loggers, named = list(loggers), figures(metric, summary)
    for logger in loggers:
        logger.log_metrics(named)
        logger.save()
    rounds = pd.DataFrame({"round": range(1, sum("round_" in name for name in named) + 1)}).set_index("round")
    for column, name in ((TITLE[metric], "round"), ("seconds", "seconds")):
        rounds[column] = [named[f"{metric}/{name}_{number}"] for number in rounds.index]
    media.log_table(loggers, f"{metric}/rounds", rounds)
    media.log_table(loggers, f"{metric}/sequences", sequences_table(report, metric))
    elsewhere = [logger for logger in loggers if not isinstance(logger, CSVLogger)]  # it is in the folder
    media.log_picture(
        elsewhere, f"{metric}/curve", np.asarray(Image.open(folder / "curve.png").convert("RGB"))
    )
    for sequence in sorted(path for path in folder.glob("overlays/*") if path.is_dir()):
        last = max(min(path for path in sequence.iterdir()).iterdir())
        video = write_video(sequence.with_suffix(".webm"), sorted(last.glob("*.jpg")))
        media.log_video(loggers, f"{metric}/overlays/{sequence.name}", video)
    names = ("report.csv", "summary.json", "rounds.csv", "sequences.csv", "curve.png", "session.json")
    media.log_files(loggers, f"report-{metric}", "evaluation", [folder / name for name in names])


def plot_curve(metric: str, summary: Mapping[str, Any], path: Path) -> None:
    """Draw ``curve.png``: the metric against time, as the summary counts it, and against rounds."""
    curve, at = summary["curve"], summary["metric_at_threshold"]
    time, values = np.array(curve["time"]), np.array(curve[metric])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    left.fill_between(time, values, color="tab:blue", alpha=0.12, linewidth=0)
    left.plot(time[:-1], values[:-1], "o-", color="tab:blue", markersize=4)
    left.plot(time[-2:], values[-2:], "--", color="tab:blue")  # nothing more happens until the time-out
    if at["threshold"] <= time[-1]:
        left.axvline(at["threshold"], color="0.6", linewidth=0.8, linestyle=":")
        left.plot(at["threshold"], at[metric], "s", color="tab:orange", markersize=5)
    left.set_xlabel("accumulated time per sample [s]")
    left.set_ylabel(TITLE[metric])
    left.set_title(f"AUC {summary['auc']:.3f}   {TITLE[metric]}@{at['threshold']:g}s {at[metric]:.3f}")
    rounds = np.arange(1, len(values) - 1)
    right.plot(rounds, values[1:-1], "o-", color="tab:blue", markersize=4)
    for number, value in zip(rounds, values[1:-1], strict=True):
        right.annotate(f"{value:.3f}", (number, value), (0, 6), textcoords="offset points", ha="center")
    right.set_xticks(rounds)
    right.set_xlabel("round")
    right.set_title("mean over objects and frames")
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_xlim(0, max(time[-1], 1e-9))
    figure.savefig(path, dpi=130)


def summary_table(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """The table for the terminal: for each metric AUC, the metric at the time threshold, and every round."""
    table = Table(title="DAVIS interactive session", title_style="bold", header_style="bold")
    table.add_column("")
    table.add_column("AUC", justify="right")
    threshold = next(iter(summaries.values()))["metric_at_threshold"]["threshold"]
    table.add_column(f"@{threshold:g}s", justify="right")
    rounds = max(len(summary["curve"]["time"]) - 2 for summary in summaries.values())
    for number in range(1, rounds + 1):
        table.add_column(f"round {number}", justify="right")
    for metric, summary in summaries.items():
        named = figures(metric, summary)
        head = [f"{summary['auc']:.3f}", f"{named[f'{metric}/at_{threshold:g}s']:.3f}"]
        values = [f"{named[f'{metric}/round_{number}']:.3f}" for number in range(1, rounds + 1)]
        table.add_row(TITLE[metric], *head, *values, style="bold")
        seconds = [f"{named[f'{metric}/seconds_{number}']:.2f}" for number in range(1, rounds + 1)]
        table.add_row("seconds", "", "", *seconds, end_section=True)
    return table
