"""Processes that are forked from a server that has imported everything and computed nothing.

A process in which gradients have been computed cannot be forked, and one that is started anew imports for
several seconds.
"""

import contextlib
import multiprocessing
import os
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.support.programs", "tests.support.two"])


def run_code(code: str, folder: Path) -> tuple[int, str]:
    """Run code in a forked process: its exit status, and what it has written.

    Args:
        code: statements of Python.
        folder: where the output is kept.
    """
    output = folder / "output_of_code"
    process = FORKED.Process(target=_run, args=(code, output))
    process.start()
    process.join()
    return process.exitcode, output.read_text()


def _run(code: str, output: Path) -> None:
    with output.open("w") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            exec(code, {"__name__": "__main__"})
