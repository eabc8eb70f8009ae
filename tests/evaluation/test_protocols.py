"""Tests of evaluate.py with every protocol and segmenter on small folders."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from ivos.evaluation.score import score
from tests.support.discs import TINY
from tests.support.reports import without_times

from .conftest import ROOT

PROTOCOLS = ["davis", "davis_clicks", "sam2_offline", "sam2_online"]
MINE = ["segmenter=mine", "+segmenter.reach=3"]
ARGUMENTS = ["device=cpu", "logger=none"]


@pytest.fixture
def evaluated(tmp_path, monkeypatch, capsys, layout):
    """Run the program in this process: ``evaluated(*overrides)`` gives (exit status, output, run folder)."""
    from hydra.core.global_hydra import GlobalHydra

    from ivos.evaluation.main import main

    def run_it(*overrides: str, folder: str = "run") -> tuple[int, str, Path]:
        place = tmp_path / folder
        arguments = [f"hydra.run.dir={place}", f"data.root={layout}", *ARGUMENTS, *overrides]
        if not any(override.startswith("protocol=sam2") for override in overrides):
            arguments.append("session.max_interactions=2")
        monkeypatch.setattr("sys.argv", ["evaluate.py", *arguments])
        GlobalHydra.instance().clear()
        status = 0
        try:
            main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        output = capsys.readouterr()
        return status, output.out + output.err, place

    monkeypatch.syspath_prepend(str(ROOT / "docs/examples"))
    return run_it


@pytest.mark.parametrize(
    ("protocol", "segmenter"),
    [("davis_clicks", "copy"), ("sam2_offline", "flow"), ("sam2_online", "copy"), ("sam2_online", "mine")],
)
def test_from_the_command_line_and_again(evaluated, protocol, segmenter):
    """A run, and the same one again after a kill: one sample complete, another half done."""
    chosen = [f"protocol={protocol}", *(MINE if segmenter == "mine" else [f"segmenter={segmenter}"])]
    status, output, folder = evaluated(*chosen)
    assert status == 0, output
    assert "R-AUC" in output
    facts = json.loads((folder / "protocol.json").read_text())
    assert facts["protocol"] == protocol
    assert ("user_seconds" in facts) == protocol.startswith("sam2")
    report = pd.read_csv(folder / "report.csv", index_col=0)
    by_object = protocol.startswith("sam2")
    assert set(report["sequence"]) == ({"discs_1", "discs_2", "one_1"} if by_object else {"discs", "one"})
    assert len(json.loads((folder / "summary.json").read_text())["curve"]["J_AND_F"]) == (
        10 if by_object else 4
    )

    before, part = without_times(folder), sorted((folder / "samples").glob("*.csv"))[1]
    (folder / "report.csv").unlink()
    part.rename(part.with_name(f"{part.stem}.tmp.csv"))
    status, output, _ = evaluated(*chosen, "resume=true")
    assert status == 0, output
    assert without_times(folder) == before
    status, output, _ = evaluated(*chosen, "resume=true", "seed=1")
    assert status == 2
    assert "session.seed: 0 there, 1 now" in output


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sam2_from_a_folder_of_its_own(evaluated, tiny_sam2, tmp_path, protocol):
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    chosen = ["segmenter=sam2", f"segmenter.checkpoint={tmp_path / 'sam2'}", "device=cpu"]
    rounds = ["protocol.frames=2"] if protocol.startswith("sam2") else []
    status, output, folder = evaluated(f"protocol={protocol}", *chosen, *rounds)
    assert status == 0, output
    assert pd.read_csv(folder / "report.csv", index_col=0)["interaction"].max() == 2
    status, output, _ = evaluated(f"protocol={protocol}", "segmenter=sam2", folder="none")
    assert status == 2
    assert "segmenter.checkpoint: name a folder or a model of the hub" in output


def test_the_record_states_the_size_of_a_click(evaluated):
    status, output, folder = evaluated("protocol=davis_clicks", *TINY)
    assert status == 0, output
    assert json.loads((folder / "protocol.json").read_text())["click_radius"] == 0.04
    assert json.loads((folder / "session.json").read_text())["segmenter.click_radius"] == 0.04


def test_a_segmenter_that_cannot_be_imported(evaluated, monkeypatch):
    monkeypatch.setattr("sys.path", [path for path in sys.path if not path.endswith("examples")])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    status, output, _ = evaluated("segmenter=mine")
    assert status == 2
    assert "error: segmenter: mine.Mine cannot be imported" in output
    assert "No module named 'mine'" in output
    assert "PYTHONPATH" in output
    status, output, _ = evaluated("segmenter=mine", "segmenter._target_=ivos.segmenters.Mime")
    assert status == 2
    assert "ivos.segmenters.Mime cannot be imported" in output


def test_other_options_of_a_protocol_are_noticed(evaluated):
    status, output, folder = evaluated("protocol=sam2_online", "segmenter=copy")
    assert status == 0, output
    status, output, _ = evaluated(
        "protocol=sam2_online", "segmenter=copy", "protocol.clicks=2", "resume=true"
    )
    assert status == 2
    assert "protocol.clicks: 3 there, 2 now" in output
    status, output, _ = evaluated("protocol=sam2_online", "protocol.threshold=2", folder="other")
    assert status == 2
    assert "protocol.threshold: must be a number from 0 up to 1" in output
    assert not (folder.parent / "other/report.csv").exists()


@pytest.mark.parametrize(("protocol", "masks"), [("davis_clicks", "davis"), ("sam2_online", "per_object")])
def test_saved_masks_are_scored_as_the_report_says(evaluated, layout, protocol, masks):
    """In either layout, of every round, those that were not reached among them."""
    saved = ["save_masks=true", f"masks_layout={masks}"]
    status, output, folder = evaluated(f"protocol={protocol}", "segmenter=copy", *saved)
    assert status == 0, output
    report = pd.read_csv(folder / "report.csv", index_col=0)
    report = report[report["scribble_idx"] == 1]
    rounds = sorted((folder / "masks/001").iterdir())
    assert len(rounds) == (8 if protocol == "sam2_online" else 2)
    for number, place in enumerate(rounds, start=1):
        for one in score(place, layout / "Annotations/480p", ends=True, processes=1):
            name = f"{one.sequence}_{one.number}" if protocol == "sam2_online" else one.sequence
            rows = report[report["sequence"] == name]
            rows = rows[rows["interaction"] == min(number, rows["interaction"].max())]
            if protocol == "davis_clicks":
                rows = rows[rows["object_id"] == one.number]
            assert one.jaccard.mean == pytest.approx(rows["jaccard"].mean())
            assert one.f_measure.mean == pytest.approx(rows["contour"].mean())


def test_a_layout_that_there_is_not(evaluated):
    status, output, _ = evaluated("segmenter=copy", "masks_layout=coco")
    assert status == 2
    assert "masks_layout: must be one of davis, per_object" in output


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("segmenter", ["atnet", "flow", "copy", "mine"])
def test_every_protocol_with_every_segmenter(evaluated, protocol, segmenter):
    chosen = MINE if segmenter == "mine" else [f"segmenter={segmenter}"]
    status, output, folder = evaluated(f"protocol={protocol}", *chosen)
    assert status == 0, output
    report = pd.read_csv(folder / "report.csv", index_col=0)
    assert report["j_and_f"].between(0, 1).all()
    assert not list(folder.rglob("*.tmp*"))


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(run, layout, tmp_path):
    arguments = [f"data.root={layout}", "protocol=sam2_online", "segmenter=flow", "device=cpu"]
    status, output, two = run(*arguments, "trainer.devices=2", folder=tmp_path / "two")
    assert status == 0, output
    assert output.count("R-AUC") == 1
    status, output, one = run(*arguments, folder=tmp_path / "one")
    assert status == 0, output
    assert without_times(two) == without_times(one)
    assert not list(two.rglob("*.lock"))
