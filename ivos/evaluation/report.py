"""Reports of a session: official report, rounds.csv, curve, tables, and pictures for loggers."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger
from rich.table import Table

from ivos.runtime import loggers as media
from ivos.runtime.files import replacing
from ivos.session import ProtocolFactory, Sample, ScoredRound, of_metric
from ivos.session.confident import calibration
from ivos.session.first_mask import semi_supervised_scores
from ivos.video.video import Video
from ivos.video.writer import write_video

COLUMNS = (
    *("session_id", "sequence", "scribble_idx", "interaction", "object_id", "frame"),
    *("jaccard", "contour", "j_and_f", "timing"),
)
"""The columns of the official report, in order."""
COLUMN = {"J": "jaccard", "F": "contour", "J_AND_F": "j_and_f"}
TITLE = {"J": "J", "F": "F", "J_AND_F": "J&F"}


def round_rows(sample: Sample, scored: ScoredRound, session_id: str) -> pd.DataFrame:
    """Return a round's rows of the official report: one for each frame and object with known position."""
    frames, objects = np.nonzero(~np.isnan(scored.jaccard))
    rows = {
        "session_id": session_id,
        "sequence": sample.video.name,
        "scribble_idx": sample.scribble,
        "interaction": scored.number,
        "object_id": objects + 1,
        "frame": frames,
        "jaccard": scored.jaccard[frames, objects],
        "contour": of_metric(scored, "F")[frames, objects],
        "j_and_f": of_metric(scored, "J_AND_F")[frames, objects],
        "timing": scored.seconds,
    }
    return pd.DataFrame(rows, columns=list(COLUMNS))


def metrics(metric: str, summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics in a session's summary under the names with which they are logged.

    Returns:
        The values ``J/auc``, ``J/at_60s``, ``J/round_1``, ..., ``J/seconds_1``, ...; J stands for the name of
        the metric.
    """
    curve, at = summary["curve"], summary["metric_at_threshold"]
    found = {f"{metric}/auc": summary["auc"], f"{metric}/at_{at['threshold']:g}s": at[metric]}
    values, seconds = curve[metric][1:-1], np.diff(curve["time"][:-1]).tolist()  # between zero and time-out
    for number, (value, duration) in enumerate(zip(values, seconds, strict=True), start=1):
        found[f"{metric}/round_{number}"] = value
        found[f"{metric}/seconds_{number}"] = duration
    return {name: float(value) for name, value in found.items()}


def r_auc(rounds: Sequence[float]) -> float:
    """Return R-AUC (Vujasinovic et al., 2022), the area under the curve of the metric against rounds.

    The curve starts with 0 at round 0, continues with the value after each round and repeats the last value
    once. Its area by the trapezoidal rule is divided by the number of steps.

    Args:
        rounds: Metric after each round.

    >>> r_auc([0.5, 1.0])
    0.6666666666666666
    """
    values = np.array([0.0, *rounds, rounds[-1]])
    return float(((values[1:] + values[:-1]) / 2).sum() / (len(values) - 1))


def machine() -> str:
    """Return a description of the machine: its first GPU, or else its processors."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{platform.machine()}, {os.cpu_count()} cores"


def protocol_summary(
    report: pd.DataFrame,
    videos: Sequence[Video],
    metric: str,
    summary: Mapping[str, Any],
    protocol: ProtocolFactory,
    radius: float = 0.0,
) -> dict[str, Any]:
    """Return the contents of ``protocol.json``: measures and facts that the official summary lacks.

    Args:
        report: The official report.
        videos: The sequences.
        metric: J, F or J_AND_F.
        summary: Summary of the report.
        protocol: Protocol of the session.
        radius: Radius of the ring that represents a click; see
            :func:`ivos.interaction.clicks.click_radius`.

    Returns:
        A dictionary with these entries:

        - ``protocol`` and ``machine``;
        - ``r_auc``, see :func:`r_auc`;
        - ``mean_over_rounds``, the mean of the metric over the rounds, which SAM 2 reports;
        - ``click_radius``, for protocols with clicks: the radius of the ring that represents a click after
          the first round, in frame heights; 0 if clicks are points or the segmenter takes clicks;
        - ``user_seconds``, if the protocol has a model of the user's time: the mean over the samples;
        - ``semi_supervised_j_and_f`` etc., for protocols with masks; see :func:`semi_supervised`.
    """
    rounds = list(map(float, summary["curve"][metric][1:-1]))
    found: dict[str, Any] = {"protocol": protocol.name, "r_auc": r_auc(rounds), "machine": machine()}
    found["mean_over_rounds"] = float(np.mean(rounds))
    if protocol.prompts == "clicks":
        found["click_radius"] = radius
    if protocol.prompts == "masks":
        found |= semi_supervised(report, videos)
    lengths = {video.name: video.num_frames for video in videos}
    prompted = report.groupby(["sequence", "scribble_idx"])["interaction"].max()
    names = prompted.index.get_level_values("sequence")
    seconds = [protocol.seconds(lengths[name], int(n)) for name, n in zip(names, prompted, strict=True)]
    known = [value for value in seconds if value is not None]
    if known:
        found["user_seconds"] = float(np.mean(known))
    return found


def semi_supervised(report: pd.DataFrame, videos: Sequence[Video]) -> dict[str, float]:
    """Return J, F and J&F of the last round over all objects, as defined by semi-supervised benchmarks.

    See :func:`ivos.session.first_mask.semi_supervised_scores`. The values equal the global score in
    ``results.csv``, which :mod:`ivos.evaluation.score` computes from the saved masks.
    """
    found: dict[str, list[float]] = {"jaccard": [], "contour": []}
    for video in videos:
        rows = report[report["sequence"] == video.name]
        rows = rows[rows["interaction"] == rows["interaction"].max()]
        for column, values in found.items():
            quality = np.full(video.areas.shape, np.nan)
            quality[rows["frame"], rows["object_id"] - 1] = rows[column]
            values += [mean for mean in semi_supervised_scores(quality, video.areas) if not np.isnan(mean)]
    j, f = (float(np.mean(values)) if values else float("nan") for values in found.values())
    return {"semi_supervised_j_and_f": (j + f) / 2, "semi_supervised_j": j, "semi_supervised_f": f}


def calibration_summary(files: Sequence[Path]) -> dict[str, float]:
    """Return the calibration of the confidences in the given files, or an empty dictionary without files.

    Returns:
        The entries ``confidence_error`` and ``calibration_error``; see
        :class:`ivos.session.confident.Calibration`.
    """
    if not files:
        return {}
    pairs = pd.concat([pd.read_csv(path) for path in files])
    found = calibration(pairs["confidence"].to_numpy(), pairs["jaccard"].to_numpy())
    return {"confidence_error": found.error, "calibration_error": found.calibration_error}


def rounds_table(
    report: pd.DataFrame, metric: str, rows: Sequence[tuple[str, int, int]], max_interactions: int
) -> pd.DataFrame:
    """Return the table of ``rounds.csv``: the mean over the frames for each object, sample and round.

    Rounds that a sample did not reach within its time limit are empty.

    Args:
        report: The official report.
        metric: J, F or J_AND_F.
        rows: Keys (sequence, object, scribble) of all rows, including those without rounds.
        max_interactions: Number of columns.
    """
    keys = ["sequence", "object_id", "scribble_idx"]
    means = report.groupby([*keys, "interaction"])[COLUMN[metric]].mean().unstack("interaction")
    table = means.reindex(index=pd.MultiIndex.from_tuples(rows), columns=range(1, max_interactions + 1))
    table.columns = [f"round-{number}" for number in table.columns]
    return table.rename_axis(index=["sequence", "obj_idx", "scr_idx"])


def sequences_table(report: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the table of ``sequences.csv``: the mean of each sequence and round over all its samples."""
    means = report.groupby(["sequence", "interaction"])[COLUMN[metric]].mean().unstack("interaction")
    means.columns = [f"round-{number}" for number in means.columns]
    return means


def log_session(
    loggers: Iterable[Logger], metric: str, summary: Mapping[str, Any], folder: Path, report: pd.DataFrame
) -> None:
    """Log a finished session: metrics, tables, curve, videos of saved overlays, and reports.

    Each sequence with overlays has a video ``overlays/SEQUENCE.webm`` of the last round of its first sample.

    Args:
        loggers: Lightning loggers.
        metric: J, F or J_AND_F.
        summary: Summary in the official format.
        folder: Folder with the session's files.
        report: The official report.
    """
    loggers, named = list(loggers), metrics(metric, summary)
    for logger in loggers:
        logger.log_metrics(named)
        logger.save()
    rounds = pd.DataFrame({"round": range(1, sum("round_" in name for name in named) + 1)}).set_index("round")
    for column, name in ((TITLE[metric], "round"), ("seconds", "seconds")):
        rounds[column] = [named[f"{metric}/{name}_{number}"] for number in rounds.index]
    media.log_table(loggers, f"{metric}/rounds", rounds)
    media.log_table(loggers, f"{metric}/sequences", sequences_table(report, metric))
    elsewhere = [logger for logger in loggers if not isinstance(logger, CSVLogger)]  # it takes no pictures
    media.log_picture(
        elsewhere, f"{metric}/curve", np.asarray(Image.open(folder / "curve.png").convert("RGB"))
    )
    for sequence in sorted(path for path in folder.glob("overlays/*") if path.is_dir()):
        last = max(min(path for path in sequence.iterdir()).iterdir())
        video = write_video(sequence.with_suffix(".webm"), sorted(last.glob("*.jpg")))
        media.log_video(loggers, f"{metric}/overlays/{sequence.name}", video)
    names = ("report.csv", "summary.json", "rounds.csv", "sequences.csv", "curve.png", "session.json")
    media.log_files(loggers, f"report-{metric}", "evaluation", [folder / name for name in names])


CURVE_FORMATS = ("png", "pdf", "svg")


def plot_curve(metric: str, summary: Mapping[str, Any], folder: Path) -> None:
    """Draw ``curve.png``, ``.pdf`` and ``.svg``: the metric against time and against rounds.

    The time axis is logarithmic, so that curves of fast and slow segmenters are equally readable.
    """
    values = np.array(summary["curve"][metric])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _plot_time(left, metric, summary)
    rounds = np.arange(1, len(values) - 1)
    right.plot(rounds, values[1:-1], "o-", color="tab:blue", markersize=4)
    crowded = len(rounds) > 8
    for number, value in zip(rounds, values[1:-1], strict=True):
        above = value < (0.85 if crowded else 0.92)  # otherwise the label would leave the axes
        right.annotate(
            f"{value:.3f}", (number, value), (0, 7 if above else -7), textcoords="offset points", ha="center",
            va="bottom" if above else "top", fontsize=8, rotation=90 if crowded else 0,
        )  # fmt: skip
    right.set_xticks(rounds)
    right.set_xlim(0.5, len(rounds) + 0.5)
    right.set_xlabel("round")
    right.set_title("mean over objects and frames", fontsize=10)
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    dates: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "ivos", "pdf.fonttype": 42}):  # reproducible files
        for kind in CURVE_FORMATS:
            with replacing(folder / f"curve.{kind}") as aside:
                figure.savefig(aside, dpi=130, format=kind, metadata=dates[kind])


def _plot_time(axes: Any, metric: str, summary: Mapping[str, Any]) -> None:
    """Draw the metric against the accumulated time; the axis is logarithmic unless all times are 0."""
    curve, at = summary["curve"], summary["metric_at_threshold"]
    time, values = np.array(curve["time"]), np.array(curve[metric])
    passed = time[time > 0]
    if passed.size and np.isfinite(passed).all():
        start, end = passed.min() / 2, max(time[-1], at["threshold"]) * 1.15
        axes.set_xscale("log")
        axes.set_xlim(start, end)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        time = np.maximum(time, start)  # time 0 is drawn at the left border
    axes.plot(time[:-1], values[:-1], "o-", color="tab:blue", markersize=4, clip_on=False)
    axes.plot(time[-2:], values[-2:], "--", color="tab:blue")  # constant until the time-out
    axes.axvline(at["threshold"], color="0.6", linewidth=0.8, linestyle=":")
    axes.plot(at["threshold"], at[metric], "s", color="tab:orange", markersize=5)
    axes.set_xlabel("accumulated time per sample [s]")
    axes.set_ylabel(TITLE[metric])
    title = f"AUC {summary['auc']:.3f}   {TITLE[metric]}@{at['threshold']:g}s {at[metric]:.3f}"
    axes.set_title(title, fontsize=10)


def summary_table(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table with AUC, R-AUC, the metric at the time threshold and after each round.

    It fits into 80 columns for any number of rounds and metrics.
    """
    table = Table(title="Interactive session", title_style="bold", header_style="bold")
    table.add_column("", no_wrap=True)
    columns: list[list[str]] = []
    threshold = next(iter(summaries.values()))["metric_at_threshold"]["threshold"]
    rounds = max(len(summary["curve"]["time"]) - 2 for summary in summaries.values())
    numbers = range(1, rounds + 1)
    for metric, summary in summaries.items():
        named = metrics(metric, summary)
        table.add_column(TITLE[metric], justify="right", no_wrap=True, style="bold")
        table.add_column("seconds", justify="right", no_wrap=True)
        head = [summary["auc"], r_auc(summary["curve"][metric][1:-1]), named[f"{metric}/at_{threshold:g}s"]]
        values = [*head, *(named[f"{metric}/round_{number}"] for number in numbers)]
        columns.append([f"{value:.3f}" for value in values])
        columns.append(["", "", "", *(f"{named[f'{metric}/seconds_{number}']:.2f}" for number in numbers)])
    labels = ["AUC", "R-AUC", f"@{threshold:g}s", *(f"round {number}" for number in numbers)]
    for number, cells in enumerate(zip(labels, *columns, strict=True)):
        table.add_row(*cells, end_section=number == 2)
    return table
