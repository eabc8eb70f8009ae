"""What Lightning's loggers lack: a CSV file that a resumed run goes on with, one W&B run for all parts."""

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
    """Lightning's, but a resumed run goes on with the ``metrics.csv`` it finds, where Lightning deletes it.

    Rows of steps that the resumed run does again, because they came after its checkpoint, are replaced.

    Args:
        save_dir: the folder of ``metrics.csv``.
        name: a folder in it; none by default.
        version: a folder in that; none by default.
        flush_logs_every_n_steps: rows between two writes.
        options: see :class:`pytorch_lightning.loggers.CSVLogger`.
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
        """Lightning deletes the file here, and has no option that says otherwise."""

    def save(self) -> None:
        """Write what was logged."""
        try:
            with named(self.metrics_file_path):
                super().save()
        finally:
            self.metrics = []  # after a failure, too: there may be a part of it

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Lightning's empties the file first: a kill or a full disk would cost the rows so far."""
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        _write_rows(path, fieldnames, rows)

    def drop_from(self, step: int) -> None:
        """Keep the rows before a step; a last line that was cut off by a kill goes, too."""
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
        whole = text[: text.rfind("\n") + 1]
        rows = csv.DictReader(whole.splitlines())
        if whole and "step" not in (rows.fieldnames or []):
            raise UserError(f"{path}: no column 'step', so the run cannot go on with it; move it away")
        kept = [row for row in rows if (row["step"] or "").isdecimal() and int(row["step"]) < step]
        kept = [row for row in kept if None not in row]  # a key of what is too much in a line
        if not kept:
            path.unlink()
            return
        self.metrics_keys = list(kept[0])
        _write_rows(path, self.metrics_keys, kept)


def _write_rows(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


class WandbLogger(lightning.WandbLogger):
    """Lightning's, with names like ``anet/val/J`` for the metrics of a stage.

    Of a training run's stages and its session each makes a logger; all of them log to one W&B run. Its id is
    kept in ``wandb_id.txt``, so that the run is the same one after it was resumed.

    Args:
        run: the run's folder.
        folder: of what is at work: the run's, or one in it, with whose name its metrics' names begin.
        mode: ``online``, ``offline`` or ``disabled``; without a login ``online`` becomes ``offline``, and
            says so.
        name: the run's; None: the folder's last two parts.
        project: the project that the run belongs to; None: that of the environment.
        entity: the user or team; None: that of the login.
        group: the group of runs that the run belongs to.
        tags: labels of the run.
        settings: see ``wandb.Settings``.
        options: see :class:`pytorch_lightning.loggers.WandbLogger` and ``wandb.init``.

    Raises:
        UserError: there is no such mode, the login is not one, ``wandb_id.txt`` holds no id, or a folder that
            W&B writes to cannot be written.
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
            raise UserError(f"logger.wandb.mode: {mode!r} is none of {', '.join(get_args(Mode))}")
        run, folder = Path(run).resolve(), Path(folder).resolve()
        options |= {"project": project, "entity": entity, "group": group, "tags": tags, "settings": settings}
        if is_first_process():
            options |= self._identity(run, mode, settings or {})
        prefix = "" if folder == run else folder.name
        super().__init__(name=name or "/".join(run.parts[-2:]), save_dir=run, prefix=prefix, **options)
        # Lightning always hands this on, and wandb warns of it: it has no effect any more.
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
                mode, settings = "offline", {**settings, "silent": True}  # a line is enough
                print(
                    "W&B: not logged in (`wandb login` does that), so this run is logged offline; upload it "
                    f"with `wandb sync {folder}/wandb/offline-run-*`",
                    file=sys.stderr,
                )
        if mode != "disabled":
            for place in (folder / "wandb", wandb.env.get_data_dir(), wandb.env.get_cache_dir()):
                _check_writable(Path(place))
        folder.mkdir(parents=True, exist_ok=True)
        resume = "allow" if mode == "online" else None  # offline, a part with the same id begins
        return {"id": _id_of(folder), "mode": mode, "resume": resume, "settings": settings}


def _id_of(folder: Path) -> str:
    """Return the id of the folder's W&B run, which is created and saved at the first call."""
    note = folder / "wandb_id.txt"
    if not note.exists():  # an agent of a W&B sweep has chosen the id
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
    """W&B writes to its folders at the end, too, when it would be late to find out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"W&B: {folder} cannot be written ({error.strerror}); set WANDB_DATA_DIR and WANDB_CACHE_DIR to "
            "folders that can be, or leave wandb out of logger="
        ) from error
