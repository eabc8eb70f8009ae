"""The table of the runs of a sweep: printed, saved as ``sweep.csv`` and plotted as ``sweep.png``."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import ascii_lowercase
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from omegaconf import OmegaConf

from ivos.runtime.errors import UserError
from ivos.runtime.files import replacing
from ivos.runtime.sweeps import ERROR, read_scores


def summarise(folder: Path, metric: str | None = None, minimize: bool | None = None) -> pd.DataFrame:
    """Print the table of a sweep and write ``sweep.csv`` and ``sweep.png``.

    Args:
        folder: Folder of the sweep.
        metric: Name of the metric to sort by; None for the one that the sweep optimised.
        minimize: Whether smaller values are better; None for the direction of the sweep's optimisation.

    Returns:
        One row for each run, the best run first. The columns are the run's name, its status, the parameters
        that differ between runs, and the metrics.

    Raises:
        UserError: The folder contains no runs, or no run has the metric.
    """
    folders = [path.parents[1] for path in folder.glob("*/.hydra/overrides.yaml")]
    if not folders:
        raise UserError(f"{folder}: no runs of a sweep in this folder")
    folders.sort(
        key=lambda path: (not path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path.name)
    )
    cfg = OmegaConf.load(folders[0] / ".hydra/config.yaml")
    # In version 0.1 the option optimized_metric was called ``optimize``.
    metric = metric or str(OmegaConf.select(cfg, "optimized_metric") or OmegaConf.select(cfg, "optimize"))
    if minimize is None:
        hydra = OmegaConf.load(folders[0] / ".hydra/hydra.yaml")
        minimize = str(OmegaConf.select(hydra, "hydra.sweeper.direction")).lower().endswith("minimize")
    parameters = pd.DataFrame([_parameters(run) for run in folders])
    differing = [str(name) for name in parameters if parameters[name].nunique(dropna=False) > 1]
    scores = pd.DataFrame([read_scores(run) for run in folders])
    if metric not in scores:
        raise UserError(
            f"{folder}: no run has {metric!r}; there are: {', '.join(map(str, scores)) or 'no metrics yet'}"
        )
    status = ["failed" if (run / ERROR).exists() else "" for run in folders]
    status = [
        s or ("done" if pd.notna(v) else "unfinished") for s, v in zip(status, scores[metric], strict=True)
    ]
    runs = pd.DataFrame({"run": [run.name for run in folders], "status": status})
    runs = pd.concat([runs, parameters[differing], scores], axis=1)
    runs = runs.sort_values(metric, ascending=minimize, na_position="last", kind="stable", ignore_index=True)
    with replacing(folder / "sweep.csv") as temporary:
        runs.to_csv(temporary, index=False)
    with replacing(folder / "sweep.png") as temporary:
        _plot(runs, differing, metric, temporary)
    print(f"Sweep {folder.name}, by {metric}", *table(runs, differing, metric), sep="\n")
    print(f"Table and picture: {folder / 'sweep.csv'}, {folder / 'sweep.png'}")
    return runs


def _parameters(folder: Path) -> dict[str, Any]:
    """Return the overrides of a run; values that are numbers are converted to int or float."""
    overrides = OmegaConf.load(folder / ".hydra/overrides.yaml")
    pairs = [str(override).lstrip("+~").partition("=") for override in overrides]
    return {name: _number(value) for name, _, value in pairs}


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def table(runs: pd.DataFrame, parameters: Sequence[str], metric: str, width: int = 80) -> list[str]:
    """Return the lines of a table of runs; a line exceeds `width` only if a single name is longer.

    Because the names of parameters are long, their columns are headed by letters, which the first lines
    explain. Parameters whose columns do not fit into `width` are listed in a line that refers to
    ``sweep.csv``.

    Args:
        runs: Table of the runs as :func:`summarise` returns it.
        parameters: Columns to show between the name of the run and its metric, as far as they fit.
        metric: Name of the metric to show.
        width: Largest length of a line in characters.
    """
    letters = dict(zip(parameters, ascii_lowercase, strict=False))
    columns = {"run": _column("run", runs["run"])}
    columns |= {name: _column(letter, map(_short, runs[name])) for name, letter in letters.items()}
    metrics = [f"{value:.4f}" if pd.notna(value) else "-" for value in runs[metric]]
    columns["figure"] = _column("figure", metrics)
    notes = ["" if status == "done" else status for status in runs["status"]]
    if runs["status"][0] == "done":
        notes[0] = "best"
    columns["note"] = [f"  {note}" if note else "" for note in ["", *notes]]
    shown = list(letters)
    while shown and sum(len(max(cells, key=len)) + 1 for cells in columns.values()) > width:
        del columns[shown.pop()]
    lines = [f"{letters[name]}: {name}" for name in shown]
    if hidden := [name for name in parameters if name not in shown]:
        lines += wrap(f"{len(hidden)} more in sweep.csv: {', '.join(hidden)}", width, break_long_words=False)
    return lines + [" ".join(cells).rstrip() for cells in zip(*columns.values(), strict=True)]


def _column(head: str, cells: Iterable[str]) -> list[str]:
    """Return the head and the cells of a column, right-aligned to the same width."""
    every = [head, *cells]
    return [cell.rjust(max(map(len, every))) for cell in every]


def _short(value: Any) -> str:
    """Return a parameter's value in at most 14 characters."""
    if value is None or value != value:  # the parameter was not set in this run
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 14 else f"{text[:11]}..."


def _plot(runs: pd.DataFrame, parameters: list[str], metric: str, path: Path) -> None:
    """Draw the metric over the order of the runs and over every parameter that differs."""
    scored = runs[runs[metric].notna()]
    columns = min(3, 1 + len(parameters))
    rows = -(-(1 + len(parameters)) // columns)
    figure = Figure(figsize=(3.9 * columns, 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    order = pd.to_numeric(scored["run"], errors="coerce")
    _scatter(cells[0], order if order.notna().all() else scored["run"], scored[metric], "run")
    for axes, name in zip(cells[1:], parameters, strict=False):
        _scatter(axes, scored[name], scored[metric], name)
    for axes in cells[1 + len(parameters) :]:
        axes.set_axis_off()
    for axes in cells[::columns]:
        axes.set_ylabel(metric)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _scatter(axes: Axes, x: "pd.Series[Any]", y: "pd.Series[Any]", name: str) -> None:
    """Draw the metric over one quantity, with the best run (the first row) marked."""
    numbers = pd.to_numeric(x, errors="coerce")
    if numbers.notna().all():
        x = numbers
        if x.min() > 0 and x.max() >= 50 * x.min():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        x = x.astype(str)
        axes.margins(x=0.3)
    axes.scatter(x, y, s=28, color="tab:blue", alpha=0.8, linewidths=0)
    axes.scatter(x[:1], y[:1], s=64, color="tab:orange", zorder=3)
    axes.set_title(name, fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
