"""Suites: what is run on the data at hand, and a suite that is cut off and continues."""

import subprocess
import sys
from pathlib import Path

import pytest

from ivos.evaluation import benchmark
from ivos.evaluation.benchmark import SEGMENTERS, SETS, SUITES, main, plan, segmenter_options
from tests.support.discs import draw


def test_a_suite_takes_the_data_that_is_there(tmp_path):
    (tmp_path / "LVOS/val/Annotations").mkdir(parents=True)
    (tmp_path / "SA-V/sav_val").mkdir(parents=True)
    (tmp_path / "SA-V/sav_val/sav_val.txt").write_text("a\n")
    runs, missing = plan("sam2", tmp_path, tmp_path / "out")
    assert [folder.relative_to(tmp_path / "out").as_posix() for folder, _ in runs] == [
        "lvos/sam2_offline", "lvos/sam2_online", "sav/sam2_offline", "sav/sam2_online",
    ]  # fmt: skip
    assert f"data.root={tmp_path / 'LVOS'}" in runs[0][1]
    assert "data.split=val" in runs[0][1]
    assert any(line.startswith("davis: not found; expected") for line in missing)
    assert len(runs) // 2 + len(missing) == len(SUITES["sam2"][0])


def test_every_set_is_found_by_what_its_reader_needs(tmp_path):
    shown = ["EndoVis2018/release_1/seq_1/left_frames/x", "EndoVis2018/test_data/seq_1/left_frames/x",
             "ESD/ESD-1/x", "LV-VIS/val_instances.json", "UVO/VideoDenseSet/UVO_video_val_dense.json",
             "VIPSeg/val.txt", "VKITTI2/Scene01/clone/frames/instanceSegmentation/Camera_0/x",
             "PUMaVOS/Annotations/x", "VOST/ImageSets/val.txt", "MOSE/valid/Annotations/x",
             "YouTube-VOS/valid/meta.json"]  # fmt: skip
    for name in shown:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    runs, _ = plan("sam2", tmp_path, tmp_path)
    splits = {folder.parent.name: options[2] for folder, options in runs}
    assert splits == {
        "endovis": "data.split=test", "esd": "data.split=train", "lv_vis": "data.split=val",
        "pumavos": "data.split=all", "uvo": "data.split=val", "vipseg": "data.split=val",
        "vkitti2": "data.split=all", "vost": "data.split=val",
    }  # fmt: skip
    runs, _ = plan("vos", tmp_path, tmp_path)
    unscored = {folder.parent.name for folder, options in runs if "data.first_masks=true" in options}
    assert unscored == {"mose", "youtube_vos"}


def test_every_set_protocol_and_segmenter_can_be_composed():
    conf = Path(benchmark.__file__).parents[2] / "conf"
    for names, protocols in SUITES.values():
        for name in names:
            assert (conf / f"data/{SETS[name].config}.yaml").is_file(), name
        for protocol in protocols:
            assert (conf / f"protocol/{protocol}.yaml").is_file(), protocol
    segmenters = {path.stem for path in (conf / "segmenter").glob("*.yaml")}
    assert set(SEGMENTERS) == segmenters - {"trained"}  # which is the one of train.py


def test_what_is_evaluated():
    assert segmenter_options("flow") == ["segmenter=flow"]
    assert segmenter_options("sam2:facebook/sam2.1-hiera-tiny") == [
        "segmenter=sam2", "segmenter.checkpoint=facebook/sam2.1-hiera-tiny",
    ]  # fmt: skip
    assert segmenter_options("runs/last.ckpt") == ["checkpoint=runs/last.ckpt"]


def test_a_suite_that_is_cut_off_continues(tmp_path, monkeypatch, capsys):
    """Runs that are finished are not started again; the leaderboard has them all."""
    (tmp_path / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (tmp_path / "DAVIS/ImageSets/2017/val.txt").write_text("a\n")
    started, boards, failing = [], [], ["davis_clicks"]

    def run(command):
        (folder,) = [word.removeprefix("hydra.run.dir=") for word in command if "hydra.run.dir=" in word]
        started.append(folder.rsplit("/", 1)[-1])
        assert "resume=true" in command
        assert "seed=3" in command
        status = int(started[-1] in failing)
        if not status:
            Path(folder).mkdir(parents=True)
            (Path(folder) / "report.csv").write_text("")
            (Path(folder) / "summary.json").write_text("{}")
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    monkeypatch.setattr(benchmark.leaderboard, "main", lambda arguments: boards.append(arguments) or 0)
    command = [
        "flow",
        "--root",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
        "--devices",
        "2",
        "seed=3",
    ]
    assert main(command) == 2
    assert (
        "the run ended with exit status 1; repeat the command to resume the suite" in capsys.readouterr().err
    )
    assert started == ["davis", "davis_clicks"]
    failing.clear()
    assert main(command) == 0
    assert started == ["davis", "davis_clicks", "davis_clicks", "first_mask"]
    ((*folders, _, board),) = boards
    assert [folder.rsplit("/", 1)[-1] for folder in folders] == ["davis", "davis_clicks", "first_mask"]
    assert board == str(tmp_path / "out/leaderboard")


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["flow", "--root", str(tmp_path)]) == 2
    assert "no data set of the suite davis is under" in capsys.readouterr().err
    assert main([]) == 2
    assert "name a segmenter or a checkpoint" in capsys.readouterr().err
    assert main(["flow", "--nosuch"]) == 2
    assert "--nosuch: no such option" in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert "first_mask" in capsys.readouterr().out


@pytest.mark.slow
def test_a_suite_on_a_small_folder(tmp_path):
    draw(tmp_path / "data/DAVIS", "discs", frames=4)
    command = [
        sys.executable, "-m", "ivos.evaluation.benchmark", "copy", "--suite", "sam2", "--root",
        str(tmp_path / "data"), "--output", str(tmp_path / "out"), "protocol.frames=2",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/leaderboard/leaderboard.html").is_file()
    assert "sam2_online" in done.stdout
