"""Tests that modules can be imported by their former names."""

import importlib
import subprocess
import sys

import pytest

from ivos._renamed_modules import RENAMED


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_is_the_same_module_with_a_warning(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} has been renamed to {new}"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__spec__.name == new
    sys.modules.pop(old)


def test_a_tool_runs_by_its_former_name():
    run = subprocess.run([sys.executable, "-m", "ivos.data.check", "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    assert "usage: python -m ivos.data.tools.check" in run.stdout
