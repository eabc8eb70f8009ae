"""The programs, forked from a process that has imported everything and computed nothing."""

import contextlib
import errno
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path

import torch

import ivos.evaluation.run
import ivos.training.pipeline  # noqa: F401 - what both programs import late is there before the fork
from ivos.evaluation import main as evaluating
from ivos.runtime import signals
from ivos.training import main as training
from tests.support.forked import FORKED

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0  # seconds for what has to come


class Program:
    """train.py or evaluate.py at work, in a session of its own.

    Args:
        name: of the script.
        arguments: of the command line.
        folder: where it works and writes its output.
        limit: bytes that a file may have.
        full: a pattern of paths, to which nothing can be written.
        clock: the clock on the wall jumps.
        environment: more variables.
    """

    def __init__(self, name, arguments, folder, limit=None, full=None, clock=False, **environment):
        self.output, ready = folder / "output", FORKED.Event()
        self.output.unlink(missing_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment}
        given = (name, list(map(str, arguments)), folder, limit, full, clock, environment, ready)
        self.process = FORKED.Process(target=_be, args=given)
        self.process.start()
        assert ready.wait(PATIENCE)

    def until(self, there):
        """Wait until something is true, or the program has ended: whether it is still at work."""
        deadline = time.monotonic() + PATIENCE
        while self.process.exitcode is None and not there():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.005)
        return self.process.exitcode is None

    def end(self):
        """The exit status, or less than 0 and a signal; nothing that it has started is left."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"hangs: {self.said()}"
        deadline = time.monotonic() + PATIENCE
        while left := self.left():
            assert time.monotonic() < deadline, f"outlived by {left}: {self.said()}"
            time.sleep(0.01)
        return self.process.exitcode

    def left(self):
        """Command lines of the processes of its session, but for those that have ended."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, _, session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z" and place.name != str(self.process.pid):
                    found.append((place / "cmdline").read_text().replace("\0", " "))
        return found

    def started(self):
        """The numbers of the processes of its session, its own first."""
        found = [self.process.pid]
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and int(fields[1]) == self.process.pid:
                    found.append(int(place.name))
        return found

    def said(self):
        """Output and errors so far."""
        return self.output.read_text()

    def errors(self):
        """Its lines that begin with error."""
        return [line for line in self.said().splitlines() if line.startswith("error: ")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in self.started():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.join()


def _be(name, arguments, folder, limit, full, clock, environment, ready):
    multiprocessing.set_start_method("fork", force=True)  # as in a program that is started anew
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    output = os.open("output", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1), os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = [str(ROOT / name), *arguments]
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if full is not None:
        sys.addaudithook(lambda event, given: event == "open" and _refuse(full, *given))
    if clock:
        real = time.time
        time.time = lambda: real() + random.uniform(-1e6, 1e6)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which whoever runs the tests may have them ignore
    signals.take_over()
    ready.set()
    (training if name == "train.py" else evaluating).main()


def _refuse(full, path, mode, flags):
    if flags & (os.O_WRONLY | os.O_RDWR) and fnmatch(str(path), full):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of write(), without the name
