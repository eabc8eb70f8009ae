"""Tests that wrong options of annotate.py are refused before anything is opened or imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from ivos.app.main import check, find_videos, has_screen, named
from ivos.runtime.errors import UserError
from ivos.video.reader import Limits, open_source

ROOT = Path(__file__).parents[2]


def config(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("annotate", list(overrides))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("video=null", "video=FILE: name a video file"),
        ("port=99999", "^port: must be a whole number from 0 to 65535, got 99999$"),
        ("port=1.5", r"^port: must be a whole number from 0 to 65535, got 1\.5$"),
        ("max_open_videos=0", "^max_open_videos: must be a whole number from 1 to 100, got 0$"),
        ("num_objects=255", "^num_objects: must be null, or a whole number from 1 to 254, got 255$"),
        ("fps=0", "^fps: must be a number above 0, up to 1000, got 0$"),
        ("checkpoint=nowhere/x.pt", "checkpoint=nowhere/x.pt: no such file"),
        ("device=gpu0", "device=gpu0: not available"),
        ("segmenter=sam2", "segmenter.checkpoint: name a folder or a model of the hub"),
    ],
)
def test_settings_that_cannot_be(override, says):
    check(config("video=x"))
    with pytest.raises(UserError, match=says):
        check(config("video=x", override))


def test_videos_that_cannot_be(clip, tmp_path, write):
    with pytest.raises(UserError, match="no such file or folder"):
        find_videos(config("video=nowhere.mp4"), Limits())
    with pytest.raises(UserError, match="not a folder in DAVIS layout"):
        find_videos(config(f"video={clip}", "data.sequences=[bear]"), Limits())
    other = write(tmp_path / "clip", frames=2)
    with pytest.raises(UserError, match="are both called clip; rename one of them"):
        named([open_source(clip), open_source(other)])


def test_a_browser_is_opened_where_there_is_a_screen(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_screen()


def test_the_program_says_it_in_one_line(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    command = [sys.executable, str(ROOT / "annotate.py"), f"video={tmp_path}/a.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/a.mp4: not a readable video")
    assert done.stderr.count("\n") == 1
