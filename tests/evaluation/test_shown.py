"""Tests that the output of an evaluation fits 80 columns and that log files have whole lines."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf
from rich.console import Console

from ivos.data.datasets.davis import DavisFolder
from ivos.evaluation import SessionProgress, SessionSettings, summary_table
from ivos.evaluation.comparison import compare, comparison_table
from ivos.evaluation.module import DecodedSamples, sample_loader
from ivos.evaluation.progress import session_trainer
from ivos.evaluation.report import round_rows
from ivos.segmenters import DilatedStrokes
from ivos.session import Sample, ScoredRound, all_samples
from ivos.video.clip import Clip
from tests.support.discs import draw


def shown(renderable, width=80):
    """Its lines on a console that is no terminal."""
    output = io.StringIO()
    Console(file=output, width=width, highlight=False).print(renderable)
    return output.getvalue().splitlines()


def numbers(lines):
    return re.findall(r"\d+\.\d+", "\n".join(lines))


def summary(metric, rounds):
    values = [0.0, *np.linspace(0.7411, 0.8652, rounds)]
    time = [1234.56 * n for n in range(rounds + 1)]
    return {
        "auc": 0.8552,
        "metric_at_threshold": {"threshold": 60, metric: 0.8652},
        "curve": {"time": [*time, 5e5], metric: [*values, values[-1]]},
    }


@pytest.mark.parametrize("rounds", [1, 8, 16])
def test_summary_table(rounds):
    lines = shown(summary_table({metric: summary(metric, rounds) for metric in ("J", "F", "J_AND_F")}))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for number in range(1, rounds + 1):
        (row,) = [line for line in lines if f"round {number} " in line]
        assert len(numbers([row])) == 6
    assert "0.741" in "".join(lines)
    assert "1234.56" in "".join(lines)
    assert "J&F" in "".join(lines)


@pytest.mark.parametrize("rounds", [1, 8, 16])
def test_comparison_table(rounds):
    names = [
        "trained",
        "untrained",
        "strokes dilated, nothing propagated",
        "annotated mask copied to all frames",
    ]
    columns = [f"round {n}" for n in range(1, rounds + 1)] + ["propagated 1", f"propagated {rounds}"]
    scores = pd.DataFrame(0.1234, index=names, columns=list(dict.fromkeys(columns)))
    lines = shown(comparison_table(scores))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert len(numbers(lines)) == scores.size


def test_comparison(tmp_path):
    """The frames that were annotated are those of the session."""
    draw(tmp_path, "discs", scribbles=(0, 2))
    settings = SessionSettings(metric="F", max_interactions=3, max_time=1e-9)
    trainers = []

    def trainer():
        trainers.append(pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False))
        return trainers[-1]

    segmenters = {"thick, strokes": DilatedStrokes(), "thin": DilatedStrokes(0.02)}
    scores = compare(segmenters, DavisFolder(tmp_path), settings, tmp_path, trainer)
    assert list(scores.index) == list(segmenters)
    assert list(scores.columns) == ["round 1", "round 2", "round 3", "propagated 1", "propagated 3"]
    report = pd.read_csv(tmp_path / "thick_strokes/report.csv", index_col=0)
    means = report.groupby("interaction")["jaccard"].mean()
    assert scores.loc["thick, strokes", ["round 1", "round 2", "round 3"]].tolist() == pytest.approx(
        means.tolist()
    )
    first = report[report["interaction"] == 1]
    propagated = first[first["frame"] != first["scribble_idx"].map({1: 0, 2: 2})]["jaccard"].mean()
    assert scores.loc["thick, strokes", "propagated 1"] == pytest.approx(propagated)
    assert scores.loc["thick, strokes", "propagated 1"] < scores.loc["thick, strokes", "round 1"]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress(tmp_path, terminal, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    draw(tmp_path, "a-sequence-of-a-rather-long-name", scribbles=(0,))
    progress = SessionProgress()
    trainer = pl.Trainer(logger=False, accelerator="cpu", callbacks=[progress])
    settings = SessionSettings(metric="J", max_interactions=16)
    compare({"thick": DilatedStrokes()}, DavisFolder(tmp_path), settings, tmp_path, lambda: trainer)
    lines = capsys.readouterr().out.splitlines()
    if not terminal:
        (line,) = [line for line in lines if line.startswith("sample")]
        assert line.startswith("sample 1/1 a-sequence-of-a-rather-long-name (1): J 0.")
        assert len(numbers([line])) == 16
        return
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    (last,) = [line for line in plain if "16/16" in line][-1:]
    assert len(last) <= 80
    assert "a-sequence-of-a-rather-…" in last
    assert re.search(r"J 0\.\d{3} to 0\.\d{3}", last)


def test_rows_of_what_is_not_known_are_left_out():
    sample = Sample(
        Clip("late", np.zeros((3, 4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.uint8), 2, (0, 2)), 7
    )
    jaccard = np.array([[0.1, np.nan], [0.2, np.nan], [0.3, 0.4]])
    rows = round_rows(sample, ScoredRound(5, 0, [], sample.clip.labels, jaccard, jaccard / 2, 1.5), "seed-0")
    columns = "session_id sequence scribble_idx interaction object_id frame jaccard contour j_and_f timing"
    assert list(rows.columns) == columns.split()
    assert rows[["object_id", "frame", "jaccard"]].values.tolist() == [
        [1, 0, 0.1], [1, 1, 0.2], [1, 2, 0.3], [2, 2, 0.4],
    ]  # fmt: skip
    assert rows["j_and_f"].tolist() == [0.5 * j + 0.5 * j / 2 for j in rows["jaccard"]]


def test_the_next_sample_is_read_ahead(tmp_path):
    draw(tmp_path, "discs", scribbles=(0, 2))
    draw(tmp_path, "one", size=(31, 20), frames=2, objects=1, scribbles=())
    samples = all_samples(DavisFolder(tmp_path))
    data = DecodedSamples(samples)
    assert data[0].clip.name == "discs"
    assert data._ahead[1].result().clip.name == "discs"
    assert data._ahead.keys() == {1}
    assert [sample.title for sample in sample_loader(samples)] == ["discs (1)", "discs (2)", "one (1)"]
    assert len(sample_loader([])) == 0


@pytest.mark.slow
def test_what_needs_davisinteractive_names_it():
    code = """
import sys
sys.modules["davisinteractive"] = None
import ivos.training.validation, ivos.evaluation.comparison, ivos.evaluation.run, ivos.evaluation.summary
import ivos.evaluation.official
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ivos.runtime.errors.UserError: the official summary needs the package davisinteractive"
    )
    assert last.endswith("docs/guides/evaluation.md explains its installation")


def test_progress_can_be_turned_off():
    options = OmegaConf.create(
        {"_target_": "pytorch_lightning.Trainer", "logger": False, "enable_progress_bar": False}
    )
    trainer = session_trainer(options, "cpu")
    assert not any(isinstance(each, SessionProgress) for each in trainer.callbacks)
