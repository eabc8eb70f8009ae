"""Tests of samples distributed over processes, and of runs that are killed and resumed."""

import contextlib
import doctest
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies.launchers import subprocess_script

from ivos.data.datasets.davis import DavisFolder
from ivos.evaluation import SessionSettings, evaluate, run_folder, share_out
from ivos.runtime.errors import UserError
from ivos.runtime.process_watchdog import ProcessWatchdog
from tests.support.discs import TINY, draw
from tests.support.ports import free_port
from tests.support.reports import without_times

from .conftest import ROOT

SETTINGS = SessionSettings(metric="J", max_interactions=4)
FORK = multiprocessing.get_context("fork")  # what is imported stays so, and each start takes no time


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three sequences with six samples."""
    root = tmp_path_factory.mktemp("three")
    draw(root, "abc", frames=4, objects=3, scribbles=(1, 0, 3))
    draw(root, "discs", scribbles=(0, 2))
    draw(root, "one", size=(31, 20), frames=2, objects=1, scribbles=())
    return DavisFolder(root)


class Guess:
    """The ground truth, moved: ever less from round to round. Kills its process at a call, if it has to."""

    def __init__(self, videos, calls=10**6, end=lambda: os.kill(os.getpid(), signal.SIGKILL)):
        self.videos, self.calls, self.end = videos, calls, end

    def start(self, frames, num_objects):
        (video,) = [
            v for v in self.videos if (v.num_frames, v.size[::-1]) == (len(frames), frames.shape[1:3])
        ]
        self.truth, self.round = video.load_annotations(), 0

    def interact(self, frame, strokes):
        self.calls -= 1
        if self.calls < 0:
            self.end()
        self.round += 1
        return np.roll(self.truth, 8 // self.round, 2)


def run_it(folder, segmenter, settings=SETTINGS, videos=None, **options):
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    return evaluate(segmenter, videos or segmenter.videos, settings, folder, trainer, **options)


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_it(folder, Guess(videos), save_masks=True)
    return folder


def stop():
    raise InterruptedError


@pytest.fixture
def unfinished(videos, tmp_path):
    """A folder with one complete sample and two rounds of the next."""
    with pytest.raises(UserError, match="failed: InterruptedError"):
        run_it(tmp_path / "run", Guess(videos, calls=6, end=stop), provenance={"checkpoint": "sha256 1"})
    return tmp_path / "run"


def test_shares_are_even_and_complete():
    costs = np.random.default_rng(0).integers(1, 100, 40).tolist()
    shares = share_out(costs, 7)
    assert sorted(i for share in shares for i in share) == list(range(40))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(costs[i] for i in share) for share in shares]
    assert max(loads) - min(loads) < min(costs) + 10
    assert share_out(costs[:3], 5)[3:] == [[], []]
    assert doctest.testmod(run_folder).failed == 0
    assert doctest.testmod(run_folder).attempted > 0


@pytest.mark.parametrize("seed", range(3))
def test_killed_five_times_over(videos, undisturbed, tmp_path, seed):
    """SIGKILL at random rounds: in the middle of a sample, in its first round, before anything is done."""
    folder, rng = tmp_path / "run", random.Random(seed)
    calls = [rng.randrange(9) for _ in range(5)]
    for number in calls:
        options = {"resume": folder.exists(), "save_masks": True}
        process = FORK.Process(target=run_it, args=(folder, Guess(videos, number)), kwargs=options)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, calls
        assert not (folder / "report.csv").exists()
    run_it(folder, Guess(videos), resume=True, save_masks=True)
    assert without_times(folder) == without_times(undisturbed)
    masks = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*.png")} for f in (folder, undisturbed)]
    masks = [{path: data for path, data in found.items() if path.parts[0] == "masks"} for found in masks]
    assert masks[0] == masks[1]
    assert not list(folder.rglob("*.tmp*"))
    assert not list(folder.rglob("*.lock"))


def test_what_is_complete_is_not_done_again(videos, unfinished, undisturbed):
    complete = unfinished / "samples" / "abc-001.csv"
    before = complete.read_bytes()
    guess = Guess(videos)
    run_it(unfinished, guess, resume=True, provenance={"checkpoint": "sha256 1"})
    assert 10**6 - guess.calls == 5 * 4  # five samples of four rounds
    assert complete.read_bytes() == before  # with its times
    assert without_times(unfinished) == without_times(undisturbed)


def test_partial_results_can_be_read_at_any_time(unfinished):
    parts = unfinished / "samples"
    columns = "session_id sequence scribble_idx interaction object_id frame jaccard contour j_and_f timing"
    for name, rounds in (("abc-001.csv", 4), ("abc-002.tmp.csv", 2)):
        part = pd.read_csv(parts / name, index_col=0)
        assert list(part.columns) == columns.split()
        assert len(part) == rounds * 4 * 3
        assert part["interaction"].max() == rounds


def test_a_finished_run_resumed_writes_its_reports_again(undisturbed, videos, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed, folder)
    before = {name: (folder / name).read_bytes() for name in ("report.csv", "summary.json", "rounds.csv")}
    for name in (*before, "curve.png"):
        (folder / name).unlink()
    guess = Guess(videos)
    run_it(folder, guess, resume=True)
    assert guess.calls == 10**6
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert (folder / "curve.png").exists()


def test_nothing_scored_in_time_is_a_result_too(videos, tmp_path, undisturbed):
    """A sample whose first round came too late has an empty report; the others' columns keep their types."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    part = folder / "samples" / "abc-001.csv"
    part.write_text(part.read_text().splitlines()[0] + "\n")
    summary = run_it(folder, Guess(videos), resume=True)["J"]
    report = pd.read_csv(folder / "report.csv", index_col=0)
    assert len(report) == 4 * (2 * 4 * 3 + 2 * 3 * 2 + 2)
    assert report["jaccard"].dtype == np.float64
    assert summary["curve"]["J"][1] < json.loads((undisturbed / "summary.json").read_text())["curve"]["J"][1]


DIFFERENT = {
    "session.seed": {"settings": SessionSettings(metric="J", max_interactions=4, seed=1)},
    "session.max_interactions": {"settings": SessionSettings(metric="J", max_interactions=5)},
    "session.max_time": {"settings": SessionSettings(metric="J", max_interactions=4, max_time=None)},
    "session.metric": {"settings": SessionSettings(metric=("J", "F"), max_interactions=4)},
    "session.robot.nb_points": {
        "settings": SessionSettings(metric="J", max_interactions=4, robot={"nb_points": 9})
    },
    "checkpoint": {"provenance": {"checkpoint": "sha256 2"}},
    "data.split": {"provenance": {"checkpoint": "sha256 1", "data.split": "train"}},
    "data.sequences discs": {"videos": 1},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_settings_are_named(name, videos, unfinished):
    options = {"provenance": {"checkpoint": "sha256 1"}, **DIFFERENT[name]}
    if "videos" in options:
        options["videos"] = [v for v in videos if v.name != "discs"]
    guess = Guess(videos, calls=0)
    with pytest.raises(UserError, match=rf"was started with .*{name}") as error:
        run_it(unfinished, guess, resume=True, **options)
    assert str(unfinished) in str(error.value)
    assert str(error.value).count(";") == 1  # that one alone


def test_several_metrics_resumed_as_one_are_noticed(videos, tmp_path):
    settings = SessionSettings(metric=("J", "F"), max_interactions=1)
    with pytest.raises(UserError, match="failed: InterruptedError"):
        run_it(tmp_path, Guess(videos, calls=2, end=stop), settings)
    with pytest.raises(UserError, match=r"started with several metrics \(session\.metric\)"):
        run_it(tmp_path, Guess(videos), SessionSettings(metric="F", max_interactions=1), resume=True)


def test_an_unfinished_run_is_not_overwritten(videos, unfinished):
    before = sorted(unfinished.rglob("*"))
    with pytest.raises(UserError, match="unfinished run; go on with resume=true"):
        run_it(unfinished, Guess(videos))
    assert sorted(unfinished.rglob("*")) == before


def cut(lines):
    return lines[:-1]


def cut_at_a_round(lines):
    return lines[: 1 + 3 * 4 * 3]  # three rounds of four frames of three objects


def doubled(lines):
    return [*lines[:5], lines[4], *lines[5:]]


def no_number(lines):
    return [*lines[:-1], lines[-1].rsplit(",", 3)[0] + ",nan,nan,1.0"]


def of_another(lines):
    return [line.replace(",abc,1,", ",abc,2,") for line in lines]


def zeroed(lines):
    return [*lines[:-2], "\0" * len(lines[-2]), lines[-1]]


def out_of_order(lines):
    return [lines[0], lines[2], lines[1], *lines[3:]]


DAMAGES = [cut, cut_at_a_round, doubled, no_number, of_another, zeroed, out_of_order]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_sample_is_no_number_but_a_line(damage, videos, tmp_path):
    settings = SessionSettings(metric="J", max_interactions=4, max_time=None)
    run_it(tmp_path, Guess(videos), settings)
    part = tmp_path / "samples" / "abc-001.csv"
    part.write_text("\n".join(damage(part.read_text().splitlines())) + "\n")
    with pytest.raises(UserError, match=r"abc-001\.csv: (damaged|unreadable) \(.*; remove it"):
        run_it(tmp_path, Guess(videos), settings, resume=True)


@pytest.mark.parametrize("content", ["null", "[]", "3", '"a"'])
def test_settings_that_are_none_are_named(content, videos, unfinished):
    (unfinished / "session.json").write_text(content)
    with pytest.raises(UserError, match=r"session\.json: contains no settings"):
        run_it(unfinished, Guess(videos), resume=True, provenance={"checkpoint": "sha256 1"})


def test_damaged_files_are_named(videos, unfinished):
    provenance = {"checkpoint": "sha256 1"}
    (unfinished / "samples" / "abc-001.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"abc-001\.csv: unreadable"):
        run_it(unfinished, Guess(videos), resume=True, provenance=provenance)
    (unfinished / "session.json").write_text("{")
    with pytest.raises(UserError, match=r"session\.json: unreadable"):
        run_it(unfinished, Guess(videos), resume=True, provenance=provenance)


@contextlib.contextmanager
def process(target, *arguments):
    """A forked process, for as long as the block lasts."""
    forked = FORK.Process(target=target, args=arguments)
    forked.start()
    try:
        yield forked
    finally:
        forked.kill()
        forked.join()


def hold(folder, rank, processes, ready):
    with ProcessWatchdog(folder, rank, processes):
        ready.set()
        time.sleep(600)


def watch(folder, rank, processes, output, seen):
    with Path(output).open("w") as sys.stderr, ProcessWatchdog(folder, rank, processes) as peers:
        peers.watch()
        while len(peers._seen) < processes - 1:
            time.sleep(0.05)
        seen.set()
        time.sleep(600)


def test_a_lost_process_ends_the_others_with_a_message(tmp_path):
    ready, seen = FORK.Event(), FORK.Event()
    with process(hold, tmp_path, 1, 3, ready) as lost:
        ready.wait(300)
        with (
            ProcessWatchdog(tmp_path, 2, 3),
            process(watch, tmp_path, 0, 3, tmp_path / "said", seen) as other,
        ):
            assert seen.wait(300)
            assert other.is_alive()
            lost.kill()
            other.join(300)
            assert other.exitcode == 1
            for number in (0, 1):  # else this process would end, too
                (tmp_path / f"process-{number}.lock").unlink()
    said = (tmp_path / "said").read_text()
    assert "process 1 of 3 was lost" in said
    assert "go on with resume=true" in said
    assert len(said.strip().splitlines()) == 1


def start_two(folder, videos, command, output):
    """The first of two processes of an evaluation, whose second one is another command."""
    with (
        Path(output).open("w") as sys.stderr,
        mock.patch.object(subprocess_script, "_basic_subprocess_cmd", return_value=command),
    ):
        trainer = pl.Trainer(
            logger=False, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False
        )
        evaluate(Guess(videos), videos, SETTINGS, folder, trainer)


def test_a_process_lost_before_the_first_sample(videos, tmp_path):
    """Lightning would kill the first process without a word, with status 137."""
    said = tmp_path / "said"
    second = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with process(start_two, tmp_path / "run", videos, second, said) as first:
        first.join(120)
        assert first.exitcode == 1
    message = "error: process 1 of 2 was lost. The samples completed so far are kept; go on with resume=true"
    assert said.read_text().count(message) == 1
    run_it(tmp_path / "run", Guess(videos), resume=True)
    assert (tmp_path / "run" / "report.csv").exists()


def test_those_that_have_left_are_not_missed(tmp_path):
    ready = FORK.Event()
    with process(hold, tmp_path, 5, 6, ready) as stale:  # of a run of six that was killed
        ready.wait(300)
        stale.kill()
        stale.join()
    with ProcessWatchdog(tmp_path, 1, 2):
        pass  # waits for nobody: number 0 is not there
    with ProcessWatchdog(tmp_path, 0, 2) as peers:
        peers.watch()
    assert not list(tmp_path.glob("*.lock"))


def test_two_runs_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("ivos.runtime.process_watchdog.PATIENCE", 0.2)
    ready = FORK.Event()
    with process(hold, tmp_path / "samples", 0, 1, ready):
        ready.wait(300)
        with pytest.raises(UserError, match="another run uses this folder"):
            ProcessWatchdog(tmp_path / "samples", 0, 1)
    ProcessWatchdog(tmp_path / "samples", 0, 1)  # its end is the end of it


def test_resume_needs_a_folder(videos, tmp_path, monkeypatch, capsys):
    from hydra.core.global_hydra import GlobalHydra

    from ivos.evaluation.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evaluate.py", *TINY, f"data.root={videos.root}", "resume=true"])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "hydra.run.dir=FOLDER" in capsys.readouterr().err


def test_threads_are_set_for_the_sessions_and_recorded(videos, tmp_path):
    before, seen = torch.get_num_threads(), []

    class Counting(Guess):
        def interact(self, frame, strokes):
            seen.append(torch.get_num_threads())
            return super().interact(frame, strokes)

    run_it(tmp_path, Counting(videos), threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    assert json.loads((tmp_path / "session.json").read_text())["threads"] == before + 1
    with pytest.raises(UserError, match="threads"):
        run_it(tmp_path, Guess(videos), threads=before + 2, resume=True)


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(run, videos, tmp_path):
    arguments = [*TINY, f"data.root={videos.root}", "session.max_interactions=2", "device=cpu"]
    arguments += ["threads=2"]
    status, output, two = run(*arguments, "trainer.devices=2", folder=tmp_path / "two")
    assert status == 0, output
    assert output.count("UNTRAINED") == output.count("R-AUC") == 1
    for noise in ("Warning", "warn", "GLOBAL_RANK", "Traceback", "process_group"):
        assert noise not in output, output
    status, output, one = run(*arguments, folder=tmp_path / "one[b]")
    assert status == 0, output
    assert f"curve: {one}" in output  # brackets are no markup
    assert without_times(two) == without_times(one)
    assert (two / "metrics.csv").exists()
    assert not list(two.rglob("*.lock"))


@pytest.mark.slow
def test_one_two_and_four_processes_give_one_report(run, videos, tmp_path):
    """To the byte, times apart, with more than one thread in each."""
    arguments = [*TINY, f"data.root={videos.root}", "session.max_interactions=3", "device=cpu"]
    found = []
    for processes in (1, 2, 4):
        folder = tmp_path / str(processes)
        status, output, _ = run(*arguments, "threads=2", f"trainer.devices={processes}", folder=folder)
        assert status == 0, output
        assert json.loads((folder / "session.json").read_text())["threads"] == 2
        found.append(without_times(folder))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_more_processes_than_samples_and_two_metrics(run, videos):
    arguments = [*TINY, f"data.root={videos.root}", "data.sequences=[one]", "session.metric=[J,F]"]
    status, output, folder = run(*arguments, "device=cpu", "trainer.devices=2")
    assert status == 0, output
    assert "warn" not in output.lower(), output
    for metric in "JF":
        assert len(pd.read_csv(folder / metric / "report.csv")) == 8 * 2
    assert {"J/auc", "F/auc"} <= set(pd.read_csv(folder / "metrics.csv").columns)


def test_spawned_processes_are_refused(videos, tmp_path):
    trainer = pl.Trainer(logger=False, accelerator="cpu", devices=2, strategy="ddp_spawn")
    with pytest.raises(UserError, match=r"trainer\.strategy"):
        evaluate(Guess(videos), videos, SETTINGS, tmp_path / "run", trainer)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun_makes_one_folder(videos, tmp_path):
    """Without hydra.run.dir: each process would name it after its own clock."""
    launcher = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command = [sys.executable, "-m", *launcher, str(ROOT / "evaluate.py")]
    arguments = [*TINY, f"data.root={videos.root}", "session.max_interactions=1", "device=cpu"]
    done = subprocess.run(
        [*command, *arguments, "trainer.devices=2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "outputs/evaluate").iterdir()
    assert len(list((folder / "samples").iterdir())) == 6
    assert (folder / "report.csv").exists()


@contextlib.contextmanager
def started(folder, *arguments):
    """evaluate.py at work in its own process group, from when its samples' folder is there."""
    with (folder.parent / "output").open("a") as output:
        program = subprocess.Popen(
            [sys.executable, str(ROOT / "evaluate.py"), f"hydra.run.dir={folder}", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder.parent,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            while program.poll() is None and not list(folder.glob("samples/process-*.lock")):
                time.sleep(0.05)
            yield program
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()


def written(folder):
    """Bytes of the samples' reports so far."""
    sizes = 0
    for path in folder.glob("samples/*.csv"):
        with contextlib.suppress(FileNotFoundError):  # complete by now
            sizes += path.stat().st_size
    return sizes


@pytest.mark.slow
def test_the_program_killed_five_times_over(run, videos, tmp_path):
    """At random moments of its work, one and two processes by turns; two finish what is left."""
    arguments = [*TINY, f"data.root={videos.root}", "session.max_interactions=12", "device=cpu"]
    folder, rng = tmp_path / "killed", random.Random(0)
    for number in range(5):
        options = [f"trainer.devices={1 + number % 2}", f"resume={number > 0}"]
        with started(folder, *arguments, *options) as program:
            enough = written(folder) + rng.randrange(20_000)  # of about 150,000
            while program.poll() is None and written(folder) < enough:
                time.sleep(0.01)
            assert program.poll() in (None, 0), (tmp_path / "output").read_text()
    status, output, _ = run(*arguments, "trainer.devices=2", "resume=true", folder=folder)
    assert status == 0, output
    status, output, one = run(*arguments, folder=tmp_path / "one")
    assert status == 0, output
    assert without_times(folder) == without_times(one)


@pytest.mark.slow
def test_the_second_program_lost_while_it_starts(run, videos, tmp_path, monkeypatch):
    arguments = ["segmenter=mine", "segmenter._target_=tests.support.held.Held", "device=cpu"]
    arguments += [f"data.root={videos.root}", "session.max_interactions=1", "trainer.devices=2"]
    monkeypatch.setenv("LOST", "1")
    status, output, folder = run(*arguments)
    assert status == 1, output
    assert output.count("error: process 1 of 2 was lost") == 1
    monkeypatch.delenv("LOST")
    status, output, _ = run(*arguments, "resume=true", folder=folder)
    assert status == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_lost_in_the_middle_of_its_share(run, videos, tmp_path, victim, monkeypatch):
    arguments = ["segmenter=mine", "segmenter._target_=tests.support.held.Held", "device=cpu"]
    arguments += [f"data.root={videos.root}", "session.max_interactions=4"]
    folder = tmp_path / "killed"
    monkeypatch.setenv("HELD", "1")
    with started(folder, *arguments, "trainer.devices=2") as program:
        while program.poll() is None and len(list(folder.glob("samples/*.tmp.csv"))) < 2:
            time.sleep(0.05)
        assert program.poll() is None, (tmp_path / "output").read_text()
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        os.kill(program.pid if victim == 0 else int(children[0]), signal.SIGKILL)
        program.wait(300)
        deadline = time.monotonic() + 300
        while not (tmp_path / "output").read_text().count("was lost") and time.monotonic() < deadline:
            time.sleep(0.1)
    assert f"error: process {victim} of 2 was lost" in (tmp_path / "output").read_text()
    monkeypatch.delenv("HELD")
    status, output, _ = run(*arguments, "resume=true", folder=folder)
    assert status == 0, output
    assert (folder / "report.csv").exists()
