"""Tests that checkpoint files are whole or absent, and of a faulty last.ckpt."""

import os

import pytest
import torch

from ivos.runtime.errors import UserError
from ivos.training.checkpoints import AtomicCheckpointIO, check_last

GOOD = {
    "state_dict": {"weight": torch.arange(1000.0)}, "optimizer_states": [], "lr_schedulers": [], "loops": {},
    "callbacks": {}, "global_step": 1, "ivos": {"network": {"width": 4}},
}  # fmt: skip


@pytest.fixture
def last(tmp_path):
    """A last.ckpt of step 2, and the one before it of step 1."""
    path = tmp_path / "anet" / "last.ckpt"
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(GOOD | {"global_step": step}, path)
    return path


def step(path):
    return torch.load(path, weights_only=True)["global_step"]


def test_the_one_before_is_kept_and_nothing_else(last):
    check_last(last)
    previous = last.with_name("last.previous.ckpt")
    assert (step(last), step(previous)) == (2, 1)
    AtomicCheckpointIO().save_checkpoint(GOOD | {"global_step": 3}, last)
    assert (step(last), step(previous)) == (3, 2)
    AtomicCheckpointIO().save_checkpoint(GOOD, last.with_name("best.ckpt"))
    assert sorted(path.name for path in last.parent.iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "last.previous.ckpt",
    ]


def test_it_is_written_beside_its_target(last, tmp_path, monkeypatch):
    """TMPDIR may be on another file system, or not be there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    AtomicCheckpointIO().save_checkpoint(GOOD | {"global_step": 3}, last)
    assert step(last) == 3


def test_a_write_that_fails_leaves_what_was_there(last, monkeypatch):
    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be written .*No space left"):
        AtomicCheckpointIO().save_checkpoint(GOOD, last)
    monkeypatch.undo()
    assert step(last) == 2
    assert len(list(last.parent.iterdir())) == 2


def flip(path):
    """A byte in the middle of the weights: PyTorch would load it."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 64
    path.write_bytes(content)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "flipped": flip,
    "text": lambda path: path.write_text("no checkpoint"),
    "foreign": lambda path: torch.save({"state_dict": {}}, path),
    "key": lambda path: torch.save({k: v for k, v in GOOD.items() if k != "loops"}, path),
    "list": lambda path: torch.save([1], path),
    "null": lambda path: torch.save(GOOD | {"ivos": None}, path),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_bad_last_is_a_line_that_offers_the_one_before(how, last):
    DAMAGE[how](last)
    with pytest.raises(UserError) as error:
        check_last(last)
    text = str(error.value)
    previous = last.with_name("last.previous.ckpt")
    assert text.startswith(f"{last}: the run cannot be resumed from it (")
    assert text.endswith(f"mv {previous} {last}")
    assert "\n" not in text
    previous.unlink()
    with pytest.raises(UserError, match="delete it to restart the stage from its beginning"):
        check_last(last)
