"""Make the pictures of the README and the documents, in ``docs/pictures``.

``uv run docs/make_pictures.py`` evaluates the included network (``session.jpg``), records a session in the
annotation page (``annotate.jpg`` and ``annotate.webp``), and draws the table of ``docs/results.md``
(``rounds.svg``). The recording needs Chromium. Its strokes are placed along the middle of the true masks, as
a user would draw them. ``uv run docs/make_pictures.py --chart`` draws the table only, ``--film`` makes only
the recording.
"""

import io
import itertools
import re
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
SESSION, SHOWN = "val-0003", (1, 2, 4)  # a clip of evaluate.py, and the rounds that are shown


class Film:
    """A sequence of screenshots of the page, each with its duration."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []
        self.times: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        """Take a screenshot that is shown for some milliseconds."""
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
    """Make all pictures."""
    (PICTURES / "rounds.svg").write_text(chart((ROOT / "docs" / "results.md").read_text()))
    if "--chart" in sys.argv:
        return
    frames, truth = render_clip(SPEC, CLIP)
    with tempfile.TemporaryDirectory() as folder:
        if "--film" not in sys.argv:
            lay_out(Path(folder) / "run")
        clip = Path(folder) / "clip"
        clip.mkdir()
        for t, frame in enumerate(frames):
            cv2.imwrite(str(clip / f"{t:05d}.png"), frame[..., ::-1])
        workspace = f"{folder}/workspaces"
        with serving(ROOT / "annotate.py", video=clip, num_objects=2, workspace=workspace) as address:
            record(address, truth)
    for path in (PICTURES / "session.jpg", PICTURES / "annotate.jpg", PICTURES / "annotate.webp"):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def chart(document: str) -> str:
    """Draw J&F by round as SVG, a line for each row of the table of real video.

    Args:
        document: the text of ``docs/results.md``.

    Returns:
        The picture.
    """
    table = document[document.index("### Real video") :]
    rows = re.findall(r"^\| (`.*?) \| (\.\d+) \| (\.\d+) \| (\.\d+) \| (\.\d+) \|$", table, re.MULTILINE)
    colours = ["#d9480f", "#e8890c", "#4263eb", "#a03b0d", "#7048a8", "#2b8a3e", "#868e96"]
    parts = [f'<line x1="60" x2="420" y1="{_height(v)}" y2="{_height(v)}" stroke="#ccc"/>'
             f'<text x="52" y="{_height(v) + 4}" text-anchor="end">.{v * 10:.0f}</text>'
             for v in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)]  # fmt: skip
    parts += [f'<text x="{60 + 120 * n}" y="280" text-anchor="middle">{n + 1}</text>' for n in range(4)]
    parts.append('<text x="240" y="300" text-anchor="middle">round</text><text x="14" y="20">J&amp;F</text>')
    for number, ((name, *values), colour) in enumerate(zip(rows, colours, strict=True)):
        points = [(60 + 120 * n, _height(float(value))) for n, value in enumerate(values)]
        dash = ' stroke-dasharray="5 4"' if "whole" in name else ""
        line = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points]
        y = 60 + 26 * number
        parts.append(
            f'<line x1="450" x2="480" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        parts.append(
            f'<text x="488" y="{y}">{name.replace("`", "").replace(" at their own size", "")}</text>'
        )
    style = 'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#1d2840"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 312" role="img" {style}>'
    return "\n".join([head, '<rect width="780" height="312" fill="#fff"/>', *parts, "</svg>", ""])


def _height(value: float) -> float:
    """Return the vertical position of a value in the chart, in pixels."""
    return round(260 - (value - 0.2) * 480, 1)


def lay_out(run: Path) -> None:
    """Run an evaluation and draw frames of one session, with one row per round."""
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
    """Record a session: strokes, propagation, a correction with brush and eraser, propagation."""
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
        if finish(film, truth):
            propagate(film)
        film.save(PICTURES / "annotate.webp")


def annotate(film: Film, mask: NDArray[np.bool_], number: int) -> None:
    """Draw a stroke along an object and wait for its preview."""
    page = film.page
    page.keyboard.press(str(number))
    draw(film, middle(mask))
    wait(page, "app.preview && app.state.phase === 'drawing'")
    film.shoot(900)


def finish(film: Film, truth: NDArray[np.uint8]) -> bool:
    """Finish the frame with the lowest confidence by hand, with brush and eraser.

    Returns:
        Whether anything was drawn.
    """
    page = film.page
    page.keyboard.press("n")
    wait(page, "app.displayedFrame === app.frame")
    time.sleep(0.3)
    film.shoot(1200)
    true = truth[page.evaluate("app.frame")]
    drawn = 0
    for number, tool in itertools.product((1, 2), ("d", "e")):
        labels = shown_labels(page)
        wrong = (
            (true == number) & (labels != number) if tool == "d" else (true != number) & (labels == number)
        )
        for part in largest(wrong):
            page.keyboard.press(str(number))
            page.keyboard.press(tool)
            depth = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 5).max()
            page.evaluate(f"app.editor.resize({2 * float(depth):.1f})")
            draw(film, middle(part))
            wait(page, "app.connection.unsaved.size === 0 && !app.editor.local.size")
            film.shoot(500)
            drawn += 1
    page.keyboard.press("s")
    film.shoot(700)
    return drawn > 0


def shown_labels(page: Page) -> NDArray[np.uint8]:
    """Return the labels [h, w] that the page shows."""
    flat = page.evaluate("app.masks.get(app.shown[app.frame], app.frame).then((labels) => [...labels])")
    return np.array(flat, np.uint8).reshape(HEIGHT, WIDTH)


def largest(wrong: NDArray[np.bool_], most: int = 2, smallest: int = 300) -> list[NDArray[np.bool_]]:
    """Return the largest connected parts of a mask, each [h, w]."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
    sizes = stats[1:, cv2.CC_STAT_AREA]
    chosen = [k for k in np.argsort(sizes)[::-1][:most] if sizes[k] >= smallest]
    return [parts == 1 + k for k in chosen]


def propagate(film: Film) -> None:
    """Propagate, and show the masks as they arrive and then the clip with its masks."""
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
    """Return a line along the largest component of a mask.

    The component is cut into slices across its long axis; the line goes through the point of each slice that
    is farthest from the border.

    Args:
        mask: The mask [h, w].
        points: The number of slices.

    Returns:
        Points (x, y) as fractions of width and height.
    """
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
    """Draw a line with the pointer, and take screenshots while it is drawn."""
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
