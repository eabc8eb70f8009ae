"""Tests that the index reads every file once, and again after a change."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

import ivos.runtime.machine
import ivos.video.index
from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.youtube_vos import YouTubeVOS
from ivos.video.files import DataError
from ivos.video.index import index_file


@pytest.fixture
def looks(monkeypatch):
    """The files that are looked into from here on."""
    seen = []

    def inspect_file(path, role):
        seen.append("/".join(path.parts[-2:]))
        return original(path, role)

    original = ivos.video.index.inspect_file
    monkeypatch.setattr(ivos.video.index, "inspect_file", inspect_file)
    return seen


def test_files_are_looked_into_once(davis, tmp_path, looks):
    first = DavisFolder(davis, "train", index=tmp_path / "index")
    assert len(looks) == len(set(looks)) == 24
    looks.clear()
    second = DavisFolder(davis, "train", index=tmp_path / "index")
    assert not looks
    assert list(first) == list(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.areas, other.areas)
    DavisFolder(davis, "trainval", index=tmp_path / "index")
    assert len(looks) == 24  # those of val
    DavisFolder(davis, "train", index=False)
    assert len(looks) == 48


def test_changed_new_and_missing_files_are_noticed(davis, tmp_path, looks):
    options = {"split": "train", "index": tmp_path / "index"}
    (before, _) = DavisFolder(davis, **options)
    looks.clear()
    masks = davis / "Annotations/480p/train-0000"
    with Image.open(masks / "00003.png") as image:
        labels, palette = np.asarray(image).copy(), image.getpalette()
    labels[labels == 2] = 1
    changed = Image.fromarray(labels)
    changed.putpalette(palette)
    changed.save(masks / "00003.png")
    (after, _) = DavisFolder(davis, **options)
    assert looks == ["train-0000/00003.png"]
    assert after.areas[3].tolist() == [before.areas[3].sum(), 0]
    looks.clear()
    os.utime(masks / "00001.png", ns=(0, 0))  # the same size at another time
    DavisFolder(davis, **options)
    assert looks == ["train-0000/00001.png"]
    (masks / "00002.png").unlink()
    with pytest.raises(DataError, match="frame without a mask"):
        DavisFolder(davis, **options)


def test_faults_are_not_kept(davis, tmp_path, truncate, looks):
    options = {"split": "train", "index": tmp_path / "index"}
    path = davis / "JPEGImages/480p/train-0000/00000.jpg"
    whole = path.read_bytes()
    truncate(path)
    for _ in range(2):
        looks.clear()
        with pytest.raises(DataError, match="unreadable"):
            DavisFolder(davis, **options)
        assert "train-0000/00000.jpg" in looks
    path.write_bytes(whole)
    assert len(DavisFolder(davis, **options)) == 2


@pytest.mark.parametrize("text", ["", "{", '{"version": 0}', '{"version": 1, "files": {"a": 1}}', "[]"])
def test_an_unusable_index_is_made_anew(youtube_vos, tmp_path, text, looks):
    YouTubeVOS(youtube_vos, index=tmp_path)
    store = index_file(youtube_vos, tmp_path)
    good = json.loads(store.read_text())
    looks.clear()
    store.write_text(text)
    YouTubeVOS(youtube_vos, index=tmp_path)
    assert len(looks) == 24
    assert json.loads(store.read_text()) == good


def test_many_files_are_looked_into_by_processes(davis, monkeypatch):
    whole = DavisFolder(davis, "train", index=False)
    monkeypatch.setattr(ivos.video.index, "_MANY", 1)
    monkeypatch.setattr(ivos.runtime.machine.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    made = []
    original = ivos.video.index.ProcessPoolExecutor
    monkeypatch.setattr(
        ivos.video.index, "ProcessPoolExecutor", lambda *options: made.append(options) or original(*options)
    )
    again = DavisFolder(davis, "train", index=False)
    assert len(made) == 1
    assert list(again) == list(whole)
    np.testing.assert_array_equal(again[1].areas, whole[1].areas)


def test_what_a_killed_writer_left_of_an_index_is_cleared(davis, tmp_path):
    DavisFolder(davis, "train", index=tmp_path)
    store = index_file(davis, tmp_path)
    half, another = (tmp_path / f".{stem}.123-0a1b2c3d.tmp.json" for stem in (store.stem, "other-0123"))
    half.touch(), another.touch()
    DavisFolder(davis, "trainval", index=tmp_path)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [another.name]


def _open(root, folder, queue):
    count = []
    original = ivos.video.index._inspect
    ivos.video.index._inspect = lambda files, *rest: count.append(len(files)) or original(files, *rest)
    YouTubeVOS(root, index=folder)
    queue.put(count[0])


def test_of_processes_that_start_together_one_looks(youtube_vos, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_open, args=(youtube_vos, tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sorted(queue.get(timeout=60) for _ in processes) == [0, 0, 24]
    for process in processes:
        process.join()


def test_a_folder_that_cannot_be_written_costs_time_only(youtube_vos, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert len(YouTubeVOS(youtube_vos, index=tmp_path / "file" / "index")) == 2
    assert "the index cannot be saved" in caplog.text
