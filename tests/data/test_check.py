"""Tests of ivos-data, which checks data sets without changing them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from ivos.data.tools.check import Finding, main, table
from ivos.video.files import DataError


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("davis", ["train", "val", "2 of 80x64"]),
        ("youtube_vos", ["train", "2 of 80x64"]),
        ("sbd", ["train", "val"]),
    ],
)
def test_a_sound_set(name, figures, request, capsys):
    root = request.getfixturevalue(name)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert main([name, str(root)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert "…" not in out
    assert all(words in out for words in figures)
    assert out.splitlines()[-1] == f"{root}: no faults"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_every_fault_is_named(davis, capsys, truncate):
    for number in range(6):
        truncate(davis / f"JPEGImages/480p/train-0000/{number:05d}.jpg")
        truncate(davis / f"JPEGImages/480p/train-0001/{number:05d}.jpg")
        truncate(davis / f"Annotations/480p/train-0000/{number:05d}.png")
        truncate(davis / f"Annotations/480p/val-0001/{number:05d}.png")
    assert main(["davis", str(davis)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum("unreadable (" in line for line in lines) == 24  # an error would show twenty
    assert lines[-1] == f"{davis}: 24 faults"


def test_another_folder(tmp_path, capsys):
    assert main(["sbd", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.count("is not SBD as released") == 1
    assert out.splitlines()[-1] == f"{tmp_path}: 2 faults"


def test_options(davis, youtube_vos, capsys):
    assert main(["davis", str(davis), "--split", "trainval"]) == 0
    assert "4 of 80x64" in capsys.readouterr().out
    assert main(["davis", str(davis), "--resolution", "Full-Resolution"]) == 1
    assert "existing: 480p" in capsys.readouterr().out
    assert main(["youtube_vos", str(youtube_vos), "--split", "valid"]) == 1


def test_the_index_is_kept_on_request_alone(davis, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    main(["davis", str(davis)])
    assert not (tmp_path / "cache").exists()
    main(["davis", str(davis), "--keep-index"])
    assert list((tmp_path / "cache/ivos/index").glob("DAVIS-*.json"))


def test_real_davis(real_data, capsys):
    assert main(["davis", str(real_data / "davis"), "--split", "train"]) == 0
    assert "854x480" in capsys.readouterr().out


def test_the_table_of_a_large_set_is_readable_at_80_columns():
    """As many figures as YouTube-VOS has, and as many sizes."""

    def video(size):
        return SimpleNamespace(size=size, num_frames=27, areas=np.ones((27, 2), int))

    videos = [video((1280, 720))] * 3200 + [video((1920 + i, 1080)) for i in range(90)]
    console = Console(width=80, file=io.StringIO())
    console.print(table([Finding("trainval", videos), Finding("val", error=DataError("x", ["y"] * 12345))]))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert rows[0] == ["trainval", "3,290", "88,830", "6,580", "0", "3200 of 1280x720"]
    assert rows[3] == ["", "", "", "", "", "88 other sizes"]
    assert rows[4][-2:] == ["12345", "-"]
