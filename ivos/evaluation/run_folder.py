"""The folder of a run, with a report for each sample, which allows several processes and resuming.

::

    FOLDER/session.json          the settings with which the run was started
    FOLDER/samples/bear-001.csv  the rounds of a sample, with the official columns; .tmp.csv until complete
    FOLDER/report.csv, ...       files that are computed from the samples at the end
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from ivos.evaluation.report import COLUMNS
from ivos.runtime.errors import UserError
from ivos.runtime.files import clear, read_json, write_text
from ivos.runtime.renamed_options import present_name
from ivos.session import Metric, Sample, SessionSettings, all_samples
from ivos.video.video import Video

_SHOWN = 5


class RunFolder:
    """The reports of a session's samples on disk.

    Args:
        folder: Folder of the run.
        videos: The sequences.
        rounds: Number of rounds of every sample; None if samples may have fewer.
    """

    def __init__(self, folder: Path, videos: Sequence[Video], rounds: int | None = None) -> None:
        self.folder, self.parts, self.rounds = folder, folder / "samples", rounds
        self.all = all_samples(videos)

    def open(self, provenance: Mapping[str, Any]) -> None:
        """Write the settings of a new run, or compare them with those of the run to be resumed.

        Args:
            provenance: Everything that the results depend on, as JSON values by option name.

        Raises:
            UserError: The run in the folder was started with other settings.
        """
        path, now = self.folder / "session.json", json.loads(json.dumps(dict(provenance)))
        if not path.exists():
            self.parts.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(now, indent=2) + "\n")
            return
        try:
            before = read_json(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: unreadable ({error}); the run cannot be resumed") from error
        if not isinstance(before, dict):
            raise UserError(f"{path}: contains no settings; the run cannot be resumed")
        before = {name if name in now else present_name(name): value for name, value in before.items()}
        different = [
            f"{name}: {_shown(before.get(name))} there, {_shown(now.get(name))} now"
            for name in before | now
            if before.get(name) != now.get(name)
        ]
        if different:
            raise UserError(f"{self.folder} was started with other settings; {'; '.join(different[:_SHOWN])}")

    def clear(self) -> None:
        """Remove incomplete files of killed processes; no other process may be using the folder."""
        clear(self.folder)
        clear(self.parts)

    def is_complete(self, sample: Sample) -> bool:
        """Return whether all rounds of a sample are on disk; the temporary file is removed last."""
        return self._file(sample).exists() and not self._file(sample, ".tmp").exists()

    def note(self, sample: Sample, report: pd.DataFrame) -> None:
        """Write the rounds of an incomplete sample, with the official columns."""
        write_text(self._file(sample, ".tmp"), report.to_csv())

    def complete(self, sample: Sample, report: pd.DataFrame) -> None:
        """Write all rounds of a sample and mark it as complete."""
        write_text(self._file(sample), report.to_csv())
        self._file(sample, ".tmp").unlink()

    def remaining(self) -> list[Sample]:
        """Return the samples that are not complete, in order."""
        return [sample for sample in self.all if not self.is_complete(sample)]

    def share(self, rank: int, processes: int) -> list[Sample]:
        """Return the samples of a process, in order; all processes must call this before the first starts."""
        remaining = self.remaining()
        shares = share_out([sample.cost for sample in remaining], processes)
        return [remaining[index] for index in shares[rank]]

    def report(self) -> pd.DataFrame:
        """Return the official report of all samples, in order.

        Raises:
            UserError: A sample is missing.
        """
        missing = [sample.title for sample in self.remaining()]
        if missing:
            more = ", ..." if len(missing) > _SHOWN else ""
            raise UserError(
                f"{self.folder}: {len(missing)} of {len(self.all)} samples are missing: "
                f"{', '.join(missing[:_SHOWN])}{more}; go on with resume=true and the same hydra.run.dir for "
                "all processes"
            )
        reports = [self._read(sample) for sample in self.all]
        reached = [report for report in reports if len(report)] or reports[:1]  # empty reports have no types
        return pd.concat(reached, ignore_index=True)

    def _read(self, sample: Sample) -> pd.DataFrame:
        path = self._file(sample)
        text = {"sequence": str, "session_id": str}
        try:
            report = pd.read_csv(
                path, index_col=0, dtype=text, keep_default_na=False, float_precision="round_trip"
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: unreadable ({reason}); remove it and go on with resume=true") from error
        content = path.read_bytes()
        if not content.endswith(b"\n") or b"\0" in content:  # numbers could be cut off
            raise UserError(f"{path}: damaged (cut or zeroed); remove it and go on with resume=true")
        if fault := sample_fault(report, sample, self.rounds):
            raise UserError(f"{path}: damaged ({fault}); remove it and go on with resume=true")
        return report

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder atomically."""
        write_text(self.folder / name, text)

    def _file(self, sample: Sample, kind: str = "") -> Path:
        return self.parts / f"{sample.name}{kind}.csv"


def sample_fault(report: pd.DataFrame, sample: Sample, rounds: int | None) -> str:
    """Return a description of the damage of a sample's report, or an empty string if it is valid.

    Args:
        report: The report as it was read.
        sample: The expected sample.
        rounds: Expected number of rounds; None accepts any number.
    """
    if tuple(report.columns) != COLUMNS:
        return "other columns"
    if not len(report):
        return f"no round of {rounds}" if rounds and sample.video.known.any() else ""
    numbers = report[["interaction", "object_id", "frame", "timing", "jaccard", "contour", "j_and_f"]]
    if any(kind.kind not in "iuf" for kind in numbers.dtypes):
        return "values that are not numbers"
    values = numbers.to_numpy(float)
    if not (np.isfinite(values) & (values >= 0)).all() or (values[:, 4:] > 1).any():
        return "values out of range"
    if report.index.tolist() != list(range(len(report))) or report["session_id"].nunique() != 1:
        return "rows out of order"
    if set(report["sequence"]) != {sample.video.name} or set(report["scribble_idx"]) != {sample.scribble}:
        return f"not of {sample.title}"
    there = rounds or int(report["interaction"].max())
    known = np.argwhere(sample.video.known)  # in the order in which they are written
    expected = np.concatenate(
        [np.column_stack([np.full(len(known), number), known]) for number in range(1, there + 1)]
    )
    found = report[["interaction", "frame", "object_id"]].to_numpy() - (0, 0, 1)
    if found.shape != expected.shape or (found != expected).any():
        return f"{len(found)} rows, not the {len(expected)} of {there} rounds"
    return ""


def report_folders(folder: str | Path, settings: SessionSettings, resume: bool = False) -> dict[Metric, Path]:
    """Return the folder of each metric's report.

    Raises:
        UserError: The folder contains a finished or unfinished run and ``resume`` is False, or the run was
            started with one metric and is to be resumed with several, or vice versa.
    """
    several = len(settings.metrics) > 1
    folders = {metric: Path(folder, metric) if several else Path(folder) for metric in settings.metrics}
    elsewhere = [Path(folder)] if several else [Path(folder, metric) for metric in get_args(Metric)]
    for place in folders.values():
        if (place / "report.csv").exists() and not resume:
            raise UserError(
                f"{place} already contains a report.csv; choose another folder with hydra.run.dir=..."
            )
        if (place / "session.json").exists() and not resume:
            raise UserError(
                f"{place} contains an unfinished run; go on with resume=true, or choose another folder with "
                "hydra.run.dir=..."
            )
    if resume and any((place / "session.json").exists() for place in elsewhere):
        before = "one metric" if several else "several metrics"
        raise UserError(
            f"{folder}: the run was started with {before} (session.metric); resume it with the same settings"
        )
    return folders


def share_out(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Distribute items among processes: the most expensive first, each to the process with the least cost.

    Args:
        costs: Cost of each item.
        processes: Number of processes.

    Returns:
        The indices of each process's items, in ascending order.

    >>> share_out([1, 5, 2, 2, 1], 2)
    [[1, 4], [0, 2, 3]]
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    load = np.zeros(processes)
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        least = int(load.argmin())
        shares[least].append(index)
        load[least] += costs[index]
    return [sorted(share) for share in shares]


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
