"""Tests of signals to one or all processes, with workers and under SLURM."""

import os
import signal

import pytest
import torch

from ivos.runtime import signals
from ivos.runtime import subprocesses as children
from tests.support.discs import draw
from tests.support.programs import Program
from tests.support.tiny import MODEL, clips, stage

WHOM = ["first", "other", "all"]


def send(program, number, whom):
    first, *others = program.started()
    if whom == "all":
        os.killpg(first, number)
    else:
        os.kill(first if whom == "first" else others[0], number)


def training(root, folder, *more):
    endless = {"data.num_batches": 10**6}
    return [
        f"data.root={root}", f"hydra.run.dir={folder}", "~stages.tnet", "score=false", "logger=none", *MODEL,
        *stage("anet", **endless), "callbacks.last.every_n_train_steps=3", "device=cpu", *more,
    ]  # fmt: skip


def check(program, number, status, folder):
    """Status, one line, nothing else left."""
    assert status == 128 + number, program.said()
    (line,) = program.errors()
    assert line.startswith(f"error: ended by {signal.Signals(number).name}; go on with: "), line
    assert line.endswith(f"resume=true hydra.run.dir={folder}"), line
    assert "Traceback" not in program.said(), program.said()


@pytest.fixture(scope="module")
def small_clips(tmp_path_factory):
    return clips(tmp_path_factory.mktemp("clips"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGTERM, "first"), (signal.SIGHUP, "other"), (signal.SIGINT, "all")]
)
def test_two_processes_train_and_one_or_both_get_a_signal(number, whom, small_clips, tmp_path):
    folder = tmp_path / "run"
    arguments = training(small_clips, folder, "trainer.devices=2")
    with Program("train.py", arguments, tmp_path) as program:
        assert program.until((folder / "anet" / "last.ckpt").exists), program.said()
        before = torch.load(folder / "anet" / "last.ckpt", weights_only=True)["global_step"]
        send(program, number, whom)
        check(program, number, program.end(), folder)
    assert torch.load(folder / "anet" / "last.ckpt", weights_only=True)["global_step"] >= before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGHUP, "first"), (signal.SIGTERM, "other"), (signal.SIGINT, "all")]
)
def test_two_processes_evaluate_and_one_or_both_get_a_signal(number, whom, tmp_path, monkeypatch):
    monkeypatch.setenv("HELD", "1")
    root, folder = tmp_path / "videos", tmp_path / "run"
    draw(root, "discs", scribbles=(0, 2))
    arguments = [
        "segmenter=mine", "segmenter._target_=tests.support.held.Held", f"data.root={root}",
        f"hydra.run.dir={folder}", "device=cpu", "trainer.devices=2",
    ]  # fmt: skip
    with Program("evaluate.py", arguments, tmp_path) as program:
        assert program.until(lambda: len(list(folder.glob("samples/*.tmp.csv"))) == 2), program.said()
        send(program, number, whom)
        check(program, number, program.end(), folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGKILL])
def test_a_training_with_workers_under_slurm(number, small_clips, tmp_path, monkeypatch):
    """SIGUSR1 is what ``--signal=USR1@60`` sends; whatever comes, the workers are gone, too."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    folder = tmp_path / "run"
    arguments = training(small_clips, folder, "stages.anet.data.num_workers=2")
    with Program("train.py", arguments, tmp_path) as program:
        assert program.until((folder / "anet" / "last.ckpt").exists), program.said()
        assert len(program.started()) == 3
        send(program, number, "all")
        status = program.end()
        if number == signal.SIGKILL:
            assert status == -number
        else:
            check(program, number, status, folder)


def test_which_signals_are_handled(monkeypatch):
    """SIGUSR1 under SLURM alone; what nohup has the program ignore is ignored."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    try:
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signals.take_over()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        monkeypatch.setenv("SLURM_JOB_ID", "1")
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signals.take_over()
        assert {signal.getsignal(number) for number in signals.SIGNALS} == {signals._handle}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_process_of_torchrun_has_another_parent(monkeypatch):
    """What a program before it has left in the environment is not of its run."""
    for name, value in {"IVOS_PARENT": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    children.join_the_program()
    assert os.environ["IVOS_PARENT"] == str(os.getpid())
