"""Where runs are logged: what Lightning's loggers lack, and how pictures, tables and files get into each.

Numbers go through Lightning as ever. Beyond them, W&B takes everything, TensorBoard pictures and tables, and
for CSV pictures become PNG files beside ``metrics.csv``; tables and files are in the run's folder anyway.
"""

import contextlib
import csv
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pytorch_lightning import loggers as lightning
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ivos.cli import is_first_process
from ivos.errors import UserError

Mode = Literal["online", "offline", "disabled"]


class CSVLogger(lightning.CSVLogger):
    """Lightning's, but a resumed run goes on with the ``metrics.csv`` it finds, where Lightning deletes it.

    Rows of steps that the resumed run does again, because they came after its checkpoint, are replaced.
    """

    _goes_on = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes the file."""
        if self._experiment is None:
            self._experiment = _GoingOn(self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        """Log a row."""
        if not self._goes_on:
            self.experiment.drop_from(step or 0)
            self._goes_on = True
        super().log_metrics(dict(metrics), step)


class _GoingOn(ExperimentWriter):
    """Appends to the file that is there."""

    def _check_log_dir_exists(self) -> None:
        """Lightning deletes the file here."""

    def drop_from(self, step: int) -> None:
        """Keep the rows before a step; a last line that was cut off by a kill goes, too."""
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        text = path.read_text()
        whole = text[: text.rfind("\n") + 1]
        rows = list(csv.DictReader(whole.splitlines()))
        if not rows:
            path.unlink()
            return
        self.metrics_keys = list(rows[0])
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(row for row in rows if int(row["step"]) < step)
        os.replace(temporary, path)


class WandbLogger(lightning.WandbLogger):
    """Lightning's, with names like ``anet/val/J`` for the figures of a stage.

    Of a training run's stages and its session each makes a logger; all of them log to one W&B run. Its id is
    kept in ``wandb_id.txt``, so that the run is the same one after it was resumed.

    Args:
        run: the run's folder.
        folder: of what is at work: the run's, or one in it, with whose name its figures' names begin.
        mode: ``online``, ``offline`` or ``disabled``; without a login ``online`` becomes ``offline``, and
            says so.
        name: the run's; None: the folder's last two parts.
        options: see :class:`pytorch_lightning.loggers.WandbLogger` and ``wandb.init``.

    Raises:
        UserError: there is no such mode, or the login is not one.
    """

    LOGGER_JOIN_CHAR = "/"

    def __init__(
        self,
        run: str | Path,
        folder: str | Path,
        mode: Mode = "online",
        name: str | None = None,
        **options: Any,
    ) -> None:
        if mode not in get_args(Mode):
            raise UserError(f"logger.wandb.mode: {mode!r} is none of {', '.join(get_args(Mode))}")
        run, folder = Path(run).resolve(), Path(folder).resolve()
        if is_first_process():
            options |= self._identity(run, mode, options.get("settings") or {})
        prefix = "" if folder == run else folder.name
        super().__init__(name=name or "/".join(run.parts[-2:]), save_dir=run, prefix=prefix, **options)
        self._wandb_init.pop("anonymous")  # no longer known to wandb

    @staticmethod
    def _identity(folder: Path, mode: Mode, settings: dict[str, Any]) -> dict[str, Any]:
        """What makes it the W&B run of this folder."""
        import wandb

        if wandb.run is not None:
            return {"experiment": wandb.run}
        if mode == "online":
            try:
                known = wandb.login(prompt=False, verify=False)
            except wandb.errors.AuthenticationError as error:
                raise UserError(f"W&B: {error}; or logger.wandb.mode=offline") from error
            if not known:
                mode, settings = "offline", {**settings, "silent": True}  # a line is enough
                print(
                    "W&B: not logged in (`wandb login` does that), so this run is logged offline; upload it "
                    f"with `wandb sync {folder}/wandb/offline-run-*`",
                    file=sys.stderr,
                )
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / "wandb_id.txt"
        if not note.exists():  # an agent of a W&B sweep has chosen the id
            note.write_text((os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)) + "\n")
        resume = "allow" if mode == "online" else None  # offline, a part with the same id begins
        return {"id": note.read_text().strip(), "mode": mode, "resume": resume, "settings": settings}


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Close the W&B run that was begun in here, as failed if there was an error."""
    try:
        yield
    except BaseException:
        _finish(1)
        raise
    _finish(0)


def _finish(status: int) -> None:
    if "wandb" in sys.modules:
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=status)


def git_revision() -> str | None:
    """The commit that ivos is run from, with ``-dirty`` if files differ; None outside a repository."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or none that trusts this folder
        return None


@rank_zero_only
def log_configuration(loggers: Iterable[lightning.Logger], configuration: Mapping[str, Any]) -> None:
    """Log the composed configuration and the git revision."""
    logged = {**configuration, "git": git_revision() or "unknown"}
    for logger in loggers:
        logger.log_hyperparams(logged)


@rank_zero_only
def log_picture(
    loggers: Iterable[lightning.Logger], name: str, picture: NDArray[np.uint8], step: int | None = None
) -> None:
    """Log a picture, RGB uint8 [h, w, 3]."""
    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            logger.log_image(name, [picture], step)
        elif isinstance(logger, lightning.TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")
        elif isinstance(logger, lightning.CSVLogger):
            number = "" if step is None else f"_{step:06d}"
            path = Path(logger.log_dir, "pictures", f"{name.replace('/', '_')}{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


@rank_zero_only
def log_table(loggers: Iterable[lightning.Logger], name: str, table: pd.DataFrame) -> None:
    """Log a table, its index as the first column."""
    table = table.reset_index()
    columns = [str(column) for column in table.columns]
    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            logger.log_table(name, columns, table.to_numpy(object).tolist())
        elif isinstance(logger, lightning.TensorBoardLogger):
            rows: list[list[Any]] = [columns, ["---"] * len(columns)]
            rows += table.round(4).to_numpy(object).tolist()
            logger.experiment.add_text(name, "\n".join("|".join(map(str, row)) for row in rows))


@rank_zero_only
def log_video(loggers: Iterable[lightning.Logger], name: str, path: Path) -> None:
    """Log a WebM file."""
    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            logger.log_video(name, [str(path)], format=["webm"])


@rank_zero_only
def log_files(loggers: Iterable[lightning.Logger], name: str, kind: str, paths: Sequence[Path]) -> None:
    """Log files as a W&B artifact, called after the run."""
    for logger in loggers:
        if isinstance(logger, lightning.WandbLogger):
            import wandb

            artifact = wandb.Artifact(f"{name}-{logger.experiment.id}", type=kind)
            for path in paths:
                artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
