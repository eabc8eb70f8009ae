"""Fixtures of the app's tests: a tiny clip, a server that can be killed, a browser."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ivos.app.browser import chromium, find_chromium

HERE = Path(__file__).parent
PATIENCE = 120  # seconds; the machine may be busy


def write_clip(folder, frames=12, width=96, height=64):
    folder.mkdir(parents=True)
    y, x = np.mgrid[:height, :width]
    for t in range(frames):
        picture = np.stack([90 + 40 * np.sin(x / 9), 80 + 0 * x, 120 + 40 * np.cos(y / 7)], -1)
        picture[(x - 25 - t) ** 2 + (y - 32) ** 2 < 100] = (230, 90, 60)
        cv2.imwrite(str(folder / f"{t:05d}.jpg"), picture[..., ::-1].astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A folder of twelve pictures of 96x64."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip")


@pytest.fixture(scope="session")
def write():
    """Writes a folder of pictures."""
    return write_clip


class Held:
    """A fake segmenter's rounds wait after some frames until they are let go."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def after(self, frames):
        return [frames, str(self.path)]

    def go(self):
        self.path.unlink()


@pytest.fixture
def held(tmp_path):
    return Held(tmp_path / "held")


class Process:
    """A server in a process of its own."""

    def __init__(self, **options):
        self.options = {"port": 0, **options}
        self.start()

    def command(self):
        return [sys.executable, str(HERE / "serve.py"), json.dumps(self.options)]

    def start(self):
        command = self.command()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("Annotate at "), line + self.process.stdout.read()
        self.address = line.split()[-1]
        self.base, _, self.token = self.address.partition("/?token=")
        self.port = int(self.base.rpartition(":")[2])
        self.options["port"] = self.port  # the same when it is started again, as a page expects
        self.cookie = f"ivos-{self.port}={self.token}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.kill()
        self.start()

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Program(Process):
    """annotate.py itself, with the shipped network unless told otherwise; options as on its command line."""

    def command(self):
        options = {"open_browser": "false", **self.options}
        program = HERE.parents[1] / "annotate.py"
        return [sys.executable, str(program), *(f"{name}={value}" for name, value in options.items())]


@pytest.fixture
def started():
    """Servers that are ended with the test."""
    servers = []
    yield servers
    for one in servers:
        one.end()


@pytest.fixture
def serve(started):
    """Starts servers with a fake segmenter."""

    def start(**options):
        started.append(Process(**options))
        return started[-1]

    return start


@pytest.fixture
def annotate(started):
    """Starts the program as a user does."""

    def start(**options):
        started.append(Program(**options))
        return started[-1]

    return start


def wait(condition, what="", patience=PATIENCE):
    """Until a condition holds."""
    until = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {patience} s for {what}"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def until():
    return wait


@pytest.fixture(scope="module")
def browser():
    """Chromium, as it is installed; without it the tests are skipped, but fail where CI is set."""
    if find_chromium() is None:
        message = "no Chromium (apt-get install chromium fonts-dejavu-core)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    with chromium() as found:
        yield found
