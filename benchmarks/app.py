"""Measure the annotation app in a browser; page, server and network run on the same machine.

    uv run benchmarks/app.py

The script needs Chromium and Playwright. By default it measures an untrained small network on a synthetic
video.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table

from ivos.app.browser import chromium, serving, wait
from ivos.runtime.command_line import reported

ROOT = Path(__file__).parents[1]
NEXT_PAINT = (
    "new Promise((done) => { const from = performance.now(); "
    "requestAnimationFrame(() => done(performance.now() - from)); })"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--video", type=Path, help="folder of pictures or video file; default: a synthetic video"
    )
    parser.add_argument("--checkpoint", help="checkpoint file or name of shipped weights; default: untrained")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--strokes", type=int, default=10)
    parser.add_argument(
        "--flow", action="store_true", help="use optical flow, regardless of the value in the checkpoint"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        video = options.video or draw_clip(place / "clip", options.frames)
        checkpoint = options.checkpoint or untrained(place / "untrained.pt")
        before = os.getloadavg()[0]
        with reported():
            figures = measure(place, video, checkpoint, options.strokes, options.flow)
    table = Table("what", "measured", "goal")
    for row in figures:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"load of the machine's {os.cpu_count()} processors before: {before:.2f}")


def draw_clip(folder: Path, frames: int, width: int = 854, height: int = 480) -> Path:
    """Write a video of a disc that moves over a pattern."""
    folder.mkdir()
    y, x = np.mgrid[:height, :width]
    for t in range(frames):
        picture = np.stack([100 + 50 * np.sin(x / 31 + t / 9), 90 + 40 * np.cos(y / 23), 120 + 0 * x], -1)
        picture[(x - 250 - 4 * t) ** 2 + (y - 240) ** 2 < 80**2] = (60, 80, 220)
        cv2.imwrite(str(folder / f"{t:05d}.jpg"), picture.astype(np.uint8))
    return folder


def untrained(path: Path) -> Path:
    """Write an untrained network of the size of conf/model/small.yaml, in a process of its own."""
    code = (
        "import sys, torch; from hydra import compose, initialize_config_dir as at; "
        "from hydra.utils import instantiate; torch.manual_seed(0); "
        "at(config_dir=sys.argv[1], version_base='1.3').__enter__(); "
        "instantiate(compose('evaluate').model).save(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT / "conf"), str(path)], check=True)
    return path


def measure(
    place: Path, video: Path, checkpoint: Path | str, strokes: int, flow: bool
) -> list[tuple[str, str, str]]:
    begin = time.monotonic()
    options = {"video": video, "checkpoint": checkpoint, "workspace": place / "workspaces"}
    options |= {"segmenter.flow": "true"} if flow else {}
    with serving(ROOT / "annotate.py", **options) as address:
        served = time.monotonic() - begin
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            opened = time.monotonic()
            page.goto(address)
            wait(page, "app.displayedFrame === 0")
            painted = time.monotonic() - opened
            figures = [("start to address, then to first frame", f"{served:.2f} + {painted:.2f} s", "2 s")]
            wait(page, "app.state.phase === 'idle'")
            ready = time.monotonic() - begin
            figures.append(("start to network ready", f"{ready:.1f} s", ""))
            figures += draw(page, strokes)
            figures += propagate(page, place)
            figures += play(page)
    return figures


def draw(page: Page, count: int) -> list[tuple[str, str, str]]:
    box: Any = page.locator("#ink").bounding_box()
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5
    ink, paint, trips, previews = [], [], [], []
    for index in range(count):
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(15):
            page.mouse.move(x + 4 * step, y + 2 * step + index)
            ink.append(page.evaluate("app.stage.inkDelay"))
        paint.append(page.evaluate(NEXT_PAINT))
        page.evaluate("app.roundTrip = null")
        began = time.monotonic()
        page.mouse.up()
        wait(page, "app.roundTrip")
        trips.append(page.evaluate("app.roundTrip"))
        wait(
            page, f"app.state.pending.length === {index + 1} && app.state.phase === 'drawing' && app.preview"
        )
        previews.append(1000 * (time.monotonic() - began))
    return [
        ("pointer to ink, then to the next paint", f"{_ms(ink)}, {_ms(paint)}", "a frame (16.7 ms)"),
        ("stroke round trip, fsync included", f"{_ms(trips)} (worst {max(trips):.1f})", "30 ms"),
        ("stroke to preview of the frame", _ms(previews), ""),
    ]


def propagate(page: Page, place: Path) -> list[tuple[str, str, str]]:
    """Measure streaming: the time of a round in the page, less the network's own time for that round."""
    began = time.monotonic()
    page.keyboard.press("Enter")
    wait(page, "app.state.rounds.length === 1 && app.state.phase === 'idle'")
    seen = time.monotonic() - began
    (journal,) = (place / "workspaces").glob("*/journal.jsonl")
    line = next(line for line in journal.read_text().splitlines() if '"round_end"' in line)
    found = re.search(r'"network_seconds":([\d.]+)', line)
    assert found is not None
    network, count = float(found[1]), page.evaluate("app.count")
    return [
        ("the network alone, a frame", f"{1000 * network / count:.1f} ms", ""),
        ("a streamed frame above that", f"{1000 * (seen - network) / count:.1f} ms", "6 ms"),
    ]


def play(page: Page) -> list[tuple[str, str, str]]:
    """Measure playback at the highest rate, instead of the clip's own one."""
    page.evaluate("app.video.rate = 1000")
    rates = []
    for _ in range(3):
        page.evaluate("app.go(0)")
        wait(page, "app.displayedFrame === 0")
        rates.append(
            page.evaluate(
                "(async () => { const t = performance.now(); await app.playback.start(); "
                "return 1000 * app.playback.last.frames / (performance.now() - t); })()"
            )
        )
    return [("playback with masks, second pass on", f"{statistics.median(rates[1:]):.0f} fps", "30 fps")]


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ms"


if __name__ == "__main__":
    main()
