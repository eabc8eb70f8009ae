"""Miniature copies of the layouts of DAVIS, YouTube-VOS and SBD."""

import numpy as np
import pytest

from ivos.data.miniature import write_sbd, write_youtube_vos
from ivos.data.synthetic import SyntheticSpec, render_clip, write_davis

SPEC = {"num_clips": 2, "num_frames": 6, "width": 80, "height": 64, "min_objects": 2, "max_objects": 2,
        "min_size": 0.35, "leaving": 0, "occluders": 0}  # fmt: skip


@pytest.fixture(scope="session")
def clips():
    """Two clips of six frames of 80x64; of the second, object 2 enters with frame 2."""
    drawn = [render_clip(SyntheticSpec(**SPEC), index) for index in range(2)]
    late = drawn[1][1]
    late[:2][late[:2] == 2] = 0
    assert all((labels[2:] == n).any((1, 2)).all() for _, labels in drawn for n in (1, 2))
    return drawn


@pytest.fixture
def davis(tmp_path):
    """Train and val of DAVIS."""
    for split in ("train", "val"):
        write_davis(SyntheticSpec(**SPEC, stream=split), tmp_path / "DAVIS", split, num_workers=1)
    return tmp_path / "DAVIS"


@pytest.fixture
def youtube_vos(tmp_path, clips):
    """YouTube-VOS, its train."""
    return write_youtube_vos(tmp_path / "YouTubeVOS", clips)


@pytest.fixture
def sbd(tmp_path, clips):
    """SBD, its train (with void in the first image) and val."""
    first = clips[0][1].copy()
    first[0, :4] = 255
    write_sbd(tmp_path / "SBD", [clips[1]], "val")
    return write_sbd(tmp_path / "SBD", [(clips[0][0], first), clips[1]])


@pytest.fixture
def truncate():
    """Function that cuts a file off, as a broken download does."""

    def cut(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


@pytest.fixture
def grey():
    """Function that makes a mask of grey levels, without a palette."""
    from PIL import Image

    def convert(path):
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image.convert("L"))).save(path)

    return convert


@pytest.fixture(autouse=True)
def no_default_places(tmp_path_factory, monkeypatch):
    """What lies in the folder data of this checkout is not for tests to find."""
    from ivos.data.datasets import paths as places

    empty = tmp_path_factory.mktemp("working_folder")
    monkeypatch.setattr(places, "CHECKOUT", empty)
    monkeypatch.chdir(empty)
