"""Measure the parts of an evaluation, and the speed-up by several processes.

uv run benchmarks/evaluation.py [--model small] [--clips 2] [--frames 20] [--rounds 4] [--processes 2]

The clips are synthetic with a resolution of 480p, the network is untrained, and times are the processor time
of one thread. The first table has the times of the parts of an evaluation, with the scoring of ivos and with
davisinteractive's J, F and robot. The second table compares evaluate.py with one process and with several
processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.data.datasets.davis import DavisFolder
from ivos.data.synthetic import SyntheticSpec, write_davis
from ivos.engine import ATNetSegmenter
from ivos.evaluation import (
    GroundTruth,
    SessionSettings,
    davisinteractive_compat,
    evaluate,
    evaluation,
    official,
)
from ivos.interaction.robot import Robot
from ivos.runtime.command_line import quiet_libraries
from ivos.video.video import Video

davisinteractive_compat.install()

from davisinteractive.metrics import batched_f_measure, batched_jaccard  # noqa: E402
from davisinteractive.robot import InteractiveScribblesRobot  # noqa: E402

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "evaluate.py"
NETWORK, REST = "network: all rounds", "session, Lightning, report files"
PARTS: list[tuple[str, Any, str]] = [
    (NETWORK, ATNetSegmenter, "start"),
    (NETWORK, ATNetSegmenter, "interact"),
    ("frames and masks read", Video, "load"),
    ("J", GroundTruth, "jaccard"),
    ("F", GroundTruth, "f_measure"),
    ("robot", Robot, "strokes"),
    ("summary, curve.png", official, "summarise"),
    ("summary, curve.png", evaluation._Session, "_write_reports"),
]


def official_jaccard(truth: GroundTruth, pred: Any) -> Any:
    return batched_jaccard(truth.labels, pred, average_over_objects=False, nb_objects=truth.num_objects)


def official_f_measure(truth: GroundTruth, pred: Any) -> Any:
    return batched_f_measure(truth.labels, pred, average_over_objects=False, nb_objects=truth.num_objects)


def official_strokes(robot: Robot, prediction: Any, truth: Any, num_objects: int, key: Any) -> Any:
    """Draw with the official robot, with the generator and the settings of ours."""
    robot.seed(*key)
    official = InteractiveScribblesRobot(
        robot.kernel_size, robot.max_kernel_radius, robot.min_nb_nodes, robot.nb_points
    )
    official.rng = robot.rng
    drawn = official.interact("", prediction[None], truth[None], nb_objects=num_objects, frame=0)
    return drawn["scribbles"][0]


OFFICIAL = [
    (GroundTruth, "jaccard", official_jaccard),
    (GroundTruth, "f_measure", official_f_measure),
    (Robot, "strokes", official_strokes),
]


@contextmanager
def timed(seconds: Counter[str]) -> Iterator[None]:
    """Add up the time spent in each of the parts, none of which calls another."""

    def wrap(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()  # excludes the thread that reads the next sample
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.thread_time() - start  # type: ignore[assignment]

        return wrapped

    with ExitStack() as stack:
        for part, owner, name in PARTS:
            stack.enter_context(mock.patch.object(owner, name, wrap(part, getattr(owner, name))))
        yield


def measure_parts(root: Path, model: str, rounds: int, official: bool) -> Counter[str]:
    """Return the seconds of each part of an evaluation, and under "" those of all of it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("evaluate", [f"model={model}"])
    torch.manual_seed(0)
    segmenter = ATNetSegmenter(instantiate(cfg.model))
    videos, settings = DavisFolder(root), SessionSettings(max_interactions=rounds, max_time=None)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    seconds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for owner, name, function in OFFICIAL if official else ():
            stack.enter_context(mock.patch.object(owner, name, function))
        stack.enter_context(timed(seconds))
        start = time.process_time()
        evaluate(segmenter, videos, settings, folder, trainer)
        total = time.process_time() - start
    seconds[REST] = total - sum(seconds.values())  # type: ignore[assignment]
    seconds[""] = total  # type: ignore[assignment]
    return seconds


def parts_table(root: Path, model: str, rounds: int) -> Table:
    ours, theirs = (measure_parts(root, model, rounds, official) for official in (False, True))
    table = Table(title=f"Where the time goes ({model} network)", box=box.MARKDOWN)
    for column in ("", "ivos", "share", "with davisinteractive's scoring", "share", "ratio"):
        table.add_column(column, justify="left" if not column else "right")

    def row(name: str, a: float, b: float) -> None:
        shares = (f"{100 * seconds / whole['']:.1f} %" for seconds, whole in ((a, ours), (b, theirs)))
        first, second = shares
        table.add_row(name, f"{a:.2f} s", first, f"{b:.2f} s", second, f"{b / a:.1f}")

    names = [*dict.fromkeys(part for part, _, _ in PARTS), REST]
    for name in names:
        row(name, ours[name], theirs[name])
    row("all but the network", *(s[""] - s[NETWORK] for s in (ours, theirs)))
    row("all", ours[""], theirs[""])
    return table


def processor_seconds(pid: int) -> dict[int, float]:
    """Return the processor time of a process and of each of its children so far, by their ids (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = {
        each: Path(f"/proc/{each}/stat").read_text().rsplit(")")[-1].split() for each in (str(pid), *children)
    }
    return {int(each): (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK") for each, f in fields.items()}


def wait_for(program: subprocess.Popen[bytes], folder: Path, pattern: str) -> dict[int, float]:
    """Wait for a file and return the processor time of each process at that moment."""
    while not any(folder.glob(pattern)):
        if program.poll() is not None:
            raise SystemExit(f"evaluate.py ended with {program.returncode}")
        time.sleep(0.01)
    return processor_seconds(program.pid)


def processes_table(root: Path, model: str, rounds: int, processes: int) -> Table:
    """Measure evaluate.py from the first request to the report, by its busiest process's processor time.

    This is the duration on a machine with a free core for each process. The duration by the clock also
    contains the work of other programs.
    """
    table = Table(title=f"evaluate.py, 1 thread a process ({model} network)", box=box.MARKDOWN)
    for column in ("processes", "busiest process", "ratio", "by the clock on the wall"):
        table.add_column(column, justify="right")
    arguments = [f"model={model}", f"data.root={root}", f"session.max_interactions={rounds}"]
    first = 0.0
    for count in (1, processes):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, "run")
            options = [f"hydra.run.dir={folder}", f"trainer.devices={count}", "device=cpu"]
            program = subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments, *options, "session.max_time=null"],
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            before, start = wait_for(program, folder, "samples/*.csv"), time.perf_counter()
            after, end = wait_for(program, folder, "report.csv"), time.perf_counter()
            program.wait()
        busiest = max(seconds - before[pid] for pid, seconds in after.items())
        first = first or busiest
        table.add_row(str(count), f"{busiest:.1f} s", f"{first / busiest:.2f}", f"{end - start:.1f} s")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="small", choices=("small", "full"))
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    quiet_libraries()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as root:
        spec = SyntheticSpec(
            num_clips=arguments.clips,
            num_frames=arguments.frames,
            width=854,
            height=480,
            min_objects=3,
            max_objects=3,
        )
        folder = write_davis(spec, root, "val")
        console.print(parts_table(folder, arguments.model, arguments.rounds))
        console.print(processes_table(folder, arguments.model, arguments.rounds, arguments.processes))


if __name__ == "__main__":
    main()
