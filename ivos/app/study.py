"""User studies: measured times and result files in the format of GUI-IVOS, by round and object.

``python -m ivos.app.study FOLDER`` prints the table of a study, and plots J&F against seconds.

The clock starts at the first press of the pointer. From then on it is in one of three states: **drawing**
from a press or Space to Propagate, **computing** from Propagate until the page shows the masks, and
**searching** from then to the next press or Space, or to Satisfied. All times are measured by the
participant's browser, so that the delay of the network connection is not part of drawing. The delay is part
of computing, and also has a column of its own.
"""

import argparse
import csv
import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ivos.app.journal import read_lines
from ivos.app.masks import display
from ivos.app.session import Event, Round, Session
from ivos.app.workspace import Workspace
from ivos.runtime.errors import UserError
from ivos.runtime.files import replacing, write_text
from ivos.video.reader import Source

if TYPE_CHECKING:
    from ivos.app.server import Settings

GUI_IVOS = (
    "sequence", "obj_id", "N_rounds", "final_J", "final_F", "scribble_time", "operation_time", "finding_time",
    "total_time",
)  # fmt: skip
ROUNDS = (
    "participant", "sequence", "round", "frame", "obj_id", "J", "F", "drawing", "computing", "searching",
    "preview", "network", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Times:
    """Seconds of a round in each state, of its previews, and of the connection's delay (`network`)."""

    drawing: float = 0.0
    computing: float = 0.0
    searching: float = 0.0
    preview: float = 0.0
    network: float = 0.0

    @property
    def total(self) -> float:
        """The seconds of all three states."""
        return self.drawing + self.computing + self.searching


def clock(events: Iterable[Event]) -> list[Times]:
    """Return the times of each round from the events of a journal.

    Drawing that was not followed by Propagate counts to the round before. After a restart of the server
    (``resume``) the clock stands still until the next event of the study.

    >>> moments = {"press": 0, "run": 3000, "masks": 5000, "space": 9000}
    >>> later = {"run": 10000, "masks": 11000}
    >>> pairs = [*moments.items(), *later.items()]
    >>> events = [{"type": "study", "event": name, "at": at} for name, at in pairs]
    >>> [(one.drawing, one.computing, one.searching) for one in clock(events)]
    [(3.0, 2.0, 4.0), (1.0, 1.0, 0.0)]
    """
    rounds: list[Times] = []
    served: dict[int, float] = {}  # seconds that the server needed for a round
    open_times = Times()
    state, since = "", None
    for event in events:
        if event["type"] == "round_end" and rounds:
            served[len(rounds) - 1] = event.get("server_seconds", 0.0)
        if event["type"] != "study":
            continue
        name, at = event["event"], event["at"] / 1000
        if name == "preview":
            open_times = replace(open_times, preview=open_times.preview + event["seconds"])
            continue
        if name == "resume":
            since = None
            continue
        spent = at - since if since is not None and state else 0.0
        if state == "drawing":
            open_times = replace(open_times, drawing=open_times.drawing + spent)
        elif state and rounds:
            rounds[-1] = replace(rounds[-1], **{state: getattr(rounds[-1], state) + spent})
        since = at
        if name == "run":
            rounds.append(open_times)
            open_times, state = Times(), "computing"
        elif name == "masks":
            state = "searching"
        elif name in ("press", "space"):
            state = "drawing"
        elif name == "satisfied":
            if rounds:
                rounds[-1] = replace(rounds[-1], drawing=rounds[-1].drawing + open_times.drawing)
            break
    return [
        replace(one, network=round(max(0.0, one.computing - served[index]), 3)) if index in served else one
        for index, one in enumerate(rounds)
    ]


def prepare(
    root: Path, sources: Sequence[Source], options: dict[str, Any], settings: "Settings"
) -> list[Workspace]:
    """Open a workspace for each participant and sequence, and add their order to the server's settings.

    Raises:
        UserError: A sequence has no ground-truth mask, or a participant's name is not possible for a folder.
    """
    for one in sources:
        if not one.masks or one.masks[0] is None:
            raise UserError(f"{one.path}: no mask of the first frame in Annotations; a study needs masks")
    folder = root / str(options["name"])
    participants = [str(each) for each in options["participants"]]
    if not participants:
        raise UserError("study.participants: name at least one")
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "folder": str(Path(options["folder"]).resolve()),
        "participants": participants,
        "sequences": [one.name for one in sources],
        "rounds": options["rounds"],
    }
    write_text(folder / "study.json", json.dumps(described, indent=1))
    workspaces = []
    for participant in participants:
        names = [f"{participant}.{one.name}" for one in sources]
        for position, (name, one) in enumerate(zip(names, sources, strict=True), start=1):
            workspaces.append(Workspace(folder / name, one))
            settings.study[name] = {
                "participant": participant,
                "sequence": one.name,
                "position": position,
                "of": len(names),
                "next": names[position] if position < len(names) else None,
                "rounds": options["rounds"],
                "show_truth": bool(options["show_truth"]),
            }
    settings.after_study = score
    return workspaces


def score(workspace: Workspace) -> None:
    """Compute J and F after every round of a workspace, and write its ``rounds.csv`` and ``study.csv``."""
    lines = read_lines(workspace.folder / "journal.jsonl")
    participant, _, sequence = workspace.name.partition(".")
    session = Session(workspace.metadata.num_frames)
    for line in lines:
        session.apply(line)
    rounds = session.active
    times = (clock(lines) + [Times()] * len(rounds))[: len(rounds)]
    measured = _measure(workspace, session)
    rows, seconds = [], 0.0
    for number, (one, spent, (j, f)) in enumerate(zip(rounds, times, measured, strict=True), start=1):
        seconds += spent.total
        for index in range(len(j)):
            states = _rounded((spent.drawing, spent.computing, spent.searching))
            extra = _rounded((spent.preview, spent.network, seconds))
            figures = _rounded((float(j[index]), float(f[index])), 6)
            rows.append([participant, sequence, number, one.frame, index + 1, *figures, *states, *extra])
    _write(workspace.folder / "rounds.csv", ROUNDS, rows)
    totals = [sum(getattr(one, name) for one in times) for name in ("drawing", "computing", "searching")]
    final = measured[-1] if measured else ([], [])
    spent_in_all = _rounded([*totals, sum(totals)])
    ours = [
        [sequence, index + 1, len(rounds), *_rounded((float(j), float(f)), 6), *spent_in_all]
        for index, (j, f) in enumerate(zip(*final, strict=True))
    ]
    _write(workspace.folder / "study.csv", GUI_IVOS, ours)


def _measure(workspace: Workspace, session: Session) -> list[tuple[Any, Any]]:
    """Return J and F of every object after each round, averaged over the frames with a ground-truth mask."""
    from ivos.metrics.arrays import GroundTruth

    frames = [t for t, path in enumerate(workspace.source.masks) if path is not None]
    masks = [mask for t in frames if (mask := workspace.source.read_mask(t)) is not None]
    truth = GroundTruth(np.stack(masks), max(1, len(workspace.source.mask_labels)))
    measured = []
    active = session.active
    for one in active:
        labels = np.stack([_labels_after(workspace, session, active, one.number, t) for t in frames])
        measured.append((truth.jaccard(labels).mean(axis=0), truth.f_measure(labels).mean(axis=0)))
    return measured


def _labels_after(
    workspace: Workspace, session: Session, active: Sequence[Round], number: int, frame: int
) -> Any:
    """Return the labels [h, w] that a frame showed when round `number` had ended."""
    newest = max((one.number for one in active if one.number <= number and one.covers(frame)), default=0)
    return display(workspace.read_mask(newest, frame), session)


def _rounded(values: Iterable[float], digits: int = 3) -> list[float]:
    return [round(value, digits) for value in values]


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with replacing(path) as aside, open(aside, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


# The table


def collect(folder: Path) -> list[dict[str, Any]]:
    """Collect the rows of all videos of a study, and write them to its ``rounds.csv`` and ``study.csv``.

    Raises:
        UserError: No video of the study was finished.
    """
    found = sorted(folder.glob("*/rounds.csv"))
    if not found:
        raise UserError(
            f"{folder}: no finished video (NAME/rounds.csv); a participant finishes a video with Satisfied"
        )
    rows: list[dict[str, Any]] = []
    for path in found:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                try:
                    texts = ("participant", "sequence")
                    rows.append({k: v if k in texts else float(v) for k, v in row.items()})
                except (TypeError, ValueError) as error:
                    raise UserError(f"{path}: not the rows of a study ({error}); delete it") from error
    _write(folder / "rounds.csv", ROUNDS, ([row[name] for name in ROUNDS] for row in rows))
    official: list[list[str]] = []
    for path in sorted(folder.glob("*/study.csv")):
        with open(path, newline="") as file:
            official += list(csv.reader(file))[1:]
    _write(folder / "study.csv", GUI_IVOS, official)
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each participant and video, with rounds, seconds by state, and final J and F."""
    videos: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        videos.setdefault((row["participant"], row["sequence"]), []).append(row)
    table = []
    for (participant, sequence), one in videos.items():
        last = max(row["round"] for row in one)
        first_object = [row for row in one if row["obj_id"] == 1]
        final = [row for row in one if row["round"] == last]
        states = ("drawing", "computing", "searching")
        spent = {name: sum(row[name] for row in first_object) for name in states}
        mean = {name: float(np.mean([row[name] for row in final])) for name in ("J", "F")}
        table.append(
            {"participant": participant, "sequence": sequence, "rounds": last, **spent}
            | {"total": sum(spent.values()), **mean}
        )
    return table


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot J&F against seconds, with a line for each participant and video and a mark for each round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    videos: dict[tuple[str, str], dict[float, list[tuple[float, float]]]] = {}
    for row in rows:
        one = videos.setdefault((row["participant"], row["sequence"]), {})
        one.setdefault(row["seconds"], []).append((row["J"], row["F"]))
    for (participant, sequence), one in sorted(videos.items()):
        seconds = sorted(one)
        axes.plot(seconds, [np.mean(one[at]) for at in seconds], "o-", label=f"{participant}, {sequence}")
    axes.set(xlabel="seconds", ylabel="J&F", ylim=(0, 1), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    with replacing(path) as aside:
        figure.savefig(aside, dpi=150)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of a study, and write its rows and its plot."""
    from rich.console import Console
    from rich.table import Table

    from ivos.runtime.command_line import reported

    parser = argparse.ArgumentParser(
        "python -m ivos.app.study", description="Print the table and plot the curves of a user study."
    )
    parser.add_argument("folder", type=Path, help="folder of the study: outputs/annotate/NAME")
    parser.add_argument("--wandb", metavar="PROJECT", help="log the table and the plot to Weights & Biases")
    options = parser.parse_args(arguments)
    with reported():
        for package in ("matplotlib", "wandb") if options.wandb else ("matplotlib",):
            if importlib.util.find_spec(package) is None:
                raise UserError(f"the results of a study need {package}: pip install 'ivos[evaluate]'")
        rows = collect(options.folder)
        summary = summarise(rows)
        names = ("rounds", "drawing", "computing", "searching", "total", "J", "F")
        table = Table("participant", "video", *names)
        for one in summary:
            table.add_row(one["participant"], one["sequence"], *(_shown(name, one[name]) for name in names))
        table.add_section()
        mean = {name: float(np.mean([one[name] for one in summary])) for name in names}
        table.add_row("mean", "", *(_shown(name, mean[name]) for name in names))
        Console(highlight=False).print(table)
        plot(rows, options.folder / "study.png")
        print(f"Rows, official rows and plot: {options.folder}/rounds.csv, study.csv, study.png")
        if options.wandb:
            _log(options.wandb, options.folder, summary, mean)


def _shown(name: str, value: float) -> str:
    return f"{value:.3f}" if name in ("J", "F") else f"{value:.1f}" if name != "rounds" else f"{value:g}"


def _log(project: str, folder: Path, summary: list[dict[str, Any]], mean: dict[str, float]) -> None:
    import wandb

    with wandb.init(project=project, name=folder.name, job_type="study") as run:
        columns: list[str | int] = [*summary[0]]
        cells: list[Any] = [[one[str(name)] for name in columns] for one in summary]
        run.log(
            {
                "study": wandb.Table(columns=list(columns), data=list(cells)),
                "curve": wandb.Image(str(folder / "study.png")),
                **{f"mean/{name}": value for name, value in mean.items()},
            }
        )


if __name__ == "__main__":
    main()
