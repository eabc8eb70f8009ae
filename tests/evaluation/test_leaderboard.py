"""Tests of the leaderboard: numbers, order, runs that cannot be compared, files."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ivos.evaluation.leaderboard import main


@pytest.fixture
def make(tmp_path):
    def run(name, rounds, protocol="davis", **options):
        folder = tmp_path / name
        folder.mkdir()
        time = np.cumsum([0.0] + [2.0] * len(rounds)).tolist()
        (folder / "protocol.json").write_text(json.dumps({"r_auc": 0.5, "protocol": protocol}))
        summary = {
            "auc": rounds[-1] - 0.01,
            "metric_at_threshold": {"threshold": 60, "J_AND_F": rounds[-1]},
            "curve": {"J_AND_F": [0, *rounds, rounds[-1]], "time": [*time, 240]},
        }  # fmt: skip
        settings = {"segmenter._target_": f"a.b.{name}", "session.seed": 0, "checkpoint": None, **options}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "session.json").write_text(json.dumps(settings))
        return folder

    return run


def test_table_order_and_reasons(make, tmp_path, capsys):
    folders = [
        make("Low", [0.2, 0.3]),
        make("High", [0.5, 0.6, 0.7], checkpoint="sha256 0123456789abcdef"),
        make("Seeded", [0.9], **{"session.seed": 1}),
        make("Clicks", [0.8], "sam2_online"),
        make("FlowSegmenter", [0.9], "sam2_online", **{"session.seed": 1}),
    ]
    (folders[1] / ".hydra").mkdir()
    (folders[1] / ".hydra/config.yaml").write_text("a: 1\ncheckpoint: weights/best.pt\n")
    assert main([*map(str, folders), "--output", str(tmp_path / "out")]) == 0
    rows = pd.read_csv(tmp_path / "out/leaderboard.csv").fillna("")
    # by protocol, what does not compare last
    assert list(rows["segmenter"]) == ["High", "Low", "Seeded", "Clicks", "flow"]
    assert list(rows["network"]) == ["best.pt", "", "", "", ""]
    reasons = dict(zip(rows["segmenter"], rows["not comparable"], strict=True))
    assert reasons["Seeded"] == "another seed"
    assert reasons["Clicks"] == "another protocol (sam2_online, not davis)"
    assert reasons["flow"] == "another protocol (sam2_online, not davis); another seed"
    assert not reasons["High"]
    best = rows.iloc[0]
    assert (best["round 3"], best["s 1"], best["weights"], best["R-AUC"]) == (0.7, 2.0, "0123456789ab", 0.5)
    columns = list(rows.columns)
    numbered = ["round 1", "round 3", "seconds", "s 1", "weights"]
    assert [columns.index(name) for name in numbered] == sorted(columns.index(name) for name in numbered)
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert capsys.readouterr().out == text
    head = text.splitlines()[0].strip("| ").split(" | ")
    assert head == [
        "run", "segmenter", "network", "protocol", "AUC", "R-AUC", "@60s", "round 1", "round 3", "seconds",
        "weights",
    ]  # fmt: skip
    assert "| Seeded (another seed) |" in text  # beside the row's name


def test_the_page_holds_curves_and_worst_frames(make, tmp_path):
    folder = make("One", [0.3, 0.4])
    Image.new("RGB", (4, 4)).save(folder / "curve.png")
    report = pd.DataFrame(
        {
            "sequence": "bear",
            "scribble_idx": 1,
            "interaction": 1,
            "object_id": 1,
            "frame": [0, 1],
            "j_and_f": [0.9, 0.1],
        }
    )
    report.to_csv(folder / "report.csv")
    place = folder / "overlays/bear/001/01"
    place.mkdir(parents=True)
    for t in (0, 1):
        Image.new("RGB", (4, 4)).save(place / f"{t:05d}.jpg")
    assert main([str(folder), "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out/leaderboard.html").read_text()
    assert "bear, frame 1: 0.10" in page
    assert page.count("data:image/") == 2
    assert "<svg" in page
    assert "http" not in page


def test_runs_in_folders_of_one_name_are_told_apart(make, tmp_path, capsys):
    """The folders of a suite are DATA_SET/PROTOCOL; the same run may be named twice."""
    for name in ("davis", "lvos"):
        (tmp_path / name).mkdir()
    folders = [str(make(f"{name}/first_mask", [0.4, 0.5])) for name in ("davis", "lvos")]
    assert main([*folders, folders[0], "--output", str(tmp_path / "out")]) == 0
    rows = [line.split(" | ")[0].strip("| ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == ["davis/first_mask", "lvos/first_mask", "davis/first_mask"]
    page = (tmp_path / "out/leaderboard.html").read_text()
    for name in ("davis/first_mask", "lvos/first_mask"):
        assert f"<h3>{name}: " in page
        assert f"</span> {name} " in page  # the legend of the curves


def test_what_is_no_run_is_named(tmp_path, make, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no summary.json; is it the folder of a finished run?" in capsys.readouterr().err
    folder = make("One", [0.3, 0.4])
    (folder / "session.json").write_text("{")
    assert main([str(folder)]) == 2
    assert "session.json: unreadable" in capsys.readouterr().err


def test_chosen_columns_and_external_rows(make, tmp_path, capsys):
    folders = [str(make("Low", [0.2, 0.3])), str(make("High", [0.5, 0.6, 0.7]))]
    published = tmp_path / "published.csv"
    published.write_text('name,source,metric,AUC,@60s\nMiVOS,"Cheng et al., 2021",J&F,.879,.885\n')
    assert main([*folders, "--external", str(published), "--columns", "AUC,round 2,source"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| run | AUC | round 2 | source |"
    assert lines[-1] == "| MiVOS (published) | 0.879 |  | Cheng et al., 2021 |"
    assert main([*folders, "--columns", "AUC,nosuch"]) == 2
    assert "--columns: no column nosuch; there are: run, segmenter" in capsys.readouterr().err
    assert main([*folders, "--columns", "all"]) == 0
    assert "s 1" in capsys.readouterr().out
    for text, reason in (
        ("name,AUC\nA,.5\n", "has no column source"),
        ("name,source,IoU\nA,B,.5\n", "'IoU' is not a column of the leaderboard"),
        ("name,source\n,B\n", "line 2: needs a name, a source"),
    ):
        published.write_text(text)
        assert main([*folders, "--external", str(published)]) == 2
        assert reason in capsys.readouterr().err


def test_latex(make, capsys):
    folders = [
        make("Low_net", [0.2, 0.3]),
        make("High", [0.5, 0.6]),
        make("Seeded", [0.9], **{"session.seed": 1}),
    ]
    assert main([*map(str, folders), "--latex"]) == 0
    text = capsys.readouterr().out
    assert "\\begin{tabular}{@{}ll" in text
    assert "Low\\_net" in text
    (high,) = [line for line in text.splitlines() if line.startswith("High ")]
    assert "\\textbf{0.590}" in high  # the best AUC of those that compare
    (seeded,) = [line for line in text.splitlines() if line.startswith("Seeded")]
    assert seeded.startswith("Seeded$^{a}$")
    assert "textbf" not in seeded
    assert "$^{a}$ another seed" in text
    assert len({line.count(" & ") for line in text.splitlines() if line.endswith("\\\\")}) == 1


def test_latex_of_protocols_and_published_rows(make, tmp_path, capsys):
    """A line for each protocol instead of a column; sources are notes; it compiles where LaTeX is there."""
    folders = [make("Low", [0.2, 0.3]), make("Clicks", [0.8], "sam2_online")]
    published = tmp_path / "published.csv"
    published.write_text('name,source,AUC\nMiVOS,"Cheng et al., 2021",.879\nIPN,"Oh et al., 2019",.691\n')
    assert main([*map(str, folders), "--external", str(published), "--latex"]) == 0
    text = capsys.readouterr().out
    assert "\\textit{davis}" in text
    assert "\\textit{sam2\\_online}" in text
    assert "another protocol" not in text
    (mivos,) = [line for line in text.splitlines() if line.startswith("MiVOS")]
    assert mivos.startswith("MiVOS$^{a}$")
    assert "0.879" in mivos
    assert "$^{a}$ published: Cheng et al., 2021" in text
    assert "$^{b}$ published: Oh et al., 2019" in text
    latex = shutil.which("pdflatex")
    if latex is None:
        return
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}"
    (tmp_path / "table.tex").write_text(f"{head}{text}\\end{{document}}")
    done = subprocess.run(
        [latex, "-interaction=nonstopmode", "-halt-on-error", "table.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()
    assert b"Overfull" not in done.stdout
