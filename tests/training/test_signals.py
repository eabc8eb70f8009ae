"""Tests of train.py after SIGTERM and SIGINT: exit status, resuming command, checkpoint."""

import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.support.tiny import MODEL, stage, start

ENDLESS = 10**5  # batches


def options(root, folder, batches, **more):
    return [
        "~stages.tnet", "score=false", "logger=none", f"data.root={root}",
        f"hydra.run.dir={folder}", *MODEL,
        *stage("anet", **{"data.num_batches": batches, **more}),
    ]  # fmt: skip


def at_work(process, folder):
    """Wait for the first checkpoint."""
    deadline = time.monotonic() + 300
    while not (folder / "anet" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_training_saves_and_says_how_to_go_on(number, status, root, tmp_path):
    folder = tmp_path / "run"
    given = options(root, folder, ENDLESS)
    process = start(tmp_path, *given, "callbacks.last.every_n_train_steps=3")
    at_work(process, folder)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    said, command = line.split("; go on with: ")
    assert said == f"error: ended by {number.name}"
    last = torch.load(folder / "anet" / "last.ckpt", weights_only=True)
    written = last["global_step"]
    before = torch.load(folder / "anet" / "last.previous.ckpt", weights_only=True)["global_step"]
    assert 3 <= before <= written < before + 3 + 1
    # The line works as it stands.
    resumed = subprocess.Popen(
        [sys.executable, *shlex.split(command)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while torch.load(folder / "anet" / "last.ckpt", weights_only=True)["global_step"] <= written:
        assert resumed.poll() is None, resumed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    resumed.terminate()
    assert resumed.wait(300) == 143
