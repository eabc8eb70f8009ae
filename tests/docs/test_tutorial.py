"""Tests that the tutorial notebook runs and prints its committed outputs."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from .reading import ROOT

NOTEBOOK = ROOT / "docs" / "tutorials" / "first_session.ipynb"


def outputs(notebook):
    """Return the outputs of all cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook):
    """Return the numbers that the cells print."""
    text = "".join(output["text"] for output in outputs(notebook) if "text" in output)
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


@pytest.mark.slow
def test_the_notebook_runs_and_prints_what_it_shows():
    shown, executed = (nbformat.read(NOTEBOOK, 4) for _ in range(2))
    assert len([output for output in outputs(shown) if "image/jpeg" in output.get("data", {})]) == 3
    NotebookClient(executed, timeout=600, kernel_name="python3").execute(cwd=str(NOTEBOOK.parent))
    assert len(printed(shown)) > 20
    assert printed(executed) == pytest.approx(printed(shown), abs=0.02)
