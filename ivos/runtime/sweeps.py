"""Sweeps: many runs of train.py, each in its own folder, and the table of all runs.

``train.py -m`` starts the runs (docs/guides/sweeps.md), and ``python -m ivos.runtime.sweeps FOLDER``
shows the table at any time. Optuna, pandas and matplotlib are imported only when they are needed, because
Hydra creates the callbacks of this module at every start of a program.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ivos.runtime.command_line import is_first_process, reported, user_error
from ivos.runtime.errors import UserError
from ivos.runtime.files import read_json, write_text

SCORES, ERROR = "scores.json", "error.txt"


def note_scores(folder: Path, part: str, metrics: Mapping[str, Any]) -> None:
    """Add the metrics of a part of a run (a stage or the session) to ``scores.json``, named ``PART/NAME``."""
    if not is_first_process():
        return
    scores = read_scores(folder) | {f"{part}/{name}": float(value) for name, value in metrics.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SCORES, json.dumps(scores, indent=2) + "\n")


def read_scores(folder: Path) -> dict[str, float]:
    """Return the metrics that a run has saved so far."""
    path = folder / SCORES
    if not path.exists():
        return {}
    try:
        return {str(name): float(value) for name, value in read_json(path).items()}
    except (OSError, ValueError, OverflowError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the metrics of a run ({error}); delete it") from error


def one_run(run: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """Execute one run of a sweep; if it fails, write its message to ``error.txt`` and let the sweep go on.

    Returns:
        The value of the metric that the sweep optimises; None if the run failed.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / ERROR).unlink(missing_ok=True)
    try:
        _check_optimized_metric(cfg)
        value = run(cfg)
        if value is None and is_first_process():  # only the process of rank 0 writes the scores
            raise UserError(
                f"optimized_metric={cfg.optimized_metric}: no such metric; there are: "
                f"{', '.join(read_scores(folder))}"
            )
        return value
    except Exception as error:
        cause = user_error(error)
        lines = str(cause) if cause else f"{type(error).__name__}: {error}"
        details = "" if cause else f"\n\n{traceback.format_exc()}"
        write_text(folder / ERROR, f"{lines}{details}\n")
        print(f"error in {folder}: {lines}", file=sys.stderr)
        return None


def _check_optimized_metric(cfg: DictConfig) -> None:
    part, parts = (
        str(cfg.optimized_metric).partition("/")[0],
        [*cfg.stages, *(["session"] if cfg.score else [])],
    )
    if part not in parts:
        raise UserError(
            f"optimized_metric={cfg.optimized_metric}: no {part!r} in this run "
            f"(score={str(cfg.score).lower()}); metrics come from: {', '.join(map(str, parts))}"
        )


class ContinueStudy(Callback):
    """A Hydra callback that continues the Optuna study in the folder of a sweep.

    ``n_trials`` counts the trials of all starts of the sweep together. The folder of a trial is named after
    its number. The parameters of interrupted trials are tried again first, as new trials.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Load or create the study, and reduce ``n_trials`` by the number of finished trials."""
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
            finished = _retry_interrupted_trials(study)
            first = sum(trial.state != optuna.trial.TrialState.WAITING for trial in study.trials)
            OmegaConf.register_new_resolver("trial", lambda job: first + int(job), replace=True)
            with read_write(config), open_dict(config):
                sweeper.n_trials = max(0, sweeper.n_trials - finished)
                if sweeper.sampler.get("seed") is not None:  # else the first random numbers would be repeated
                    sweeper.sampler.seed += first
        if first:
            print(f"Study of {config.hydra.sweep.dir}: {finished} trials done, {sweeper.n_trials} to go")


def _retry_interrupted_trials(study: Any) -> int:
    """Queue the parameters of interrupted trials, and return the number of finished trials."""
    from optuna.trial import TrialState

    cut_off = set(study.user_attrs.get("cut_off", []))  # numbers of the trials interrupted at earlier starts
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        cut_off.add(trial.number)
        study.set_user_attr("cut_off", sorted(cut_off))
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)
    done = study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL])
    return sum(trial.number not in cut_off for trial in done)


def _check_search_space(config: DictConfig) -> None:
    given = [f"{name}={value}" for name, value in (config.hydra.sweeper.params or {}).items()]
    given += list(config.hydra.overrides.task)
    if not any(override.is_sweep_override() for override in OverridesParser.create().parse_overrides(given)):
        raise UserError(
            "sweep=optuna: nothing to search; give a parameter as NAME='interval(LOW,HIGH)', "
            "'tag(log,interval(LOW,HIGH))', 'range(LOW,HIGH)' or 'choice(A,B)'"
        )


class SweepTable(Callback):
    """A Hydra callback that shows the table at the end of a sweep, and exits with 1 if a run failed."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print and save the table of the sweep.

        Raises:
            SystemExit: A run failed; the exit status is 1.
        """
        from ivos.runtime.sweep_table import summarise

        with reported():
            runs = summarise(Path(config.hydra.sweep.dir))
        if "failed" in set(runs["status"]):
            raise SystemExit(1)


def main() -> None:
    """Print the table of the runs of a sweep."""
    parser = argparse.ArgumentParser(
        "python -m ivos.runtime.sweeps", description="Print and save the table of the runs of a sweep."
    )
    parser.add_argument("folder", type=Path, help="folder of the sweep: multirun/DATE_TIME")
    parser.add_argument("--metric", help="metric to sort by; default: optimized_metric of the sweep")
    parser.add_argument("--minimize", action="store_true", default=None, help="smaller values are better")
    arguments = parser.parse_args()
    from ivos.runtime.sweep_table import summarise

    with reported():
        summarise(arguments.folder, arguments.metric, arguments.minimize)


if __name__ == "__main__":
    main()
