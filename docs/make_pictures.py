"""The README's pictures: what the shipped network does on synthetic clips, as it comes out.

``uv run docs/make_pictures.py`` writes ``session.jpg``, of an evaluation, and ``annotate.jpg`` and
``annotate.webp``, of a session in the page, to ``docs/pictures`` again. The latter need Chromium and
Playwright; their strokes lie where the clip's true masks are widest, as a user would see it.
"""

import io
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from playwright.sync_api import Page

from ivos.app.browser import chromium, serving, wait
from ivos.data.synthetic import SyntheticSpec, render_clip

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 854, 480
SPEC = SyntheticSpec(
    width=WIDTH, height=HEIGHT, num_frames=30, num_clips=4, seed=3, stream="val", min_objects=2,
    max_objects=2, min_size=0.3, max_size=0.4, motion=0.012, rotation=2, articulation=0.3, leaving=0,
    occluders=0, camouflage=0, jpeg_quality=90,
)  # fmt: skip
CLIP = 2
WHITE = (3, 3), (3, 3), (0, 0)
WINDOW = {"width": 1240, "height": 760}
SHRUNK = (868, 532)
SESSION, SHOWN = "val-0003", (1, 2, 4)  # a clip of evaluate.py's, and rounds of it


class Film:
    """Screenshots of the page, and how long each is shown."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []
        self.times: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        """Take one."""
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.pictures.append(picture.resize(SHRUNK, Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write an animated WebP."""
        first, *others = self.pictures
        first.save(
            path, save_all=True, append_images=others, duration=self.times, loop=0, quality=55, method=6
        )


def main() -> None:
    """Evaluate, lay out; draw the clip, serve it, record."""
    frames, truth = render_clip(SPEC, CLIP)
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder) / "run")
        clip = Path(folder) / "clip"
        clip.mkdir()
        for t, frame in enumerate(frames):
            cv2.imwrite(str(clip / f"{t:05d}.png"), frame[..., ::-1])
        workspace = f"{folder}/workspaces"
        with serving(ROOT / "annotate.py", video=clip, objects=2, workspace=workspace) as address:
            record(address, truth)
    for path in (PICTURES / "session.jpg", PICTURES / "annotate.jpg", PICTURES / "annotate.webp"):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def lay_out(run: Path) -> None:
    """Frames of a session, from its first to its last, a round a row."""
    options = [f"hydra.run.dir={run}", f"session.max_interactions={max(SHOWN)}", "save_overlays=true"]
    subprocess.run([sys.executable, str(ROOT / "evaluate.py"), *options], check=True)
    rows = []
    for number in SHOWN:
        frames = sorted((run / "overlays" / SESSION / "001" / f"{number:02d}").glob("*.jpg"))
        chosen = [frames[round(place)] for place in np.linspace(0, len(frames) - 1, 5)]
        row = np.hstack([np.pad(np.asarray(Image.open(f)), WHITE, constant_values=255) for f in chosen])
        margin = Image.new("RGB", (52, row.shape[0]), "white")
        ImageDraw.Draw(margin).text((2, row.shape[0] / 2), f"round {number}", "black", anchor="lm")
        rows.append(np.hstack([np.asarray(margin), row]))
    Image.fromarray(np.vstack(rows)).save(PICTURES / "session.jpg", quality=90)


def record(address: str, truth: NDArray[np.uint8]) -> None:
    """Run the session and keep its pictures."""
    with chromium() as browser:
        context = browser.new_context(viewport=WINDOW, color_scheme="dark")
        page = context.new_page()
        page.add_init_script("localStorage.setItem('ivos:coach', '9')")
        page.goto(address)
        wait(page, "window.app?.displayedFrame === 0 && app.state?.phase === 'idle'")
        film = Film(page)
        film.shoot(1200)
        for number in (1, 2):
            annotate(film, truth[0] == number, number)
        propagate(film)
        page.screenshot(path=PICTURES / "annotate.jpg", type="jpeg", quality=88)
        doubtful = correct(film, truth)
        if doubtful:
            propagate(film)
        film.save(PICTURES / "annotate.webp")


def annotate(film: Film, mask: NDArray[np.bool_], number: int) -> None:
    """A stroke along the object; the preview that follows."""
    page = film.page
    page.keyboard.press(str(number))
    draw(film, middle(mask))
    wait(page, "app.preview && app.state.phase === 'drawing'")
    film.shoot(900)


def correct(film: Film, truth: NDArray[np.uint8]) -> bool:
    """On the frame that the network doubts most: a stroke on the largest part of an object that it lacks."""
    page = film.page
    page.keyboard.press("n")
    wait(page, "app.displayedFrame === app.frame")
    time.sleep(0.3)
    film.shoot(1200)
    frame = page.evaluate("app.frame")
    flat = page.evaluate("[...(app.masks.at(app.shown[app.frame], app.frame) ?? [])]")
    labels = np.array(flat, np.uint8).reshape(HEIGHT, WIDTH)
    lacking = {number: (truth[frame] == number) & (labels != number) for number in (1, 2)}
    drawn = 0
    for number, mask in lacking.items():
        if mask.sum() > 400:
            annotate(film, mask, number)
            drawn += 1
    return drawn > 0


def propagate(film: Film) -> None:
    """Masks stream in; then the clip with them."""
    page = film.page
    before = page.evaluate("app.state.rounds.length")
    page.keyboard.press("Enter")
    shot = -4
    wait(page, f"app.state.rounds.length === {before + 1}")
    while page.evaluate("app.state.phase") == "propagating":
        done = page.evaluate("app.done?.[0] ?? 0")
        if done >= shot + 4:
            shot = done
            film.shoot(160)
        time.sleep(0.01)
    wait(page, "app.state.phase === 'idle'")
    film.shoot(800)
    for frame in range(0, len(page.evaluate("app.shown")), 3):
        page.evaluate(f"app.go({frame})")
        wait(page, f"app.displayedFrame === {frame}")
        time.sleep(0.05)
        film.shoot(120)
    page.evaluate("app.go(15)")
    wait(page, "app.displayedFrame === 15")
    time.sleep(0.1)
    film.shoot(900)


def middle(mask: NDArray[np.bool_], points: int = 9) -> list[tuple[float, float]]:
    """A line along the largest part of a mask, in shares of the frame: per slice across its long axis the
    place that is farthest from the border."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    part = parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    depth = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.nonzero(part)
    places = np.stack([x, y], 1).astype(float)
    centred = places - places.mean(0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    edges = np.linspace(*np.percentile(along, [12, 88]), points + 1)
    line = []
    for low, high in itertools.pairwise(edges):
        inside = np.flatnonzero((along >= low) & (along <= high))
        if len(inside):
            best = inside[np.argmax(depth[y[inside], x[inside]])]
            line.append(((x[best] + 0.5) / WIDTH, (y[best] + 0.5) / HEIGHT))
    return line


def draw(film: Film, line: list[tuple[float, float]]) -> None:
    """With the pointer, pictures on the way."""
    page = film.page
    box = page.locator("#ink").bounding_box()
    stage = page.evaluate("({x: app.stage.x, y: app.stage.y, s: app.stage.scale})")
    assert box is not None
    left, top, scale = box["x"] + stage["x"], box["y"] + stage["y"], stage["s"]
    places = [(left + x * WIDTH * scale, top + y * HEIGHT * scale) for x, y in line]
    page.mouse.move(*places[0])
    page.mouse.down()
    for index, place in enumerate(places[1:]):
        page.mouse.move(*place, steps=6)
        if index % 3 == 2:
            film.shoot(90)
    page.mouse.up()


if __name__ == "__main__":
    main()
