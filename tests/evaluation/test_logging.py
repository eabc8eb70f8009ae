"""Tests of what an evaluation logs, read back from its files."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.wandb_records import OfflineRun


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """Nobody is logged in to W&B."""
    for name in ("WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "of_wandb"))


@pytest.mark.slow
def test_an_evaluation_is_logged_in_three_ways(run, layout, checkpoint, nobody):
    options = [
        f"checkpoint={checkpoint}",
        f"data.root={layout}",
        "session.max_interactions=2",
        "session.metric=J",
    ]
    status, output, folder = run(*options, "save_overlays=true", "logger=[csv,tensorboard,wandb]", anew=True)
    assert status == 0, output
    assert [line for line in output.splitlines() if "W&B" in line or "wandb:" in line] == [
        "W&B: not logged in (`wandb login` does that), so this run is logged offline; upload it with "
        f"`wandb sync {folder}/wandb/offline-run-*`"
    ]
    summary = json.loads((folder / "summary.json").read_text())
    report = pd.read_csv(folder / "report.csv", index_col=0)
    figures = {"J/auc": summary["auc"]} | {f"J/round_{n}": summary["curve"]["J"][n] for n in (1, 2)}
    sequences = report.groupby(["sequence", "interaction"])["jaccard"].mean()
    assert pd.read_csv(folder / "sequences.csv").set_index("sequence")["round-2"].to_dict() == pytest.approx(
        sequences.xs(2, level="interaction").to_dict()
    )

    run_of = OfflineRun(folder / "wandb")
    logged = {key: value for row in run_of.rows() for key, value in row.items()}
    assert {name: logged[name] for name in figures} == pytest.approx(figures)
    assert run_of.config()["checkpoint"] == str(checkpoint)
    assert run_of.config()["git"]
    (table,) = map(json.loads, (path.read_text() for path in run_of.media("J/rounds")))
    assert table["columns"] == ["round", "J", "seconds"]
    assert [row[:2] for row in table["data"]] == [[n, pytest.approx(figures[f"J/round_{n}"])] for n in (1, 2)]
    (table,) = map(json.loads, (path.read_text() for path in run_of.media("J/sequences")))
    assert [row[0] for row in table["data"]] == ["discs", "one"]
    assert table["data"][0][2] == pytest.approx(sequences["discs", 2])
    (curve,) = run_of.media("J/curve", "filenames")
    expected = np.asarray(Image.open(folder / "curve.png").convert("RGB"))
    assert np.array_equal(np.asarray(Image.open(curve)), expected)
    (video,) = run_of.media("J/overlays/discs", "videos")
    shown = cv2.VideoCapture(str(video))
    assert shown.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    first = cv2.imread(str(folder / "overlays/discs/001/02/00000.jpg")).astype(int)
    assert np.abs(shown.read()[1].astype(int) - first).mean() < 12  # the last round of the first sample
    kind, files = run_of.artifacts()[f"report-J-{run_of.id}"]
    assert kind == "evaluation"
    assert {"report.csv", "summary.json", "rounds.csv", "curve.png"} <= files

    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Scalars("J/auc")[0].value == pytest.approx(summary["auc"])
    assert events.Images("J/curve")[0].width == expected.shape[1]
    assert b"discs" in events.Tensors("J/sequences/text_summary")[0].tensor_proto.string_val[0]
    rows = pd.read_csv(folder / "metrics.csv")
    assert rows["J/round_2"].item() == pytest.approx(figures["J/round_2"])


@pytest.mark.slow
def test_a_resumed_evaluation_is_the_same_run_and_logs_once(run, layout, checkpoint, nobody):
    options = [f"checkpoint={checkpoint}", f"data.root={layout}", "session.max_interactions=1"]
    _, _, folder = run(*options, "logger=[csv,wandb]", anew=True)
    identity = (folder / "wandb_id.txt").read_text()
    status, output, _ = run(*options, "logger=[csv,wandb]", "resume=true", anew=True)
    assert status == 0, output
    assert (folder / "wandb_id.txt").read_text() == identity
    assert len(pd.read_csv(folder / "metrics.csv")) == 1
