"""Whole sessions on the real frames against the official evaluator in its own Python 3.7."""

import json
from unittest import mock

import numpy as np
import pytest

from data.davis import DavisFolder
from ivos.evaluation import Session, SessionSettings


def predictions(name: str, truth: np.ndarray, number: int) -> np.ndarray:
    """The predictions of the golden sessions: the first frame's ground truth, rolled ever less."""
    d = 16 // number
    masks = np.where(truth == 255, 0, truth)
    masks[0] = np.roll(masks[0], (d, -d), (0, 1))
    masks[1] = np.roll(masks[1], (-2 * d, d) if name == "bear" else (d // 2, d), (0, 1))
    return masks


@pytest.fixture(params=["J", "J_AND_F"])
def sessions(request, golden, real_data, tmp_path):
    metric = request.param
    prefix = f"session_{metric}/"
    arrays = {k.removeprefix(prefix): v for k, v in golden("davis").items() if k.startswith(prefix)}
    settings = SessionSettings(metric=metric, max_interactions=4, max_time=None)
    session = Session(DavisFolder(real_data / "davis", "train"), metric, settings, tmp_path)
    annotated = []
    with session:
        for asked in session.requests():
            masks = predictions(asked.video.name, asked.video.load_annotations(), asked.round)
            with mock.patch("davisinteractive.session.session.time.time", return_value=0.25):
                session.interaction_start_time = 0.0
                session.sample_start_time = 0.0
                session.submit_masks(masks)
            annotated.append([asked.video.name, asked.round, [asked.frame]])
    return {key: json.loads(str(value)) for key, value in arrays.items()}, session, annotated, tmp_path


def test_session(sessions):
    expected, session, annotated, folder = sessions
    assert annotated == expected["annotated"]
    report = session.get_report()
    found = report[expected["columns"]].values.tolist()
    assert [row[:5] for row in found] == [row[:5] for row in expected["report"]]
    assert np.abs(np.array([r[5:] for r in found]) - [r[5:] for r in expected["report"]]).max() <= 1e-12
    summary = session.write_summary()
    assert summary == json.loads((folder / "summary.json").read_text())
    metric = session.metric
    np.testing.assert_allclose(summary["curve"][metric], expected["curve"], rtol=0, atol=1e-12)
    reference = expected["summary"]
    assert summary["auc"] == pytest.approx(reference["auc"], abs=1e-12)
    assert summary["metric_at_threshold"] == pytest.approx(reference["metric_at_threshold"], abs=1e-12)
    assert summary["curve"]["time"] == reference["curve"]["time"]
    assert sorted(path.name for path in folder.iterdir()) == ["report.csv", "summary.json"]
