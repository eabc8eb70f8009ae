"""evaluate.py from the command line, on small folders."""

import itertools
import json
import re
from importlib.util import find_spec

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ivos.networks.shipped import FOLDER
from tests.support.discs import TINY, draw
from tests.support.reports import without_times

from .conftest import ROOT


def test_a_run_and_what_it_leaves(run, layout, checkpoint, tmp_path):
    arguments = [f"checkpoint={checkpoint}", f"data.root={layout}", "session.max_interactions=3"]
    status, output, folder = run(*arguments, "save_masks=true", "save_overlays=true", anew=True)
    assert status == 0, output
    assert "UNTRAINED" not in output
    assert "round 3" in output
    assert "AUC" in output
    for noise in ("Warning", "absl", "GPU available", "Tip"):
        assert noise not in output, output
    report = pd.read_csv(folder / "report.csv", index_col=0)
    columns = "session_id sequence scribble_idx interaction object_id frame jaccard contour j_and_f timing"
    assert list(report.columns) == columns.split()
    assert len(report) == 3 * (2 * 3 * 2 + 1 * 2 * 1)  # rounds x (samples x frames x objects)
    assert report["jaccard"].between(0, 1).all()
    assert report["jaccard"].nunique() > 5
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) == {"auc", "metric_at_threshold", "curve", "computed_by"}
    assert summary["computed_by"] == ("davisinteractive" if find_spec("davisinteractive") else "ivos")
    assert set(summary["curve"]) == {"time", "J_AND_F"}
    assert len(summary["curve"]["time"]) == 5
    rounds = pd.read_csv(folder / "rounds.csv")
    assert list(rounds.columns) == ["sequence", "obj_idx", "scr_idx", "round-1", "round-2", "round-3"]
    assert len(rounds) == 5
    first = report[(report.sequence == "discs") & (report.scribble_idx == 1) & (report.interaction == 1)]
    expected = first[first.object_id == 2]["j_and_f"].mean()
    assert rounds.query("sequence == 'discs' and obj_idx == 2 and scr_idx == 1")["round-1"].item() == (
        pytest.approx(expected)
    )
    logged = pd.read_csv(folder / "metrics.csv")
    assert logged["J_AND_F/auc"].item() == pytest.approx(summary["auc"], abs=1e-6)
    assert logged["J_AND_F/round_3"].item() == pytest.approx(summary["curve"]["J_AND_F"][3], abs=1e-6)
    assert cv2.imread(str(folder / "curve.png")).std() > 10
    assert not (folder / "report.tmp.csv").exists()
    mask = Image.open(folder / "masks/002/03/discs/00001.png")
    assert mask.mode == "P"
    assert mask.size == (50, 40)
    assert mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert len(list((folder / "masks").rglob("*.png"))) == 3 * (2 * 3 + 2)
    picture = cv2.imread(str(folder / "overlays/discs/002/03/00001.jpg"))
    assert picture.shape == (40, 50, 3)
    assert (folder / ".hydra/config.yaml").exists()

    again = run(*arguments, folder=tmp_path / "again")
    assert again[0] == 0
    assert without_times(again[2]) == without_times(folder)

    part = run(*arguments, "data.sequences=[one]", folder=tmp_path / "part")
    whole, alone = (pd.read_csv(f / "report.csv", index_col=0) for f in (folder, part[2]))
    same = whole[whole.sequence == "one"].drop(columns="timing").reset_index(drop=True)
    assert same.equals(alone.drop(columns="timing"))

    status, output, _ = run(*arguments)
    assert status == 2
    assert "already contains a report.csv" in output
    assert len(output.strip().splitlines()) == 1


def test_several_metrics_and_an_untrained_network(run, layout):
    arguments = [f"data.root={layout}", "data.sequences=[one]", "session.max_interactions=2"]
    status, output, folder = run(*TINY, *arguments, "session.metric=[J,F]", "session/robot=davis")
    assert status == 0, output
    assert "UNTRAINED" in output
    for metric in "JF":
        summary = json.loads((folder / metric / "summary.json").read_text())
        assert set(summary["curve"]) == {"time", metric}
        assert (folder / metric / "report.csv").exists()
    assert "min_nb_nodes: 4" in (folder / ".hydra/config.yaml").read_text()
    assert {"J/auc", "F/auc"} <= set(pd.read_csv(folder / "metrics.csv").columns)


def test_perfect_masks_go_on_without_strokes(layout, tmp_path):
    """The robot finds nothing to correct: the masks are repeated, and every round is scored."""
    import pytorch_lightning as pl

    from ivos.data.datasets.davis import DavisFolder
    from ivos.evaluation import SessionSettings, evaluate
    from ivos.evaluation.leaderboard import Run

    videos = DavisFolder(layout)

    class Oracle:
        calls = 0

        def start(self, frames, num_objects):
            (video,) = [v for v in videos if (v.num_frames, v.size[::-1]) == (len(frames), frames.shape[1:3])]
            self.truth = video.load_annotations()

        def interact(self, frame, strokes):
            self.calls += 1
            return self.truth

    oracle = Oracle()
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    settings = SessionSettings(metric="J", max_interactions=4)
    summary = evaluate(oracle, videos, settings, tmp_path, trainer)["J"]
    assert summary["curve"]["J"] == [0, 1, 1, 1, 1, 1]
    assert oracle.calls == 3  # the first round of each sample
    assert len(pd.read_csv(tmp_path / "report.csv")) == 4 * (2 * 3 * 2 + 1 * 2 * 1)
    assert Run.read(tmp_path).segmenter == "Oracle"


def test_time_out_keeps_what_was_scored(layout, tmp_path, monkeypatch):
    """A sample out of time goes no further; the summary carries its last round on, rounds.csv does not."""
    import pytorch_lightning as pl

    from ivos.data.datasets.davis import DavisFolder
    from ivos.evaluation import SessionSettings, evaluate

    clock = itertools.count()  # every look at the clock takes a second
    monkeypatch.setattr("ivos.session.rounds.monotonic", lambda: next(clock))

    class Nothing:
        def start(self, frames, num_objects):
            self.shape = frames.shape[:3]

        def interact(self, frame, strokes):
            return np.zeros(self.shape, np.uint8)

    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    settings = SessionSettings(metric="J", max_interactions=8, max_time=10)
    evaluate(Nothing(), DavisFolder(layout), settings, tmp_path, trainer)
    rounds = pd.read_csv(tmp_path / "rounds.csv").set_index(["sequence", "obj_idx", "scr_idx"])
    reached = rounds.notna().sum(axis=1)
    assert rounds.shape == (5, 8)
    assert 1 <= reached["one"].max() < 8
    assert reached["discs"].max() > reached["one"].max()  # twice the objects, twice the time
    assert len(json.loads((tmp_path / "summary.json").read_text())["curve"]["J"]) == 10


def spoiled(kind, tmp_path):
    """Arguments for a run that cannot work, and what must be said about it."""
    root = tmp_path / "davis"
    draw(root, "cat", objects=1)
    draw(root, "dog", objects=1)
    arguments = [f"data.root={root}"]
    if kind == "layout":
        return [f"data.root={tmp_path}"], ["not a folder in DAVIS layout"]
    if kind == "frames":
        (root / "JPEGImages/480p/cat/00001.jpg").unlink()
        (root / "JPEGImages/480p/dog/00000.jpg").write_bytes(b"\xff\xd8no picture")
        return arguments, ["cat/00001", "dog/00000.jpg"]
    if kind == "scribbles":
        path = root / "Scribbles/cat/001.json"
        path.write_text(path.read_text().replace('"cat"', '"dog"'))
        return arguments, ["001.json", "'dog'"]
    if kind == "checkpoint":
        (tmp_path / "net.pth").write_text("no network")
        return [*arguments, f"checkpoint={tmp_path / 'net.pth'}"], [
            "net.pth",
            "not a readable PyTorch checkpoint",
        ]
    return {
        "split": ([*arguments, "data.split=test"], ["no split 'test'; it has: val"]),
        "sequence": ([*arguments, "data.sequences=[cow]"], ["cow", "cat, dog"]),
        "metric": (
            [*arguments, "session.metric=K"],
            ["session.metric: must be one of J, F, J_AND_F, or a list", "got 'K'"],
        ),
        "rounds": ([*arguments, "session.max_interactions=17"], ["session.max_interactions", "1 to 16"]),
        "time": ([*arguments, "session.max_time=0"], ["session.max_time"]),
        "robot": ([*arguments, "session.robot.kernel_size=2"], ["session.robot.kernel_size"]),
        "seed": ([*arguments, "seed=-1"], ["seed: must be a whole number"]),
        "large_seed": ([*arguments, "seed=4294967296"], ["seed: must", "0 to 4294967295"]),
        "no_checkpoint": ([*arguments, "checkpoint="], ["checkpoint=", "checkpoint=untrained"]),
        "null_checkpoint": ([*arguments, "checkpoint=null"], ["checkpoint=", "checkpoint=untrained"]),
        "switch": ([*arguments, "save_masks=off"], ["save_masks: must be true or false", "'off'"]),
        "devices": (
            [*arguments, "trainer.devices=abc"],
            ["trainer.devices", "from 1", "'abc'"],
        ),
        "no_devices": ([*arguments, "trainer.devices=0"], ["trainer.devices", "a whole number from 1"]),
        "accelerator": ([*arguments, "device=tpu"], ["device: must be", "cpu"]),
        "no_gpu": ([*arguments, "device=cuda"], ["device=cuda, trainer: "]),
    }[kind]


KINDS = (
    "layout frames scribbles checkpoint split sequence metric rounds time robot seed large_seed "
    "no_checkpoint null_checkpoint switch devices no_devices accelerator no_gpu"
)


@pytest.mark.parametrize("kind", KINDS.split())
def test_bad_input_gets_a_clear_line_before_any_work(kind, tmp_path, monkeypatch, capsys):
    from hydra.core.global_hydra import GlobalHydra

    from ivos.evaluation.main import main

    arguments, said = spoiled(kind, tmp_path)
    folder = tmp_path / "run"
    # A checkpoint decides the model.
    tiny = [one for one in TINY if kind != "checkpoint" or not one.startswith("model.")]
    monkeypatch.setattr("sys.argv", ["evaluate.py", f"hydra.run.dir={folder}", *tiny, *arguments])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    output = capsys.readouterr()
    for text in said:
        assert text in output.err
    assert "Traceback" not in output.err
    assert not (folder / "report.csv").exists()
    assert not (folder / "report.tmp.csv").exists()


@pytest.mark.slow
def test_the_first_command_of_the_readme_ends_as_it_says(run):
    code, output, folder = run(anew=True)
    assert code == 0, output
    curve = json.loads((folder / "summary.json").read_text())["curve"]["J_AND_F"]
    for path in (ROOT / "README.md", FOLDER / "base.md"):
        said = re.findall(
            r"(\.\d{3}) after (?:the first round|round 1)\b.* (\.\d{3}) after", path.read_text()
        )
        assert [pytest.approx(float(value), abs=0.005) for value in said[0]] == [curve[1], curve[8]], path
