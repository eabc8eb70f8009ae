"""Tests of the clock of a user study and of its files."""

import csv

import numpy as np
import pytest

from ivos.app import study
from ivos.app.server import Settings
from ivos.app.study import Times, clock, main
from ivos.runtime.errors import UserError
from ivos.video.palette import write_labels
from ivos.video.reader import open_source


def moments(*pairs):
    return [{"type": "study", "event": name, "at": 1000 * at} for name, at in pairs]


def test_the_clock_of_gui_ivos():
    events = moments(
        *(("press", 10), ("press", 11), ("run", 14), ("masks", 15), ("space", 20)),
        *(("press", 21), ("run", 22), ("masks", 25), ("satisfied", 31)),
    )
    assert clock(events) == [Times(4, 1, 5), Times(2, 3, 6)]


def test_drawing_that_was_never_run_and_what_follows_satisfied():
    events = moments(("press", 0), ("run", 1), ("masks", 2), ("press", 4), ("satisfied", 7), ("press", 90))
    assert clock(events) == [Times(drawing=4, computing=1, searching=2)]


def test_a_server_started_again_stops_the_clock():
    events = moments(
        ("press", 0), ("run", 2), ("masks", 3), ("space", 5), ("resume", 0), ("press", 1000), ("run", 1002)
    )
    assert clock(events)[1] == Times(drawing=2)


def test_previews_and_the_wire_have_columns_of_their_own():
    events = moments(("press", 0), ("run", 4), ("masks", 6))
    preview = {"type": "study", "event": "preview", "at": 0, "seconds": 0.75}
    end = {"type": "round_end", "server_seconds": 1.5}
    assert clock([events[0], preview, *events[1:], end]) == [Times(4, 2, 0, 0.75, 0.5)]


@pytest.fixture
def davis(tmp_path, write):
    root = tmp_path / "set"
    for name in ("ball", "other"):
        write(root / "JPEGImages" / "480p" / name, frames=4)
        masks = root / "Annotations" / "480p" / name
        masks.mkdir(parents=True)
        for t in range(4):
            labels = np.zeros((64, 96), np.uint8)
            labels[10:30, 10:30], labels[40:60, 40:60] = 1, 2
            write_labels(masks / f"{t:05d}.png", labels)
    return root


@pytest.fixture
def options(davis):
    return {"folder": davis, "name": "try", "participants": ["p1", "p2"], "rounds": 3, "show_truth": True}


def test_every_participant_gets_every_video_in_order(tmp_path, davis, options):
    settings = Settings("t")
    sources = [open_source(davis, name) for name in ("other", "ball")]
    opened = study.prepare(tmp_path, sources, options, settings)
    assert [one.name for one in opened] == ["p1.other", "p1.ball", "p2.other", "p2.ball"]
    told = settings.study["p1.other"]
    assert (told["position"], told["of"], told["next"], told["rounds"]) == (1, 2, "p1.ball", 3)
    assert settings.study["p2.ball"]["next"] is None
    for one in opened:
        one.close()


def test_scores_and_table(tmp_path, davis, options, capsys):
    settings = Settings("t")
    first, *others = study.prepare(tmp_path, [open_source(davis, "ball")], options, settings)
    first.prepare()
    session = first.recover()

    def record(*events):
        first.record(session, *events)

    record({"type": "add_object", "number": 1}, {"type": "add_object", "number": 2})
    for number, (rows, at) in enumerate([(slice(10, 20), 0), (slice(10, 30), 100)], start=1):
        stroke = {"type": "stroke", "id": str(number), "frame": 0, "path": [[0, 0]], "object_id": 1}
        record(*moments(("press", at)), stroke, *moments(("run", at + 4)))
        record({"type": "round_begin", "round": number, "frame": 0, "strokes": [str(number)]})
        for t in range(4):
            labels = np.zeros((64, 96), np.uint8)
            labels[rows, 10:30] = 1
            first.write_mask(number, t, labels)
        record(
            {"type": "round_end", "round": number, "lo": 0, "hi": 3, "complete": True, "server_seconds": 1.0}
        )
        record(*moments(("masks", at + 6), ("space" if number == 1 else "satisfied", at + 9)))
    settings.after_study(first)
    for one in (first, *others):
        one.close()
    with open(first.folder / "study.csv") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == study.GUI_IVOS
    # Round 2 was drawn for from second 9, when Space ended the search, to 104.
    assert rows[1] == ["ball", "1", "2", "1.0", "1.0", "99.0", "4.0", "6.0", "109.0"]
    assert rows[2][:4] == ["ball", "2", "2", "0.0"]
    study.main([str(tmp_path / "try")])
    shown = capsys.readouterr().out
    assert "ball" in shown
    assert "109.0" in shown
    assert (tmp_path / "try" / "study.png").stat().st_size > 1000
    with open(tmp_path / "try" / "rounds.csv") as file:
        table = list(csv.DictReader(file))
    assert [(row["round"], row["obj_id"], float(row["J"])) for row in table] == [
        ("1.0", "1.0", 0.5), ("1.0", "2.0", 0.0), ("2.0", "1.0", 1.0), ("2.0", "2.0", 0.0),
    ]  # fmt: skip
    assert float(table[0]["network"]) == 1.0


def test_a_study_needs_masks(tmp_path, write, options):
    write(tmp_path / "set2" / "JPEGImages" / "480p" / "ball", frames=2)
    with pytest.raises(UserError, match="no mask of the first frame"):
        study.prepare(tmp_path, [open_source(tmp_path / "set2", "ball")], options, Settings("t"))


def test_nothing_finished(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        study.main([str(tmp_path)])
    assert end.value.code == 2
    assert "no finished video" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named_before_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert capsys.readouterr().err == (
        "error: the results of a study need matplotlib: pip install 'ivos[evaluate]'\n"
    )
