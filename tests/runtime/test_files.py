"""Tests that files are written as a whole or not at all."""

import errno
import multiprocessing
import os
import signal
import threading

import pytest

from ivos.runtime.command_line import reported
from ivos.runtime.files import clear, named, replacing, write_text
from ivos.runtime.lightning_loggers import CSVLogger


def test_the_new_file_takes_the_old_ones_place(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_after_an_error_the_old_file_is_there(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail_in_the_middle():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json"):
        pass
    assert not os.listdir(tmp_path)


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    """write(2) says that the disk is full, but not of which file; PyTorch says it in words of its own."""
    path, ended, full = tmp_path / "a.csv", [], OSError(errno.ENOSPC, "No space left on device")
    for error in (full, RuntimeError("PytorchStreamWriter failed")):
        with pytest.raises(SystemExit) as stopped, reported(), replacing(path):
            raise error
        assert stopped.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {path}: cannot be written (")
        assert not list(tmp_path.iterdir())

    def write():
        with named(path):
            raise full

    monkeypatch.setattr("os._exit", ended.append)
    with reported():  # as TensorBoard's thread, for which the program would wait
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert ended == [2]
    assert capsys.readouterr().err.startswith(f"error: {path}: cannot be written (No space left on device)")


def test_a_header_that_grows_costs_no_rows(tmp_path, monkeypatch):
    """Lightning empties the file first."""
    log = CSVLogger(tmp_path, "", "", flush_logs_every_n_steps=1)
    log.log_metrics({"a": 1.0}, 0)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match=r"full.*metrics\.csv"):
        log.log_metrics({"b": 1.0}, 1)
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1.0,0"]


def _write_and_die(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_killed_writers_left_is_cleared(tmp_path):
    """Theirs alone, and of the file or folder that is meant."""
    (tmp_path / "deep").mkdir()
    fork = multiprocessing.get_context("fork")
    for name in ("a.json", "b.json", "deep/last.ckpt"):
        killed = fork.Process(target=_write_and_die, args=(tmp_path / name,))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    (tmp_path / ".hidden.tmp.json").write_text("the user's")
    assert len(list(tmp_path.rglob(".*"))) == 4
    clear(tmp_path, "a")
    assert sorted(path.name[:3] for path in tmp_path.rglob(".*")) == [".b.", ".hi", ".la"]
    clear(tmp_path, deep=True)
    assert [path.name for path in tmp_path.rglob(".*")] == [".hidden.tmp.json"]
