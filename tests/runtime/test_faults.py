"""Tests of both programs under signals, kills, a full disk and a clock that jumps."""

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from ivos.networks import load
from tests.support.discs import TINY, draw
from tests.support.long import LONG
from tests.support.programs import Program
from tests.support.reports import without_times
from tests.support.tiny import MODEL, clips, stage

KILLS = int(os.environ.get("IVOS_FAULTS_KILLS", 30 if LONG else 4))
MOMENTS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP)
pytestmark = pytest.mark.timeout(7200)  # of many runs of both programs


@pytest.fixture
def elsewhere(tmp_path):
    """A folder for temporary files on another file system than the run's, where there is one."""
    shared = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=shared if shared.is_dir() else None)
    yield folder
    shutil.rmtree(folder)


class Evaluating:
    """evaluate.py on two small sequences."""

    name = "evaluate.py"

    def __init__(self, folder):
        root = folder / "videos"
        draw(root, "discs", scribbles=(0, 2))
        draw(root, "one", size=(31, 20), frames=2, objects=1, scribbles=(0,))
        self.arguments = [*TINY, f"data.root={root}", "session.max_interactions=4", "save_masks=true",
                          "device=cpu"]  # fmt: skip

    def result(self, folder):
        """All that does not depend on a clock."""
        masks = {p.relative_to(folder): p.read_bytes() for p in sorted((folder / "masks").rglob("*.png"))}
        return (*without_times(folder), masks)


class Training:
    """train.py on two stages and the session, with a process that makes mini-sequences."""

    name = "train.py"

    def __init__(self, folder):
        settings = {"data.num_workers": 1, "trainer.max_epochs": 2}
        self.arguments = [
            f"data.root={clips(folder / 'clips')}", *MODEL,
            *stage("anet", **settings, **{"data.num_batches": 4}),
            *stage("tnet", **{"data.num_batches": 5, "data.samples.num_frames": 3}),
            "callbacks.last.every_n_train_steps=3", "session.max_interactions=2", "callbacks.pictures=null",
            "device=cpu", "trainer.log_every_n_steps=1",
        ]  # fmt: skip

    def result(self, folder):
        """Weights, what validation and the session found."""
        found = {}
        for name in ("anet", "tnet"):
            state = load(folder / name / "final.ckpt").state_dict()
            found |= {f"{name}.{key}": value.numpy().tobytes() for key, value in state.items()}
            rows = pd.read_csv(folder / name / "metrics.csv").dropna(subset="val/J")
            found[f"{name}.J"] = rows[["step", "val/J"]].to_numpy().tolist()
        return found | {"scores": (folder / "session" / "scores.csv").read_text()}


def leftovers(folder):
    """What somebody was writing."""
    return [path for path in folder.rglob("*") if ".tmp" in path.name or path.suffix == ".lock"]


@pytest.fixture(params=[Evaluating, Training], ids=["evaluate", "train"])
def work(request, tmp_path):
    return request.param(tmp_path)


def finish(work, place, folder, *more, **options):
    """Run to the end."""
    with Program(work.name, [f"hydra.run.dir={folder}", *work.arguments, *more], place, **options) as program:
        assert program.end() == 0, program.said()
    return work.result(folder)


@pytest.mark.slow
def test_killed_at_random_moments_it_finds_the_same(work, tmp_path, elsewhere):
    """By each signal in turn; a run that ends before it is killed is followed by another."""
    began = time.monotonic()
    undisturbed = finish(work, tmp_path, tmp_path / "undisturbed", TMPDIR=elsewhere)
    duration = time.monotonic() - began
    rng, kills, runs, statuses = random.Random(0), 0, 0, []
    while kills < KILLS:
        folder, begun = tmp_path / f"run-{runs}", False
        runs += 1
        while True:
            number, moment = MOMENTS[kills % 4], time.monotonic() + rng.uniform(0, duration)
            arguments = [f"hydra.run.dir={folder}", *work.arguments, f"resume={str(begun).lower()}"]
            with Program(work.name, arguments, tmp_path, TMPDIR=elsewhere) as program:
                hit = kills < KILLS and program.until(lambda moment=moment: time.monotonic() > moment)
                if hit:
                    os.kill(program.process.pid, number)
                    kills += 1
                status = program.end()
                said = program.said()
            statuses.append(status)
            begun = True
            if status == 0:
                break
            assert hit, said
            assert status == (-number if number == signal.SIGKILL else 128 + number), said
            assert "Traceback" not in said, said
        assert work.result(folder) == undisturbed
        assert not leftovers(folder)
    print(f"{work.name}: {kills} kills in {runs} runs, {duration:.0f} s undisturbed: {statuses}")


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(work, tmp_path):
    undisturbed = finish(work, tmp_path, tmp_path / "undisturbed")
    assert finish(work, tmp_path, tmp_path / "jumping", clock=True) == undisturbed


FULL = {  # what cannot be written any more, from one go to the next, and the file that is named
    "evaluate.py": [
        ({"full": "*/samples/*.csv"}, "/samples/discs-001.tmp.csv"),
        ({"full": "*/masks/001/02/*.png"}, "/masks/001/02/discs/00000.png"),
        ({"full": "*/masks/001/03/one/*.png"}, "/masks/001/03/one/00000.png"),
        ({"full": "*/.curve.*.png"}, "/curve.png"),
        ({"full": "*/.report.*.csv"}, "/report.csv"),
        ({"full": "*/metrics.csv"}, "/metrics.csv"),
    ],
    "train.py": [
        ({"limit": 200_000}, "/anet/last.ckpt"),
        ({"full": "*/anet/metrics.csv"}, "/anet/metrics.csv"),
        ({"full": "*tfevents*"}, ""),
        ({"full": "*/anet/.curve.*.png"}, "/anet/curve.png"),
        ({"full": "*/.scores.*.csv"}, "/session/scores.csv"),
    ],
}


@pytest.mark.slow
def test_a_full_disk_is_a_line_and_the_run_goes_on(work, tmp_path):
    undisturbed = finish(work, tmp_path, tmp_path / "undisturbed")
    folder = tmp_path / "run"
    for fault, file in FULL[work.name]:
        arguments = [*work.arguments, f"hydra.run.dir={folder}", f"resume={str(folder.exists()).lower()}"]
        arguments += ["logger=[csv,tensorboard]"]
        with Program(work.name, arguments, tmp_path, **fault) as program:
            assert program.end() == 2, program.said()
            assert "Traceback" not in program.said(), program.said()
            (line,) = program.errors()
            assert f"{folder}{file}" in line, line
            assert "cannot be written (" in line, line
    assert finish(work, tmp_path, folder, "resume=true") == undisturbed
    assert not leftovers(folder)
