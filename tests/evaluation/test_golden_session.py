"""Whole sessions on the real frames against the official evaluator in its own Python 3.7."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl

from ivos.data.datasets.davis import DavisFolder
from ivos.evaluation import SessionSettings, evaluate


def predictions(name: str, truth: np.ndarray, number: int) -> np.ndarray:
    """The predictions of the golden sessions: the first frame's ground truth, rolled ever less."""
    d = 16 // number
    masks = np.where(truth == 255, 0, truth)
    masks[0] = np.roll(masks[0], (d, -d), (0, 1))
    masks[1] = np.roll(masks[1], (-2 * d, d) if name == "bear" else (d // 2, d), (0, 1))
    return masks


class Golden:
    """Hands the golden predictions in, and notes what was asked."""

    def __init__(self, videos):
        self.videos, self.annotated = videos, []

    def start(self, frames, num_objects):
        (self.video,) = [v for v in self.videos if np.array_equal(v.load_frames(), frames)]
        self.round = 0

    def interact(self, frame, strokes):
        self.round += 1
        self.annotated.append([self.video.name, self.round, [frame]])
        return predictions(self.video.name, self.video.load_annotations(), self.round)


@pytest.fixture(params=["J", "J_AND_F"])
def sessions(request, golden, real_data, tmp_path, monkeypatch):
    metric = request.param
    prefix = f"session_{metric}/"
    arrays = {k.removeprefix(prefix): v for k, v in golden("davis").items() if k.startswith(prefix)}
    settings = SessionSettings(metric=metric, max_interactions=4, max_time=None)
    segmenter = Golden(DavisFolder(real_data / "davis", "train"))
    clock = itertools.count(0, 0.25)  # a round takes as long as from one look at the clock to the next
    monkeypatch.setattr("ivos.session.rounds.monotonic", lambda: next(clock))
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    summaries = evaluate(segmenter, segmenter.videos, settings, tmp_path, trainer)
    expected = {key: json.loads(str(value)) for key, value in arrays.items()}
    return expected, metric, summaries[metric], segmenter.annotated, tmp_path


def test_session(sessions):
    expected, metric, summary, annotated, folder = sessions
    assert annotated == expected["annotated"]
    report = pd.read_csv(folder / "report.csv", index_col=0, float_precision="round_trip")
    found = report[expected["columns"]].values.tolist()
    assert [row[:5] for row in found] == [row[:5] for row in expected["report"]]
    assert np.abs(np.array([r[5:] for r in found]) - [r[5:] for r in expected["report"]]).max() <= 1e-12
    assert summary == json.loads((folder / "summary.json").read_text())
    np.testing.assert_allclose(summary["curve"][metric], expected["curve"], rtol=0, atol=1e-12)
    reference = expected["summary"]
    assert summary["auc"] == pytest.approx(reference["auc"], abs=1e-12)
    assert summary["metric_at_threshold"] == pytest.approx(reference["metric_at_threshold"], abs=1e-12)
    assert summary["curve"]["time"] == reference["curve"]["time"]
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert files == [
        "curve.pdf",
        "curve.png",
        "curve.svg",
        "protocol.json",
        "report.csv",
        "rounds.csv",
        "sequences.csv",
        "session.json",
        "summary.json",
    ]
