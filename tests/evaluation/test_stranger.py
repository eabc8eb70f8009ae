"""Tests of the wheel in a new environment, with a user's segmenter and every protocol."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.discs import draw

from .conftest import ROOT

PROTOCOLS = {  # with their options
    "davis": ["session.max_interactions=2"],
    "davis_clicks": ["session.max_interactions=2"],
    "davis_confident": ["session.max_interactions=2"],
    "sam2_offline": [],
    "sam2_online": [],
    "first_mask": [],
}
UV = shutil.which("uv")

MINE = '''
import numpy as np


class Mine:
    """Every frame gets the mask of the frame that was given, or discs of the prompts."""

    prompts = ("clicks",)

    def start(self, frames, num_objects):
        self.masks = np.zeros(frames.shape[:3], np.uint8)

    def interact(self, frame, prompts):
        height, width = self.masks.shape[1:]
        for click in prompts:
            x, y = int(click["point"][0] * width), int(click["point"][1] * height)
            value = click["object_id"] * click["positive"]
            self.masks[:, max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = value
        return self.masks.copy()

    def adopt(self, frame, labels):
        self.masks[:] = labels
        return labels

    def confidence(self):
        return np.full(len(self.masks), 0.5, np.float32)
'''


def call(*command, folder, environment):
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(UV is None, reason="makes the environment with uv")
def test_a_stranger_evaluates_a_model_by_every_protocol(tmp_path):
    hatch = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(hatch, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        variables.pop(name, None)
    work = tmp_path / "work"
    work.mkdir()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    call(UV, "venv", "-q", "--python", version, tmp_path / "env", folder=work, environment=variables)
    programs = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    extra = f"ivos[evaluate] @ {wheel.as_uri()}"
    call(
        UV, "pip", "install", "-q", "--python", programs / "python", extra, folder=work, environment=variables
    )
    draw(tmp_path / "set", "discs", frames=4)
    draw(tmp_path / "set", "one", objects=1, scribbles=())
    (work / "mine.py").write_text(MINE)
    for protocol, options in PROTOCOLS.items():
        said = call(
            programs / "ivos-evaluate", "segmenter=mine", f"protocol={protocol}",
            f"data.root={tmp_path / 'set'}", *options, f"hydra.run.dir={work / protocol}", "device=cpu",
            folder=work, environment=variables,
        )  # fmt: skip
        assert "computed by ivos" in said
        summary = json.loads((work / protocol / "summary.json").read_text())
        assert summary["computed_by"] == "ivos"  # davisinteractive is not installed
        assert 0 < summary["auc"] <= 1
    first = json.loads((work / "first_mask/protocol.json").read_text())
    assert first["semi_supervised_j_and_f"] > 0.3
    assert "calibration_error" in json.loads((work / "davis_confident/protocol.json").read_text())
    board = [programs / "python", "-m", "ivos.evaluation.leaderboard", *[work / name for name in PROTOCOLS]]
    said = call(*board, "--output", work / "board", folder=work, environment=variables)
    assert said.count("| Mine |") == len(PROTOCOLS)
    assert Path(work / "board/leaderboard.html").stat().st_size > 10_000
