"""Tests of names of videos and of lists of them, which have to be valid parts of paths."""

import os

import pytest

from ivos.video.files import DataError
from ivos.video.names import MAX_BYTES, keep, name_fault, read_list, select

FINE = ["bear", "bike-packing", "my cat", "0043f083b5", "köln", "x" * MAX_BYTES]
WRONG = ["", ".", "..", ".hidden", "../../x", "/etc", "a/b", "a\\b", "a\tb", "a\0b", " a", "x" * 255,
         "é" * 101, "a\u202eb", "\udcff"]  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_names_that_can_be_used(name, tmp_path):
    assert name_fault(name) is None
    (tmp_path / "list.txt").write_text(f"{name}\n", encoding="utf-8")
    assert read_list(tmp_path / "list.txt") == [name]


@pytest.mark.parametrize("name", WRONG)
def test_names_that_cannot(name):
    fault = name_fault(name)
    assert fault
    assert "\n" not in fault


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "..", "x" * 255])
def test_a_wrong_line_is_told_with_list_and_number(name, tmp_path):
    path = tmp_path / "val.txt"
    path.write_text(f"cat\n\n{name}\ndog/1\n")
    with pytest.raises(DataError) as error:
        read_list(path)
    assert str(error.value).startswith(f"{path}, line 3: ")
    assert str(error.value).endswith("(and 1 more lines)")
    assert "\n" not in str(error.value)


def test_encodings(tmp_path):
    path = tmp_path / "val.txt"
    path.write_bytes("\ufeffcat\r\nkäse\r\n".encode())
    assert read_list(path) == ["cat", "käse"]
    for encoding in ("utf-16", "latin-1"):
        path.write_bytes("cat\nkäse\n".encode(encoding))
        with pytest.raises(DataError, match=r"val\.txt: not in UTF-8 .*; save it as UTF-8$"):
            read_list(path)
    path.write_bytes("cat\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"val\.txt, line 1: 'c\\x00a"):
        read_list(path)


def test_what_is_no_file_is_no_list(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("folder", "pipe"):
        with pytest.raises(DataError, match=f"no split '{name}'; it has: no lists"):
            select(tmp_path, name)
    with pytest.raises(DataError, match="unreadable"):
        read_list(tmp_path / "folder.txt")


def test_names_are_chosen_of_those_there_are():
    assert keep(["a", "b", "7"], None, "here") == ["a", "b", "7"]
    assert keep(["a", "b", "7"], "b", "here") == ["b"]
    assert keep(["a", "b", "7"], [7, "a"], "here") == ["7", "a"]
    with pytest.raises(DataError, match="here: no video c; it has: a, b"):
        keep(["a", "b"], ["c"], "here")
