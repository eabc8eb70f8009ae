"""One table over runs of evaluate.py: ``python -m ivos.evaluation.leaderboard RUN... --output FOLDER``.

A run is a folder with ``summary.json``, ``session.json`` and ``report.csv``. Beside the table on the screen,
``--output`` gets it as ``leaderboard.csv``, ``.md`` and ``.html``; the page has the curves and, where a run
has saved overlays, its worst frames inside it and needs no other file.
"""

import argparse
import base64
import csv
import html
import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ivos.runtime.errors import UserError
from ivos.runtime.files import read_json, write_text

_WORST = 3  # frames shown of a run
_METRICS = ("J", "F", "J_AND_F")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: of it.
        summary: ``summary.json``, and what ``protocol.json`` adds.
        options: ``session.json``: what the numbers depend on.
        checkpoint: what was named on the command line, whose content is in the options.
    """

    folder: Path
    summary: Mapping[str, Any]
    options: Mapping[str, Any]
    checkpoint: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """A run's files.

        Raises:
            UserError: one is missing or unreadable.
        """
        found = []
        for name in ("summary.json", "session.json"):
            try:
                found.append(read_json(folder / name))
            except FileNotFoundError as error:
                raise UserError(f"{folder}: no {name}; is it the folder of a finished run?") from error
            except (OSError, ValueError) as error:
                raise UserError(f"{folder / name}: unreadable ({error})") from error
            if not isinstance(found[-1], dict):
                raise UserError(f"{folder / name}: not of a run, but a {type(found[-1]).__name__}")
        more = folder / "protocol.json"
        if more.exists():
            try:
                found[0] |= read_json(more)
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"{more}: unreadable ({error})") from error
        composed = re.search(
            r"^checkpoint: (.*)$", _text(folder / ".hydra/config.yaml"), re.MULTILINE
        )  # Hydra's own file: a word or a path of its own line
        name = Path(composed[1].strip("'\"")).name if composed else ""
        run = cls(folder, found[0], found[1], name)
        if not {"auc", "curve", "metric_at_threshold"} <= set(run.summary):
            raise UserError(f"{folder / 'summary.json'}: not a session's summary")
        return run

    @property
    def metric(self) -> str:
        """J, F or J_AND_F."""
        return next(name for name in _METRICS if name in self.summary["curve"])

    @property
    def rounds(self) -> list[float]:
        """The metric after each round."""
        return [float(value) for value in self.summary["curve"][self.metric][1:-1]]

    @property
    def seconds(self) -> list[float]:
        """What each round took, mean over the samples."""
        time = self.summary["curve"]["time"][:-1]
        return [float(b - a) for a, b in pairwise(time)]

    @property
    def segmenter(self) -> str:
        """As it is chosen (``flow``), or the name of its class."""
        name = str(self.options.get("segmenter._target_", "?")).rsplit(".", 1)[-1]
        chosen = name.removesuffix("_segmenter").removesuffix("Segmenter")
        return name if chosen == name else chosen.lower()

    @property
    def network(self) -> str:
        """What its weights were called; empty for a segmenter without."""
        if named := self.options.get("segmenter.checkpoint"):
            return str(named)
        if "model._target_" in self.options:
            return "untrained"
        return self.checkpoint if self.options.get("checkpoint") else ""

    @property
    def protocol(self) -> str:
        """By name."""
        return str(self.summary.get("protocol", "davis"))

    @property
    def machine(self) -> str:
        """What it ran on, in words; empty where that is not known."""
        return str(self.summary.get("machine", ""))

    def row(self) -> dict[str, Any]:
        """What is shown of it, by column."""
        at = self.summary["metric_at_threshold"]
        found: dict[str, Any] = {
            "run": self.folder.name,
            "segmenter": self.segmenter,
            "network": self.network,
            "protocol": self.protocol,
            "metric": self.metric.replace("_AND_", "&"),
            "AUC": f"{self.summary['auc']:.3f}",
            "R-AUC": f"{self.summary['r_auc']:.3f}" if "r_auc" in self.summary else "",
            f"@{at['threshold']:g}s": f"{at[self.metric]:.3f}",
        }
        found |= {f"round {n}": f"{value:.3f}" for n, value in enumerate(self.rounds, 1)}
        found |= {f"s {n}": f"{value:.2f}" for n, value in enumerate(self.seconds, 1)}
        checkpoint = self.options.get("checkpoint")
        weights = str(checkpoint).removeprefix("sha256 ")[:12] if checkpoint else ""
        found |= {"weights": weights, "seed": self.options.get("session.seed", "")}
        return found | {"machine": self.machine}


_COMPARED = {  # by the beginning of an option's name: what is said of a difference
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
    """Why the numbers of a run are not comparable with the first one's; empty where they are."""
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
        found.append("another machine (AUC, @s and seconds alone)")
    return found


def ordered(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """The runs, protocol by protocol, the best AUC first, each with why it does not compare.

    A run of the first one's protocol is compared with it, a run of another protocol with the first of that;
    those that do not compare come last.
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


def table(runs: Sequence[Run]) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows; see :func:`ordered`."""
    rows = [{**run.row(), "not comparable": reasons} for run, reasons in ordered(runs)]
    columns: list[str] = []
    for row in rows:
        columns += [name for name in row if name not in columns]
    kinds = ("round ", "s ")
    order = [name for name in columns if not name.startswith(kinds)]
    at = order.index("weights")
    for kind in kinds:
        numbered = sorted((n for n in columns if n.startswith(kind)), key=lambda n: int(n.split()[1]))
        order[at:at] = numbered
        at += len(numbered)
    return order, [{name: row.get(name, "") for name in order} for row in rows]


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """As comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """As a table of Markdown."""
    lines = [columns, ["---"] * len(columns), *([str(row[name]) for name in columns] for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def as_html(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> str:
    """As a page that needs no other file."""
    head = "".join(f"<th{_kind(name)}>{html.escape(name)}</th>" for name in columns)
    body, before = "", None
    for row in rows:
        first = ' class="first"' if before not in (None, row["protocol"]) else ""
        cells = (f"<td{_kind(name)}>{html.escape(str(row[name]))}</td>" for name in columns)
        body, before = f"{body}<tr{first}>{''.join(cells)}</tr>", row["protocol"]
    parts = []
    in_order = [run for run, _ in ordered(runs)]
    for protocol in dict.fromkeys(run.protocol for run in in_order):
        mine = [run for run in in_order if run.protocol == protocol]
        parts.append(f"<h2>{html.escape(protocol)}</h2>{_curves(mine)}")
        for run in mine:
            named = " ".join(filter(None, (run.segmenter, run.network)))
            title = html.escape(f"{run.folder.name}: {named}")
            pictures = [(run.folder / "curve.png", "curve"), *worst_frames(run)]
            shown = "".join(_picture(path, words) for path, words in pictures if path.exists())
            parts.append(f"<section><h3>{title}</h3><div>{shown}</div></section>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Leaderboard</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><h1>Leaderboard</h1>"
        f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>{"".join(parts)}</html>\n'
    )


_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1700px;padding:0 1em;color:#222}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{padding:.3em .6em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
    "th{border-bottom:2px solid #888}.words{text-align:left}.first td{border-top:2px solid #888}"
    "td.words:last-child{white-space:normal;min-width:16em;color:#a33}"
    "h2{margin:1.6em 0 .3em}h3{margin:1em 0 .2em}section div{display:flex;flex-wrap:wrap;gap:.8em}"
    "figure{margin:0}img{height:170px;max-width:100%;object-fit:contain}figcaption{color:#555}"
)
_WORDS = ("run", "segmenter", "network", "protocol", "metric", "weights", "machine", "not comparable")
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")


def _kind(column: str) -> str:
    return ' class="words"' if column in _WORDS else ""


def _curves(runs: Sequence[Run]) -> str:
    """The metric after each round of some runs, as one drawing."""
    width, height, left, bottom = 560, 260, 40, 30
    rounds = max(len(run.rounds) for run in runs)

    def at(number: int, value: float) -> str:
        x = left + (number - 0.5) * (width - left - 10) / rounds
        return f"{x:.1f},{10 + (1 - value) * (height - bottom - 10):.1f}"

    drawn = ""
    for tick in range(6):
        y = at(1, tick / 5).split(",")[1]
        drawn += f'<path d="M{left} {y}H{width}" stroke="#ddd"/>'
        drawn += f'<text x="{left - 6}" y="{y}" dy="4" text-anchor="end">{tick / 5:.1f}</text>'
    for number in range(1, rounds + 1):
        x = at(number, 0).split(",")[0]
        drawn += f'<text x="{x}" y="{height - 8}" text-anchor="middle">{number}</text>'
    legend = ""
    for place, run in enumerate(runs):
        colour = _COLOURS[place % len(_COLOURS)]
        points = [at(n, value) for n, value in enumerate(run.rounds, 1)]
        drawn += f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for point in points:
            x, y = point.split(",")
            drawn += f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
        legend += f'<span style="color:{colour}">\u25cf</span> {html.escape(run.folder.name)} &ensp;'
    said = html.escape(" and ".join(dict.fromkeys(run.row()["metric"] for run in runs)))
    frame = f'viewBox="0 0 {width} {height}" width="{width}" style="max-width:100%" font-size="12"'
    return (
        f'<svg {frame} role="img" aria-label="{said} by round">{drawn}</svg><p>{said} by round: {legend}</p>'
    )


def worst_frames(run: Run) -> list[tuple[Path, str]]:
    """Overlays of the frames that last rounds were worst on, one a sequence, and what is said of each."""
    import pandas as pd

    if not (run.folder / "overlays").is_dir():
        return []
    column = {"J": "jaccard", "F": "contour", "J_AND_F": "j_and_f"}[run.metric]
    try:
        report = pd.read_csv(run.folder / "report.csv", index_col=0, dtype={"sequence": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{run.folder / 'report.csv'}: unreadable ({error})") from error
    keys = ["sequence", "scribble_idx"]
    last = report[report["interaction"] == report.groupby(keys)["interaction"].transform("max")]
    means = last.groupby([*keys, "interaction", "frame"])[column].mean().reset_index().sort_values(column)
    found = []
    for row in means.drop_duplicates("sequence").head(_WORST).to_dict("records"):
        name = f"{row['scribble_idx']:03d}/{row['interaction']:02d}/{row['frame']:05d}.jpg"
        words = f"{row['sequence']}, frame {row['frame']}: {row[column]:.2f}"
        found.append((run.folder / "overlays" / str(row["sequence"]) / name, words))
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _picture(path: Path, words: str) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    said = html.escape(words)
    image = f'<img alt="{said}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{said}</figcaption></figure>"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m ivos.evaluation.leaderboard", description=words)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders of finished runs; the first is compared with"
    )
    parser.add_argument("--output", type=Path, help="folder for leaderboard.csv, .md and .html")
    options = parser.parse_args(arguments)
    try:
        runs = [Run.read(folder) for folder in options.runs]
        columns, rows = table(runs)
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            write_text(options.output / "leaderboard.csv", as_csv(columns, rows))
            write_text(options.output / "leaderboard.md", as_markdown(columns, rows))
            write_text(options.output / "leaderboard.html", as_html(columns, rows, runs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_markdown(columns, rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
