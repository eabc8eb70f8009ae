"""A process that is lost while the processes of a run start ends the others with one line."""

import contextlib
import multiprocessing
import subprocess
import sys
import time

import pytest

from ivos.runtime.process_watchdog import ProcessWatchdog

FORK = multiprocessing.get_context("fork")


@contextlib.contextmanager
def process(target, *arguments):
    forked = FORK.Process(target=target, args=arguments)
    forked.start()
    try:
        yield forked
    finally:
        forked.kill()
        forked.join()


def first_process(folder, ready, output, command):
    with output.open("w") as sys.stderr, ProcessWatchdog(folder, 0, 2, kept="Kept") as watchdog:
        children = []
        watchdog.watch(after=lambda: False, started=lambda: children)
        children.append(subprocess.Popen(command))  # as Lightning does: later than the watch begins
        ready.set()
        time.sleep(600)


def second_process(folder, ready, output):
    with output.open("w") as sys.stderr, ProcessWatchdog(folder, 1, 2, kept="Kept") as watchdog:
        watchdog.watch(after=lambda: False)
        ready.set()
        time.sleep(600)


def hold(folder, ready):
    with ProcessWatchdog(folder, 0, 2):
        ready.set()
        time.sleep(600)


LOST = "error: process {} of 2 was lost. Kept; go on with resume=true and the same hydra.run.dir."


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_a_started_process_that_ends_before_it_holds_its_lock(seconds, tmp_path):
    ready, output = FORK.Event(), tmp_path / "output"
    command = [sys.executable, "-c", f"import time; time.sleep({seconds}); raise SystemExit(9)"]
    with process(first_process, tmp_path / "locks", ready, output, command) as first:
        assert ready.wait(60)
        first.join(30)
        assert first.exitcode == 1
    assert output.read_text().split() == LOST.format(1).split()


def test_the_first_process_lost_while_the_second_starts(tmp_path):
    ready, watching, output = FORK.Event(), FORK.Event(), tmp_path / "output"
    with process(hold, tmp_path / "locks", ready) as first:
        assert ready.wait(60)
        with process(second_process, tmp_path / "locks", watching, output) as second:
            assert watching.wait(60)
            first.kill()
            second.join(30)
            assert second.exitcode == 1
    assert output.read_text().split() == LOST.format(0).split()


def test_a_run_in_which_nothing_is_left_to_start_ends(tmp_path):
    """All stages are done already, so that no other process ever starts."""
    began = time.monotonic()
    with ProcessWatchdog(tmp_path, 0, 2) as watchdog:
        watchdog.watch(after=lambda: False)
    assert time.monotonic() - began < 20
