"""Sweeps: many runs of train.py, each in a folder of its own, and the table over all of them.

``train.py -m`` starts them (docs/sweeps.md); ``uv run -m ivos.sweeps FOLDER`` shows the table at any time.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.console import Console
from rich.table import Table

from ivos.cli import is_first_process, reported, user_error
from ivos.errors import UserError

SCORES, ERROR = "scores.json", "error.txt"


def note_scores(folder: Path, part: str, figures: Mapping[str, Any]) -> None:
    """Add the figures of a part of a run (a stage, the session) to its ``scores.json``, as ``PART/NAME``."""
    if not is_first_process():
        return
    scores = read_scores(folder) | {f"{part}/{name}": float(value) for name, value in figures.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{SCORES}.tmp"
    temporary.write_text(json.dumps(scores, indent=2) + "\n")
    os.replace(temporary, folder / SCORES)


def read_scores(folder: Path) -> dict[str, float]:
    """The figures of a run so far."""
    path = folder / SCORES
    scores: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    return scores


def one_run(run: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """A run of a sweep: one that fails says so, leaves ``error.txt``, and the next one has its turn.

    Returns:
        the figure that the sweep is about; None if the run failed.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / ERROR).unlink(missing_ok=True)
    try:
        _check_optimize(cfg)
        value = run(cfg)
        if value is None and is_first_process():  # which writes the scores
            raise UserError(f"optimize={cfg.optimize}: there are: {', '.join(read_scores(folder))}")
        return value
    except Exception as error:
        cause = user_error(error)
        lines = str(cause) if cause else f"{type(error).__name__}: {error}"
        details = "" if cause else f"\n\n{traceback.format_exc()}"
        (folder / ERROR).write_text(f"{lines}{details}\n")
        print(f"error in {folder}: {lines}", file=sys.stderr)
        return None


def _check_optimize(cfg: DictConfig) -> None:
    part, parts = cfg.optimize.partition("/")[0], [*cfg.stages, *(["session"] if cfg.score else [])]
    if part not in parts:
        raise UserError(
            f"optimize={cfg.optimize}: no {part!r} in this run (score={str(cfg.score).lower()}); "
            f"figures come from: {', '.join(map(str, parts))}"
        )


class ContinueStudy(Callback):
    """Goes on with the Optuna study of a sweep's folder: ``n_trials`` are those of all goes together.

    A trial's folder is called after its number. What was cut off is tried again first, as a new trial.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Look into the study before the sweeper does."""
        with reported():
            sweeper = config.hydra.sweeper
            _check_search_space(config)
            import optuna

            optuna.logging.set_verbosity(optuna.logging.WARNING)
            Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
            study = optuna.create_study(
                study_name=sweeper.study_name,
                storage=sweeper.storage,
                direction=getattr(sweeper.direction, "name", sweeper.direction),
                load_if_exists=True,
            )
            finished = _again(study)
            first = sum(trial.state != optuna.trial.TrialState.WAITING for trial in study.trials)
            OmegaConf.register_new_resolver("trial", lambda job: first + int(job), replace=True)
            with read_write(config), open_dict(config):
                sweeper.n_trials = max(0, sweeper.n_trials - finished)
                if sweeper.sampler.get("seed") is not None:  # else it would draw its first numbers again
                    sweeper.sampler.seed += first
        if first:
            print(f"Study of {config.hydra.sweep.dir}: {finished} trials done, {sweeper.n_trials} to go")


def _again(study: Any) -> int:
    """Queue the parameters of trials that were cut off; the number of trials that were not."""
    from optuna.trial import Trial, TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING]):
        Trial(study, trial._trial_id).set_user_attr("cut_off", True)
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
    done = study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL])
    return sum("cut_off" not in trial.user_attrs for trial in done)


def _check_search_space(config: DictConfig) -> None:
    given = [f"{name}={value}" for name, value in (config.hydra.sweeper.params or {}).items()]
    given += list(config.hydra.overrides.task)
    if not any(override.is_sweep_override() for override in OverridesParser.create().parse_overrides(given)):
        raise UserError(
            "sweep=optuna: nothing to search; give a parameter as NAME='interval(LOW,HIGH)', "
            "'tag(log,interval(LOW,HIGH))', 'range(LOW,HIGH)' or 'choice(A,B)'"
        )


class Summary(Callback):
    """At the end of a sweep its table; exit status 1 if a run failed."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Summarise."""
        with reported():
            runs = summarise(Path(config.hydra.sweep.dir))
        if "failed" in set(runs["status"]):
            raise SystemExit(1)


def summarise(folder: Path, metric: str | None = None, minimize: bool | None = None) -> pd.DataFrame:
    """Print the table of a sweep and write ``sweep.csv`` and ``sweep.png``.

    Args:
        folder: of the sweep.
        metric: what to sort by; None: what the sweep was about.
        minimize: whether less is better; None: what the sweep was told.

    Returns:
        a row for each run: run, status, the parameters that differ, the figures; the best first.

    Raises:
        UserError: there are no runs, or none has the figure.
    """
    places = [path.parents[1] for path in folder.glob("*/.hydra/overrides.yaml")]
    if not places:
        raise UserError(f"{folder}: no runs of a sweep in there")
    places.sort(
        key=lambda path: (not path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path.name)
    )
    metric = metric or str(OmegaConf.select(OmegaConf.load(places[0] / ".hydra/config.yaml"), "optimize"))
    if minimize is None:
        told = OmegaConf.select(OmegaConf.load(places[0] / ".hydra/hydra.yaml"), "hydra.sweeper.direction")
        minimize = str(told).lower().endswith("minimize")
    parameters = pd.DataFrame([_parameters(place) for place in places])
    differing = [str(name) for name in parameters if parameters[name].nunique(dropna=False) > 1]
    scores = pd.DataFrame([read_scores(place) for place in places])
    if metric not in scores:
        raise UserError(
            f"{folder}: no run has {metric!r}; there are: {', '.join(map(str, scores)) or 'no figures yet'}"
        )
    status = ["failed" if (p / ERROR).exists() else "" for p in places]
    status = [
        s or ("done" if pd.notna(v) else "unfinished") for s, v in zip(status, scores[metric], strict=True)
    ]
    runs = pd.DataFrame({"run": [place.name for place in places], "status": status})
    runs = pd.concat([runs, parameters[differing], scores], axis=1)
    runs = runs.sort_values(metric, ascending=minimize, na_position="last", kind="stable", ignore_index=True)
    runs.to_csv(folder / "sweep.csv", index=False)
    _plot(runs, differing, metric, folder / "sweep.png")
    console = Console(highlight=False)
    console.print(_table(runs, differing, metric, folder))
    console.print(f"Table and picture: {folder / 'sweep.csv'}, {folder / 'sweep.png'}", soft_wrap=True)
    return runs


def _parameters(place: Path) -> dict[str, Any]:
    """A run's overrides, numbers as numbers."""
    overrides = OmegaConf.load(place / ".hydra/overrides.yaml")
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


def _table(runs: pd.DataFrame, parameters: list[str], metric: str, folder: Path) -> Table:
    table = Table(title=f"Sweep {folder.name}, by {metric}", title_style="bold", header_style="bold")
    table.add_column("run", justify="right")
    for name in parameters:
        place, dot, option = name.rpartition(".")  # in two lines
        table.add_column(f"{place}{dot}\n{option}", justify="right", overflow="fold")
    table.add_column(metric, justify="right", no_wrap=True)
    table.add_column("")
    for index, row in runs.iterrows():
        values = [
            f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in parameters
        ]
        score = f"{row[metric]:.4f}" if pd.notna(row[metric]) else "-"
        note = "best" if index == 0 and score != "-" else "" if row["status"] == "done" else row["status"]
        table.add_row(str(row["run"]), *values, score, note, style="bold" if note == "best" else None)
    return table


def _plot(runs: pd.DataFrame, parameters: list[str], metric: str, path: Path) -> None:
    """The metric against the order of the runs, and against every parameter that differs."""
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
    figure.savefig(path, dpi=130)


def _scatter(axes: Axes, x: "pd.Series[Any]", y: "pd.Series[Any]", name: str) -> None:
    """The metric against one thing; the best (the first row) stands out."""
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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m ivos.sweeps", description="The table over the runs of a sweep."
    )
    parser.add_argument("folder", type=Path, help="of the sweep: multirun/DATE_TIME")
    parser.add_argument("--metric", help="what to sort by; default: the sweep's optimize=")
    parser.add_argument("--minimize", action="store_true", default=None, help="less is better")
    arguments = parser.parse_args()
    with reported():
        summarise(arguments.folder, arguments.metric, arguments.minimize)


if __name__ == "__main__":
    main()
