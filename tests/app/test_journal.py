"""Tests that the journal keeps every acknowledged event and drops an incomplete last line."""

import json
import os

import pytest

from ivos.app.journal import Journal, JournalError, read_lines


def kinds(path):
    return [line["type"] for line in Journal(path).lines]


def test_events_are_read_back_in_order(tmp_path):
    path = tmp_path / "journal.jsonl"
    one = Journal(path)
    one.append({"type": "a"}, {"type": "b", "path": [[0.25, 1.0]]})
    one.append({"type": "c"})
    assert kinds(path) == ["a", "b", "c"]
    assert read_lines(path)[1]["path"] == [[0.25, 1.0]]


@pytest.mark.parametrize("torn", [b'{"type": "c"', b"\x00" * 40, b'{"type": "c"}', b'{"ty\n', b"\xff\xfe\n"])
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path, torn):
    path = tmp_path / "journal.jsonl"
    Journal(path).append({"type": "a"}, {"type": "b"})
    with open(path, "ab") as file:
        file.write(torn)
    again = Journal(path)
    assert [line["type"] for line in again.lines] == ["a", "b"]
    assert again.dropped == len(torn)
    again.append({"type": "d"})
    assert kinds(path) == ["a", "b", "d"]


def test_every_cut_of_a_journal_keeps_the_lines_before_it(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).append(*({"type": "stroke", "id": str(i)} for i in range(5)))
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert len(Journal(path).lines) == whole[:cut].count(b"\n")


def test_a_line_in_the_middle_that_cannot_be_read_is_an_error(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"type": "a"}\nnonsense\n{"type": "b"}\n')
    with pytest.raises(JournalError, match=r"journal.jsonl: line 2 cannot be read"):
        Journal(path)


def test_a_full_disk_leaves_nothing_of_what_was_not_written(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    one = Journal(path)
    one.append({"type": "a"})
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: _half(real, handle, data, at))
    with pytest.raises(JournalError, match="No space left"):
        one.append({"type": "b"})
    monkeypatch.undo()
    one.append({"type": "c"})
    assert kinds(path) == ["a", "c"]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def _half(write, handle, data, at):
    if len(data) > 10:
        return write(handle, data[:10], at)
    raise OSError(28, "No space left on device")
