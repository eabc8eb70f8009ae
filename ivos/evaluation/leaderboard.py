"""Compare runs of evaluate.py in one table: ``python -m ivos.evaluation.leaderboard RUN... --output FOLDER``.

A run is a folder with ``summary.json``, ``session.json`` and ``report.csv``. The table is printed.
``--output`` names a folder for ``leaderboard.csv`` with all columns, and ``leaderboard.md``, ``.tex`` and
``.html`` with the chosen columns. The HTML page is self-contained; it also shows the curves and the worst
frames of runs with saved overlays.

``--external FILE.csv`` adds published results: a row for each system with the columns ``name``, ``source``
and any of ``protocol``, ``metric``, ``AUC``, ``R-AUC``, ``@60s``, ``round 1``, ...
"""

import argparse
import csv
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ivos.evaluation.leaderboard_formats import as_csv, as_html, as_latex, as_markdown
from ivos.runtime.errors import UserError
from ivos.runtime.files import read_json, write_text

_METRICS = ("J", "F", "J_AND_F")
_COMPACT_ROUNDS = (1, 4, 8)
_LEADING = ("run", "segmenter", "network", "protocol", "metric", "AUC", "R-AUC")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Folder of the run.
        summary: Content of ``summary.json``, extended by ``protocol.json``.
        options: Content of ``session.json``, which has everything that the results depend on.
        checkpoint: Name of the checkpoint on the command line; the hash of its content is in the options.
        name: Name of the run in the table; see :func:`distinct_names`.
    """

    folder: Path
    summary: Mapping[str, Any]
    options: Mapping[str, Any]
    checkpoint: str = ""
    name: str = ""

    @classmethod
    def read(cls, folder: Path, name: str = "") -> "Run":
        """Read the files of a run.

        Args:
            folder: Folder of the run.
            name: Name of the run in the table; by default that of the folder.

        Raises:
            UserError: A file is missing or unreadable.
        """
        summary, options = _read(folder, "summary.json"), _read(folder, "session.json")
        if (folder / "protocol.json").exists():
            summary |= _read(folder, "protocol.json")
        text = folder / ".hydra/config.yaml"
        composed = re.search(  # Hydra writes the option on its own line
            r"^checkpoint: (.*)$", text.read_text(encoding="utf-8") if text.is_file() else "", re.MULTILINE
        )
        checkpoint = Path(composed[1].strip("'\"")).name if composed else ""
        if "masks" in summary:
            raise UserError(f"{folder}: has no scores, only masks for a server ({folder / summary['masks']})")
        if not {"auc", "curve", "metric_at_threshold"} <= set(summary):
            raise UserError(f"{folder / 'summary.json'}: not a session's summary")
        return cls(folder, summary, options, checkpoint, name or folder.name)

    @property
    def metric(self) -> str:
        """The metric of the run: J, F or J_AND_F."""
        return next(name for name in _METRICS if name in self.summary["curve"])

    @property
    def rounds(self) -> list[float]:
        """The metric after each round."""
        return [float(value) for value in self.summary["curve"][self.metric][1:-1]]

    @property
    def seconds(self) -> list[float]:
        """The seconds of each round, averaged over the samples."""
        time = self.summary["curve"]["time"][:-1]
        return [float(b - a) for a, b in pairwise(time)]

    @property
    def segmenter(self) -> str:
        """The segmenter's option value (such as ``flow``), or the name of its class."""
        name = str(self.options.get("segmenter._target_", "?")).rsplit(".", 1)[-1]
        chosen = name.removesuffix("_segmenter").removesuffix("Segmenter")
        return name if chosen == name else chosen.lower()

    @property
    def network(self) -> str:
        """The name of the weights; empty for a segmenter without weights."""
        if named := self.options.get("segmenter.checkpoint"):
            return str(named)
        if "model._target_" in self.options:
            return "untrained"
        return self.checkpoint if self.options.get("checkpoint") else ""

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return str(self.summary.get("protocol", "davis"))

    @property
    def machine(self) -> str:
        """The description of the machine; empty if unknown."""
        return str(self.summary.get("machine", ""))

    def row(self) -> dict[str, str]:
        """Return all cells of the run's row, by column name."""
        at = self.summary["metric_at_threshold"]
        found = {
            "run": self.name,
            "segmenter": self.segmenter,
            "network": self.network,
            "protocol": self.protocol,
            "metric": self.metric.replace("_AND_", "&"),
            "AUC": f"{self.summary['auc']:.3f}",
            "R-AUC": f"{self.summary['r_auc']:.3f}" if "r_auc" in self.summary else "",
            f"@{at['threshold']:g}s": f"{at[self.metric]:.3f}",
        }
        for column, name in (("VOS J&F", "j_and_f"), ("VOS J", "j"), ("VOS F", "f")):
            if f"semi_supervised_{name}" in self.summary:
                found[column] = f"{self.summary[f'semi_supervised_{name}']:.3f}"
        if "calibration_error" in self.summary:
            found["calibration"] = f"{self.summary['calibration_error']:.3f}"
        found |= {f"round {n}": f"{value:.3f}" for n, value in enumerate(self.rounds, 1)}
        found["seconds"] = f"{sum(self.seconds) / len(self.seconds):.3g}"
        found |= {f"s {n}": f"{value:.2f}" for n, value in enumerate(self.seconds, 1)}
        checkpoint = self.options.get("checkpoint")
        weights = str(checkpoint).removeprefix("sha256 ")[:12] if checkpoint else ""
        found |= {"weights": weights, "seed": str(self.options.get("session.seed", ""))}
        return found | {"machine": self.machine}


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Return the names of folders, each after as many parents as are needed to tell all folders apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = [Path(*each[-length:]).as_posix() for each in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def _read(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of a run, which must contain an object."""
    try:
        found = read_json(folder / name)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no {name}; is it the folder of a finished run?") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / name}: unreadable ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{folder / name}: contains a {type(found).__name__}, not an object of a run")
    return found


_COMPARED = {  # by prefix of an option's name: the reason that is shown for a difference
    "protocol": "another protocol",
    "session.metric": "another metric",
    "session.max_interactions": "another number of rounds",
    "session.max_time": "another time-out",
    "session.time_threshold": "another threshold",
    "session.seed": "another seed",
    "session.robot": "another robot",
    "data.": "other data",
}


def differences(first: Run, other: Run) -> list[str]:
    """Return the reasons why the results of a run are not comparable with those of the first run."""
    if first.protocol != other.protocol:
        return [f"another protocol ({other.protocol}, not {first.protocol})"]
    found: list[str] = []
    for name in sorted(set(first.options) | set(other.options)):
        if name == "data.root" or first.options.get(name) == other.options.get(name):
            continue
        reason = next((words for start, words in _COMPARED.items() if name.startswith(start)), None)
        if reason and reason not in found:
            found.append(reason)
    if first.machine != other.machine:
        found.append("another machine (affects AUC, @s and seconds)")
    return found


def ordered(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Sort the runs by protocol and AUC, and return each with the reasons why it is not comparable.

    Each run is compared with the first run of its protocol. Runs that are not comparable are last within
    their protocol.
    """
    firsts = {run.protocol: run for run in reversed(runs)}
    protocols = list(dict.fromkeys(run.protocol for run in runs))
    found: list[tuple[tuple[int, bool, float], int, Run, str]] = []
    for run in runs:
        reasons = differences(firsts[run.protocol], run)
        place = protocols.index(run.protocol), bool(reasons), -float(run.summary["auc"])
        if run.protocol != runs[0].protocol:
            reasons = differences(runs[0], run) + reasons
        found.append((place, len(found), run, "; ".join(reasons)))
    return [(run, reasons) for *_, run, reasons in sorted(found, key=lambda each: each[:2])]


def external_rows(path: Path) -> list[dict[str, str]]:
    """Read published results from a CSV file.

    Raises:
        UserError: The file is unreadable, lacks ``name`` or ``source``, or has an unknown column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [dict(row) for row in reader]
            names = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: unreadable ({error})") from error
    if lacking := [name for name in ("name", "source") if name not in names]:
        raise UserError(f"{path}: has no column {' and '.join(lacking)}")
    allowed = {*_LEADING, "name", "source", "seconds", "weights", "machine", "VOS J&F", "VOS J", "VOS F"}
    for name in names:
        if name not in allowed and not re.fullmatch(r"@[\d.]+s|round \d+|s \d+", str(name)):
            raise UserError(f"{path}: {name!r} is not a column of the leaderboard")
    found = []
    for number, row in enumerate(rows, start=2):
        if None in row or not (row["name"] or "").strip() or not (row["source"] or "").strip():
            raise UserError(f"{path}, line {number}: needs a name, a source and as many cells as columns")
        cells = {name: re.sub(r"^\.(?=\d)", "0.", row[name] or "") for name in names if name != "name"}
        found.append({"run": row["name"], **cells})
    return found


def table(
    runs: Sequence[Run], external: Sequence[Mapping[str, str]] = ()
) -> tuple[list[str], list[dict[str, str]]]:
    """Return all columns and rows by :func:`ordered`; external rows are last in their protocol."""
    rows = [{**run.row(), "not comparable": reasons} for run, reasons in ordered(runs)]
    for given in external:
        row = {"protocol": rows[0]["protocol"], **given, "not comparable": "published"}
        same = [at for at, other in enumerate(rows) if other["protocol"] == row["protocol"]]
        rows.insert(same[-1] + 1 if same else len(rows), row)
    columns: list[str] = []
    for row in rows:
        columns += [name for name in row if name not in columns]
    order = [name for name in columns if not re.match(r"(round|s) \d+$|seconds$", name)]
    at = order.index("weights")
    for kind in ("round ", "seconds", "s "):
        there = [name for name in columns if name.startswith(kind)]
        numbered = sorted(there, key=lambda name: int(name.split()[-1]) if " " in name else 0)
        order[at:at] = numbered
        at += len(numbered)
    order = [name for name in order if name not in ("source", "not comparable")]
    order += [name for name in ("source", "not comparable") if name in columns]
    return order, [{name: row.get(name, "") for name in order} for row in rows]


def compact(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the default columns: the measures, rounds 1, 4 and 8, seconds and weights."""
    rounds = sorted(int(name.split()[1]) for name in columns if name.startswith("round "))
    chosen = {number for number in _COMPACT_ROUNDS if number in rounds} | {min(rounds[-1], 8)}
    names = ["run", "segmenter", "network", "protocol", "metric", "AUC", "R-AUC"]
    names += [name for name in columns if name.startswith(("@", "VOS J&F", "calibration"))]
    names += [f"round {number}" for number in sorted(chosen)]
    names += ["seconds", "weights", "source"]
    varies = ("protocol", "metric")  # columns that are hidden if all rows have the same value
    return [
        name
        for name in names
        if name in columns
        and any(row[name] for row in rows)
        and not (name in varies and len({row[name] for row in rows}) == 1)
    ]


def choose(columns: Sequence[str], wanted: str) -> list[str]:
    """Return the columns in a comma-separated list, or all columns for ``all``.

    Raises:
        UserError: A column does not exist.
    """
    if wanted == "all":
        return [name for name in columns if name != "not comparable"]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if unknown := [name for name in names if name not in columns]:
        raise UserError(f"--columns: no column {', '.join(unknown)}; there are: {', '.join(columns)}")
    return list(dict.fromkeys(["run", *names]))


def _write(
    folder: Path,
    runs: Sequence[Run],
    columns: Sequence[str],
    shown: Sequence[str],
    rows: Sequence[Mapping[str, str]],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "leaderboard.csv", as_csv(columns, rows))
    write_text(folder / "leaderboard.md", as_markdown(shown, rows))
    write_text(folder / "leaderboard.tex", as_latex(shown, rows))
    in_order = [run for run, _ in ordered(runs)]
    write_text(folder / "leaderboard.html", as_html(shown, rows, in_order))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m ivos.evaluation.leaderboard", description=words)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders of finished runs, which are compared with the first one"
    )
    parser.add_argument("--output", type=Path, help="folder for leaderboard.csv, .md, .tex and .html")
    parser.add_argument("--columns", help="comma-separated columns to show, or all")
    parser.add_argument("--latex", action="store_true", help="print a LaTeX table (booktabs)")
    parser.add_argument(
        "--external", type=Path, action="append", default=[], help="CSV file of published results"
    )
    options = parser.parse_args(arguments)
    try:
        names = distinct_names(options.runs)
        runs = [Run.read(folder, name) for folder, name in zip(options.runs, names, strict=True)]
        external = [row for path in options.external for row in external_rows(path)]
        columns, rows = table(runs, external)
        shown = choose(columns, options.columns) if options.columns else compact(columns, rows)
        if options.output:
            _write(options.output, runs, columns, shown, rows)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_latex(shown, rows) if options.latex else as_markdown(shown, rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
