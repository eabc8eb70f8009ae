"""Measure the memory and the start-up time of the annotation app with a very long video.

    uv run benchmarks/long_video.py --frames 20000

A video of the given number of frames of 854x480 is generated, opened and annotated; rounds are run near its
beginning and its end, and its masks are exported. The script needs Chromium and Playwright. The table has the
peak of the server's resident memory, which includes pages of mapped files, and of its anonymous memory.
"""

import argparse
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table

from ivos.app.browser import chromium, serving, wait
from ivos.runtime.command_line import reported

ROOT = Path(__file__).parents[1]
PATIENCE = 7200.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=854)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--segmenter", default="atnet", help="segmenter, as in annotate.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        film = write_film(Path(folder) / "film.mp4", options.frames, options.width, options.height)
        with reported():
            figures = measure(Path(folder), film, options.frames, options.segmenter)
    table = Table("what", "measured")
    for row in figures.items():
        table.add_row(*row)
    Console(highlight=False).print(table)


def write_film(path: Path, frames: int, width: int, height: int) -> Path:
    """Write a video of a disc that moves over a pattern, with an encoding that is fast but not compact."""
    y, x = np.mgrid[:height, :width]
    still = np.stack([100 + 50 * np.sin(x / 31), 90 + 40 * np.cos(y / 23), 120 + 0 * x], -1).astype(np.uint8)
    side = height // 3
    disc = (x[:side, :side] - side / 2) ** 2 + (y[:side, :side] - side / 2) ** 2
    inside = disc < (side / 2) ** 2
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            picture = still.copy()
            left = (3 * t) % (width - side)
            picture[side : 2 * side, left : left + side][inside] = (220, 80, 60)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class Memory(threading.Thread):
    """A thread that records the peaks of a process's resident and anonymous memory, in bytes."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.resident, self.anonymous = process, 0, 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
            except OSError:
                return
            found = {key: value for key, _, value in (line.partition(":") for line in lines)}
            if "RssAnon" in found:
                self.resident = max(self.resident, 1024 * int(found["VmHWM"].split()[0]))
                self.anonymous = max(self.anonymous, 1024 * int(found["RssAnon"].split()[0]))
            time.sleep(0.05)


def measure(place: Path, film: Path, frames: int, segmenter: str) -> dict[str, str]:
    """Open a video, annotate it, propagate and export; return the measurements by their names."""
    begin = time.monotonic()
    options = {"video": film, "segmenter": segmenter, "workspace": place / "workspaces"}
    options["limits.frames"] = max(frames, 20_000)
    found: dict[str, str] = {}
    with serving(ROOT / "annotate.py", **options) as address, chromium() as browser:
        memory = Memory(int((place / "workspaces" / "film" / "lock").read_text()))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        wait(page, "app.displayedFrame === 0 && app.stage.brush.ready", PATIENCE)
        found["start to first frame, ready to draw"] = _seconds(begin)
        drawn = time.monotonic()
        draw(page)
        wait(page, "app.preview", PATIENCE)
        found["first stroke to its preview"] = _seconds(drawn)
        wait(page, "['idle', 'drawing'].includes(app.state.phase)", PATIENCE)
        found["start to all frames decoded"] = _seconds(begin)
        found["memory then"] = _memory(memory)
        for frame in (0, 3 * frames // 4):
            page.evaluate(f"app.go({frame})")
            wait(page, f"app.displayedFrame === {frame}", PATIENCE)
            if frame:
                draw(page)
                wait(page, "app.preview && app.state.phase === 'drawing'", PATIENCE)
            page.evaluate(f"app.range.set({max(0, frame - 20)}, {frame + 20})")
            page.evaluate("app.run(true)")
            wait(
                page, f"app.state.rounds.length === {1 + (frame > 0)} && app.state.phase === 'idle'", PATIENCE
            )
        found["memory after rounds at both ends"] = _memory(memory)
        began = time.monotonic()
        page.evaluate("app.connection.addEventListener('exported', () => { app.written = true; })")
        page.evaluate("app.panel.export('coco')")
        wait(page, "app.written", PATIENCE)
        found["export of COCO JSON"] = _seconds(began)
        found["peak of the server's memory"] = _memory(memory)
    return found


def draw(page: Page) -> None:
    """Draw a stroke across the middle of the frame."""
    box: Any = page.locator("#ink").bounding_box()
    x, y = box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.up()
    wait(page, "app.connection.unsaved.size === 0")


def _seconds(begin: float) -> str:
    return f"{time.monotonic() - begin:.1f} s"


def _memory(memory: Memory) -> str:
    return f"{memory.resident / 1e9:.2f} GB, {memory.anonymous / 1e9:.2f} GB of it anonymous"


if __name__ == "__main__":
    main()
