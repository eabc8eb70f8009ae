"""A small folder in DAVIS layout and a way to run evaluate.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ivos.networks import ATNet
from ivos.video.palette import write_labels

ROOT = Path(__file__).parents[2]
TINY = ["checkpoint=untrained", "model.width=4", "model.depths=[1,1,1,1]", "model.decoder_width=8"]


def draw(root: Path, name: str, size=(50, 40), frames=3, objects=2, scribbles=(0,), split="val") -> None:
    """Discs that wander over noise; one scribble file for each frame index in ``scribbles``."""
    rng = np.random.default_rng(len(name))
    (images := root / "JPEGImages/480p" / name).mkdir(parents=True)
    (masks := root / "Annotations/480p" / name).mkdir(parents=True)
    (lists := root / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    with (lists / f"{split}.txt").open("a") as file:
        file.write(f"{name}\n")
    width, height = size
    yx = np.indices((height, width))
    for t in range(frames):
        labels = np.zeros((height, width), np.uint8)
        for label in range(1, objects + 1):
            centre = height / 2 + t, width * label / (objects + 1) + 2 * t
            labels[(yx[0] - centre[0]) ** 2 + (yx[1] - centre[1]) ** 2 < (height / 5) ** 2] = label
        frame = np.where(
            labels[..., None] > 0, labels[..., None] * 80, rng.integers(0, 60, (height, width, 3))
        )
        cv2.imwrite(str(images / f"{t:05d}.jpg"), frame.astype(np.uint8))
        write_labels(masks / f"{t:05d}.png", labels)
    for number, annotated in enumerate(scribbles, start=1):
        (folder := root / "Scribbles" / name).mkdir(parents=True, exist_ok=True)
        strokes = [
            {"path": [[x := label / (objects + 1), 0.5], [x + 0.05, 0.55]], "object_id": label}
            for label in range(1, objects + 1)
        ]
        content = [strokes if t == annotated else [] for t in range(frames)]
        path = folder / f"{number:03d}.json"
        path.write_text(json.dumps({"scribbles": content, "sequence": name}))


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
    """Run evaluate.py on the command line: ``run(*overrides)`` gives (exit status, output, run folder)."""

    def run_it(*overrides: str, folder: Path | None = None) -> tuple[int, str, Path]:
        folder = folder or tmp_path / "run"
        command = [sys.executable, str(ROOT / "evaluate.py"), f"hydra.run.dir='{folder}'", *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
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
