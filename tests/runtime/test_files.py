"""Files are written whole or not at all."""

import os

import pytest

from ivos.runtime.files import replacing, write_text


def test_the_new_file_takes_the_old_ones_place(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with replacing(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
        assert aside.parent == tmp_path
        assert aside.suffix == ".json"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_after_an_error_the_old_file_is_there(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail_in_the_middle():
        with replacing(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json"):
        pass
    assert not os.listdir(tmp_path)
