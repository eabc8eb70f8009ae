"""Tests of options that cannot be composed, and of errors that the user can correct."""

import errno
import sys

import absl.logging
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import InterpolationKeyError

from ivos.app.main import main as annotate
from ivos.evaluation.main import main as evaluate
from ivos.runtime.command_line import composing, user_error
from ivos.runtime.errors import UserError
from ivos.training.main import main as train

PROGRAMS = {"evaluate": evaluate, "train": train, "annotate": annotate}


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run a program that has to refuse its options: its one line."""

    def run(program, *arguments):
        monkeypatch.setattr("sys.argv", [f"{program}.py", *arguments])
        absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as stopped:
            PROGRAMS[program]()
        lines = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2, lines
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return run


COMPOSED = {
    "option": ("nosuch=1", "Could not override 'nosuch'"),
    "nested": ("segmenter.nosuch=1", "segmenter.nosuch: no such option; there are: "),
    "choice": ("segmenter=nosuch", "Could not find 'segmenter/nosuch'"),
    "syntax": ("a=[1", "a=[1: "),
    "no value": ("nonsense", "nonsense"),
    "number for a group": ("segmenter=3", "Config group override must be"),
    "null for a group": ("segmenter=null", "Config group override must be"),
    "deleted": ("~nosuch", "nosuch"),
    "of Hydra": ("hydra.nosuch=1", "hydra.nosuch"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", COMPOSED)
def test_options_that_cannot_be_composed_are_a_line(kind, program, refused):
    argument, said = COMPOSED[kind]
    assert said in refused(program, argument)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interpolation_of_nothing_is_a_line(program, refused, tmp_path):
    option = {"annotate": "video"}.get(program, "folder")
    line = refused(program, f"hydra.run.dir={tmp_path}/run", f"{option}=${{nosuch}}")
    assert "Interpolation key 'nosuch' not found" in line


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("open_browser=off", "open_browser: must be null, or true or false, got 'off'"),
        ("segmenter.undo_gib=abc", "segmenter.undo_gib: must be a number from 0, got 'abc'"),
        ("allowed_hosts=3", "allowed_hosts: must be a list of names, got 3"),
        ("workspace=3", "workspace: must be a text, got 3"),
        ("data.sequences={a:1}", "data.sequences: must be null, or a text, or a list of names, got {'a': 1}"),
        ("study.rounds=0", "study.rounds: must be null, or a whole number from 1, got 0"),
        ("video={a:1}", "error: "),
        ("limits=3", "limits: must be pixels and frames, got 3"),
        ("+limits.nosuch=3", "limits.nosuch: no such option; there are: pixels, frames"),
    ],
)
def test_wrong_options_of_annotate_are_a_line(option, said, refused):
    assert said in refused("annotate", option)


@pytest.mark.parametrize("program", ["evaluate", "train"])
@pytest.mark.parametrize("place", ["a file", "in a file", "in a folder of the system's"])
def test_a_run_folder_that_cannot_be_made_is_a_line(place, program, refused, tmp_path):
    (file := tmp_path / "file").write_text("")
    folder = {"a file": file, "in a file": file / "run"}.get(place, "/proc/x")
    assert f"error: {folder}" in refused(program, f"hydra.run.dir={folder}")


def test_files_and_options_are_the_users(tmp_path):
    said = user_error(PermissionError(errno.EACCES, "Permission denied", str(tmp_path)))
    assert str(said) == f"{tmp_path}: Permission denied"
    assert str(user_error(HydraException("two\n  lines"))) == "two lines"
    assert str(user_error(InterpolationKeyError("no key"))) == "no key"
    assert user_error(OSError("of no file")) is None
    assert user_error(ValueError("a defect")) is None


def test_a_defect_of_ivos_keeps_its_traceback(monkeypatch):
    """Of ivos is what a module of it takes part in."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("sys.argv", ["program.py"])
    job = {"__name__": "ivos.job"}
    exec("def job(): raise ValueError('a defect')", job)
    with pytest.raises(ValueError, match="a defect"), composing():
        job["job"]()
    with pytest.raises(SystemExit), composing():
        raise TypeError("of Hydra")


def test_tracebacks_are_shown_to_who_asks(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("sys.argv", ["program.py"])
    with pytest.raises(UserError), composing():
        raise UserError("as it is")
