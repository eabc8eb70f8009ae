"""A run's folder while it is at work: a report for each sample, so that it can be shared out and resumed.

::

    FOLDER/session.json          the settings it was begun with
    FOLDER/samples/bear-001.csv  the rounds of a sample, in the official columns; .tmp.csv until complete
    FOLDER/report.csv, ...       written from these at the end
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ivos.errors import UserError
from ivos.evaluation.session import Sample, Video, all_samples

_SHOWN = 5


class RunFolder:
    """The samples of a session on disk.

    Args:
        folder: the run's folder.
        videos: the sequences.
    """

    def __init__(self, folder: Path, videos: Sequence[Video]) -> None:
        self.folder, self.parts = folder, folder / "samples"
        self.all = all_samples(videos)
        self._cost = {video.name: float(video.num_frames * video.num_objects) for video in videos}

    def open(self, facts: Mapping[str, Any]) -> None:
        """Note the settings of a new run, or compare them with those of the run to be resumed.

        Args:
            facts: everything that the numbers depend on, by the option's name; JSON values.

        Raises:
            UserError: the folder was begun with other settings.
        """
        path, now = self.folder / "session.json", json.loads(json.dumps(dict(facts)))
        if not path.exists():
            self.parts.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(now, indent=2) + "\n")
            return
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: unreadable ({error}); the run cannot be resumed") from error
        different = [
            f"{name}: {_shown(before.get(name))} there, {_shown(now.get(name))} now"
            for name in before | now
            if before.get(name) != now.get(name)
        ]
        if different:
            raise UserError(f"{self.folder} was begun with other settings; {'; '.join(different[:_SHOWN])}")

    def name(self, sample: Sample) -> str:
        """What the files of a sample are called."""
        return f"{sample[0]}-{sample[1]:03d}"

    def is_complete(self, sample: Sample) -> bool:
        """Whether all rounds of a sample are on disk: the final file is whole when the other is gone."""
        name = self.name(sample)
        return (self.parts / f"{name}.csv").exists() and not (self.parts / f"{name}.tmp.csv").exists()

    def remaining(self) -> list[Sample]:
        """The samples that are still to be done, in order."""
        return [sample for sample in self.all if not self.is_complete(sample)]

    def share(self, rank: int, processes: int) -> list[Sample]:
        """The samples that a process has to do, in order; the same for everyone who asks at the start."""
        remaining = self.remaining()
        shares = share_out([self._cost[name] for name, _ in remaining], processes)
        return [remaining[index] for index in shares[rank]]

    def report(self) -> pd.DataFrame:
        """The official report of all samples, in order.

        Raises:
            UserError: a sample is missing.
        """
        missing = [f"{name} ({scribble})" for name, scribble in self.remaining()]
        if missing:
            more = ", ..." if len(missing) > _SHOWN else ""
            raise UserError(
                f"{self.folder}: {len(missing)} of {len(self.all)} samples are missing: "
                f"{', '.join(missing[:_SHOWN])}{more}; go on with resume=true and the same hydra.run.dir for "
                "all processes"
            )
        reports = [self._read(sample) for sample in self.all]
        reached = [report for report in reports if len(report)] or reports[:1]  # else their types would count
        return pd.concat(reached, ignore_index=True)

    def _read(self, sample: Sample) -> pd.DataFrame:
        path = self.parts / f"{self.name(sample)}.csv"
        text = {"sequence": str, "session_id": str}
        try:
            return pd.read_csv(
                path, index_col=0, dtype=text, keep_default_na=False, float_precision="round_trip"
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: unreadable ({error}); remove it and go on with resume=true") from error

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder so that it is there either whole or not at all."""
        _write(self.folder / name, text)


def share_out(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Longest first: each item goes to the process with least to do so far (of equals, the first).

    Args:
        costs: of the items.
        processes: how many.

    Returns:
        the indices of each process' items, ascending.

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


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
