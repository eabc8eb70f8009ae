"""Lightning's CSV and W&B loggers, extended for resumed runs and for runs of several parts."""

import csv
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pytorch_lightning import loggers as lightning
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ivos.runtime.command_line import is_first_process
from ivos.runtime.errors import UserError
from ivos.runtime.files import named, replacing, write_text
from ivos.runtime.options import MAPPING, NULL, TEXT, Rule, TextOrNull

Mode = Literal["online", "offline", "disabled"]
_TEXTS = Rule(lambda v: isinstance(v, list) and all(map(TEXT.holds, v)), "a list of texts")


class CSVLogger(lightning.CSVLogger):
    """Lightning's CSV logger, except that a resumed run continues an existing ``metrics.csv``.

    Lightning's own logger deletes the file. Rows of steps after the checkpoint, which the resumed run
    repeats, are replaced.

    Args:
        save_dir: Folder of ``metrics.csv``.
        name: Subfolder of `save_dir` for the file; none by default.
        version: Subfolder of the folder `name` for the file; none by default.
        flush_logs_every_n_steps: Number of rows between two writes of the file.
        options: Further arguments of :class:`pytorch_lightning.loggers.CSVLogger`.
    """

    def __init__(
        self,
        save_dir: str | Path,
        name: str = "",
        version: str = "",
        flush_logs_every_n_steps: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(
            save_dir, name, version, flush_logs_every_n_steps=flush_logs_every_n_steps, **options
        )

    _rows_dropped = False  # whether the rows that a resumed run repeats were removed

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The object that writes the file."""
        if self._experiment is None:
            self._experiment = _ContinuingWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        """Log the metrics of a step as one row."""
        if not self._rows_dropped:
            self.experiment.drop_from(step or 0)
            self._rows_dropped = True
        super().log_metrics(dict(metrics), step)


class _ContinuingWriter(ExperimentWriter):
    """Writer of ``metrics.csv`` that appends to an existing file."""

    def _check_log_dir_exists(self) -> None:
        """Do nothing, where Lightning's method deletes an existing file and has no option to keep it."""

    def save(self) -> None:
        """Write the rows that were logged since the last call."""
        try:
            with named(self.metrics_file_path):
                super().save()
        finally:
            self.metrics = []  # after a failure, too, because some of the rows may have been written

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Replace the file atomically by one with more columns.

        Lightning's method empties the file first, so that a kill or a full disk would lose all rows.
        """
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        _write_rows(path, fieldnames, rows)

    def drop_from(self, step: int) -> None:
        """Remove the rows from a step on, and a last line that a killed writer left incomplete."""
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
        whole = text[: text.rfind("\n") + 1]
        rows = csv.DictReader(whole.splitlines())
        if whole and "step" not in (rows.fieldnames or []):
            raise UserError(f"{path}: no column 'step', so the run cannot go on with it; move it away")
        kept = [row for row in rows if (row["step"] or "").isdecimal() and int(row["step"]) < step]
        kept = [row for row in kept if None not in row]  # DictReader's key for surplus fields of a line
        if not kept:
            path.unlink()
            return
        self.metrics_keys = list(kept[0])
        _write_rows(path, self.metrics_keys, kept)


def _write_rows(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


class WandbLogger(lightning.WandbLogger):
    """Lightning's W&B logger, with one W&B run for all parts of a training run.

    Each stage of a training run, and its session, creates a logger; all of them log to the same W&B run, in
    which the metrics of a stage have names like ``anet/val/J``. The id of the W&B run is kept in
    ``wandb_id.txt``, so that a resumed run continues it.

    Args:
        run: Folder of the run.
        folder: Folder of the current part: either `run`, or a subfolder whose name is the prefix of the names
            of the part's metrics.
        mode: ``online``, ``offline`` or ``disabled``. Without a login, ``online`` is changed to ``offline``,
            and a line reports it.
        name: Name of the W&B run; None for the last two parts of the path of `run`.
        project: Project of the W&B run; None for the project in the environment.
        entity: User or team of the W&B run; None for the default of the login.
        group: Group of the W&B run.
        tags: Tags of the W&B run.
        settings: Arguments of ``wandb.Settings``.
        options: Further arguments of :class:`pytorch_lightning.loggers.WandbLogger` and ``wandb.init``.

    Raises:
        UserError: The mode is unknown, the login is invalid, ``wandb_id.txt`` does not contain an id, or a
            folder that W&B writes to is not writable.
    """

    LOGGER_JOIN_CHAR = "/"

    def __init__(
        self,
        run: str | Path,
        folder: str | Path,
        mode: Mode = "online",
        name: TextOrNull = None,
        project: TextOrNull = None,
        entity: TextOrNull = None,
        group: TextOrNull = None,
        tags: Annotated[list[str] | None, NULL | _TEXTS] = None,
        settings: Annotated[dict[str, Any] | None, NULL | MAPPING] = None,
        **options: Any,
    ) -> None:
        if mode not in get_args(Mode):
            raise UserError(f"logger.wandb.mode: {mode!r} is not one of {', '.join(get_args(Mode))}")
        run, folder = Path(run).resolve(), Path(folder).resolve()
        options |= {"project": project, "entity": entity, "group": group, "tags": tags, "settings": settings}
        if is_first_process():
            options |= self._identity(run, mode, settings or {})
        prefix = "" if folder == run else folder.name
        super().__init__(name=name or "/".join(run.parts[-2:]), save_dir=run, prefix=prefix, **options)
        # Lightning always passes this option to wandb, which no longer uses it and prints a warning.
        self._wandb_init.pop("anonymous", None)

    @staticmethod
    def _identity(folder: Path, mode: Mode, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings that identify the W&B run of this folder."""
        import wandb

        try:
            wandb.Settings(**settings)
        except (ValueError, TypeError) as error:
            raise UserError(f"logger.wandb.settings: {' '.join(str(error).split())}") from error
        if wandb.run is not None:
            return {"experiment": wandb.run}
        if mode == "online":
            try:
                known = wandb.login(prompt=False, verify=False)
            except wandb.errors.AuthenticationError as error:
                raise UserError(f"W&B: {error}; or logger.wandb.mode=offline") from error
            if not known:
                mode, settings = "offline", {**settings, "silent": True}  # the line below is enough
                print(
                    "W&B: not logged in (`wandb login` does that), so this run is logged offline; upload it "
                    f"with `wandb sync {folder}/wandb/offline-run-*`",
                    file=sys.stderr,
                )
        if mode != "disabled":
            for written in (folder / "wandb", wandb.env.get_data_dir(), wandb.env.get_cache_dir()):
                _check_writable(Path(written))
        folder.mkdir(parents=True, exist_ok=True)
        resume = "allow" if mode == "online" else None  # offline, a resumed run adds a part with the same id
        return {"id": _id_of(folder), "mode": mode, "resume": resume, "settings": settings}


def _id_of(folder: Path) -> str:
    """Return the id of the folder's W&B run, which is created and saved at the first call."""
    note = folder / "wandb_id.txt"
    if not note.exists():  # WANDB_RUN_ID is set by the agent of a W&B sweep
        write_text(note, (os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)) + "\n")
    try:
        identity = note.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        identity = ""
    if not re.fullmatch(r"[^\s/\\#?%:]{1,128}", identity):
        raise UserError(
            f"{note}: not the id of a W&B run; write it there (the run's address ends in it), or delete the "
            "file to begin another run"
        )
    return identity


def _check_writable(folder: Path) -> None:
    """Check that W&B can write to a folder, before the run starts.

    W&B writes to some of its folders only at the end of a run, when an error would come too late.

    Raises:
        UserError: The folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"W&B: {folder} cannot be written ({error.strerror}); set WANDB_DATA_DIR and WANDB_CACHE_DIR to "
            "folders that can be, or leave wandb out of logger="
        ) from error
