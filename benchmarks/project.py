"""Measure start, first strokes, restart and memory of the annotation app with a project of many videos.

    uv run benchmarks/project.py --videos 50

The videos are generated as folders of pictures of 854x480. The script needs Chromium and Playwright.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
PATIENCE = 1800.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=50)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument(
        "--annotated", type=int, default=5, help="number of videos with a round before the restart"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.videos):
            write_video(Path(folder) / "videos" / f"video{number:02d}", options.frames, number)
        with reported():
            figures = measure(Path(folder), options.videos, min(options.annotated, options.videos))
    table = Table("what", "measured")
    for row in figures.items():
        table.add_row(*row)
    Console(highlight=False).print(table)


def write_video(folder: Path, frames: int, seed: int, width: int = 854, height: int = 480) -> None:
    """Write pictures of a disc that moves over a pattern of its own."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    a, b = rng.uniform(15, 50, 2)
    still = np.stack([100 + 50 * np.sin(x / a), 90 + 40 * np.cos(y / b), 120 + 0 * x], -1)
    for t in range(frames):
        picture = still.copy()
        picture[(x - 250 - 4 * t) ** 2 + (y - 240) ** 2 < 80**2] = (60, 80, 220)
        cv2.imwrite(str(folder / f"{t:05d}.jpg"), picture.astype(np.uint8))


@contextmanager
def running(place: Path) -> Iterator[tuple[str, float]]:
    """Run the server of the project; give its address and when it was started."""
    begin = time.monotonic()
    options = {"video": place / "videos", "workspace": place / "workspaces"}
    with serving(ROOT / "annotate.py", **options) as address:
        yield address, begin


def measure(place: Path, videos: int, annotated: int) -> dict[str, str]:
    """Annotate some videos, open all videos, and restart; return the measurements by their names."""
    found: dict[str, str] = {}
    with chromium() as browser:
        with running(place) as (address, begin):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            wait(page, f"document.querySelectorAll('img').length >= {videos}", PATIENCE)
            found[f"start to the list of {videos} videos"] = _since(begin)
            for number in range(annotated):
                open_video(page, address, number)
                if not number:
                    wait(page, "app.stage.brush.ready", PATIENCE)
                draw(page)
                if not number:
                    found["start to first stroke saved"] = _since(begin)
                wait(page, "app.preview", PATIENCE)
                if not number:
                    found["start to first preview"] = _since(begin)
                page.keyboard.press("Enter")
                wait(page, "app.state.rounds.length === 1 && app.state.phase === 'idle'", PATIENCE)
            server = place / "workspaces" / "video00" / "lock"
            found[f"memory after rounds on {annotated} videos"] = _memory(int(server.read_text()))
            opened = []
            for number in range(videos):
                began = time.monotonic()
                open_video(page, address, number)
                opened.append(time.monotonic() - began)
                wait(page, "['idle', 'drawing'].includes(app.state.phase)", PATIENCE)
            found["a video opened, to its first frame"] = (
                f"{np.median(opened):.2f} s (worst {max(opened):.2f} s)"
            )
            found["memory after all were opened"] = _memory(int(server.read_text()))
            page.close()
        with running(place) as (address, begin):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            open_video(page, address, annotated - 1)
            found["restart to the masks of a video"] = _since(begin)
            draw(page)
            wait(page, "app.preview", PATIENCE)
            found["restart to first preview"] = _since(begin)
    return found


def open_video(page: Page, address: str, number: int) -> None:
    """Go to a video, and wait until its first frame is displayed with its mask."""
    base, _, token = address.partition("/?")
    page.goto(f"{base}/w/video{number:02d}/?{token}")
    wait(page, f"window.app?.video?.name === 'video{number:02d}'", PATIENCE)
    wait(page, "app.displayedFrame === 0 && !['loading', 'decoding'].includes(app.state?.phase)", PATIENCE)


def draw(page: Page) -> None:
    """Draw a stroke across the disc, and wait until it is saved."""
    box: Any = page.locator("#ink").bounding_box()
    x, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=4)
    page.mouse.up()
    wait(page, "app.state.pending.length > 0 && app.connection.unsaved.size === 0", PATIENCE)


def _since(begin: float) -> str:
    return f"{time.monotonic() - begin:.1f} s"


def _memory(process: int) -> str:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    size = {
        key: value.split()[0] for key, _, value in (line.partition(":") for line in lines) if value.split()
    }
    return f"{int(size['VmRSS']) / 1e6:.2f} GB (peak {int(size['VmHWM']) / 1e6:.2f} GB)"


if __name__ == "__main__":
    main()
