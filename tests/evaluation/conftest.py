"""A small folder in DAVIS layout and a way to run evaluate.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ivos.networks import ATNet
from tests.support.discs import draw
from tests.support.programs import Program

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def keep_capture_open():
    """absl's log handler closes the stream it was made on, which would be pytest's own."""
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def layout(tmp_path_factory) -> Path:
    """Two sequences: ``discs`` with two scribble files, ``one`` with none, of odd sizes."""
    root = tmp_path_factory.mktemp("davis")
    draw(root, "discs", scribbles=(0, 2))
    draw(root, "one", size=(31, 20), frames=2, objects=1, scribbles=())
    return root


@pytest.fixture
def run(tmp_path):
    """Run evaluate.py: ``run(*overrides)`` gives (exit status, output, run folder).

    Its process is forked; ``anew=True`` starts it as the command line does, with all its imports, and so does
    ``trainer.devices``, of whose processes Lightning starts the others by that command.
    """

    def run_it(*overrides: str, folder: Path | None = None, anew: bool = False) -> tuple[int, str, Path]:
        folder = folder or tmp_path / "run"
        arguments = [f"hydra.run.dir='{folder}'", *overrides]
        if not anew and not any(one.startswith("trainer.devices=") for one in overrides):
            with Program("evaluate.py", arguments, tmp_path, COLUMNS="120") as program:
                return program.end(), program.said(), folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        command = [sys.executable, str(ROOT / "evaluate.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        return done.returncode, done.stdout + done.stderr, folder

    return run_it


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network whose masks are neither empty nor full."""
    torch.manual_seed(1)
    network = ATNet(width=4, depths=(1, 1, 1, 1), decoder_width=8)
    for part in (network.anet, network.tnet):
        part.decoder.head[-1].bias.data += 1.5
        part.decoder.head[-1].weight.data *= 4
    path = tmp_path_factory.mktemp("net") / "net.pt"
    network.save(path)
    return path
