"""Tests of the page in a real browser: what a user sees and does."""

import contextlib
import csv
import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from ivos.app import browser as driven
from ivos.app import study
from ivos.data.synthetic import SyntheticSpec, render_clip
from ivos.networks.shipped import weights_file
from ivos.runtime.command_line import sha256
from ivos.video.palette import write_labels
from ivos.video.writer import write_video

PATIENCE = 120_000  # milliseconds; the machine may be busy
STATE = """JSON.stringify({
    frame: app.frame, shown: app.displayedFrame, wish: app.wish, displayed: app.displayed,
    playing: app.playing,
    count: app.count, frames: [...app.frames.bitmaps.keys()], asked: [...app.frames.asked.keys()],
    focus: document.activeElement.outerHTML.slice(0, 99), video: app.video, state: app.state
})"""


@pytest.fixture
def visit(browser, wait):
    """Opens pages; at the end none may have had an error."""
    contexts, errors = [], []

    def visit(address, width=1000, height=700, context=None):
        if context is None:
            context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
            contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        wait(page, "app.displayedFrame === 0 && app.state.phase !== 'loading'")
        page.evaluate(LISTEN)
        return page

    yield visit
    for context in contexts:
        context.close()
    # A connection that is refused while a killed server is away is no fault of the page.
    assert [text for text in errors if "net::ERR_" not in text and "WebSocket connection" not in text] == []


@pytest.fixture
def wait():
    """Until an expression holds in the page; else the page's state is in the error."""

    def wait(page, expression):
        try:
            driven.wait(page, expression, PATIENCE / 1000)
        except TimeoutError as error:
            raise AssertionError(f"{error}; {page.evaluate(STATE)}") from None

    return wait


@pytest.fixture
def server(serve, tmp_path, clip):
    return serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"delay": 0.02}})


COUNTS = "[app.connection.unsaved.size, app.mine.size, app.state.pending.length]"
LISTEN = """() => {
    app.said = [];
    app.toast = (text, ...rest) => {
        app.said.push(String(text.textContent ?? text));
        Object.getPrototypeOf(app).toast.call(app, text, ...rest);
    };
}"""
SETTLED = """(() => {
    const { width, height } = app.stage.box.getBoundingClientRect();
    const { ink, ratio } = app.stage;
    return ink.width === Math.round(width * ratio) && ink.height === Math.round(height * ratio);
})()"""
PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TIMELINE = "app.timeline.canvas.toDataURL()"
PLACE = """(() => {
    const { x, y, scale, width, height, ink } = app.stage;
    const box = ink.getBoundingClientRect();
    return [box.x + x, box.y + y, width * scale, height * scale];
})()"""


def at(page, *shares):
    """Where a share of the frame is in the window, once the page has its final shape."""
    driven.wait(page, SETTLED)
    left, top, width, height = page.evaluate(PLACE)
    return left + shares[0] * width, top + shares[1] * height


def draw(page, points, button="left"):
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*at(page, *point), steps=4)
    page.mouse.up(button=button)


def journal(tmp_path, name="clip"):
    lines = (tmp_path / name / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_draw_undo_propagate_reload(server, visit, wait, tmp_path):
    page = visit(server.address)
    assert "token" not in page.url
    draw(page, [(0.2, 0.3), (0.3, 0.5)])
    wait(page, "app.state.pending.length === 1 && app.preview && app.state.phase === 'drawing'")
    (stroke,) = [line for line in journal(tmp_path) if line["type"] == "stroke"]
    assert np.abs(np.array(stroke["path"])[[0, -1]] - [(0.2, 0.3), (0.3, 0.5)]).max() < 0.01
    page.keyboard.press("Control+z")
    wait(page, "app.state.pending.length === 0 && !app.preview")
    page.keyboard.press("Control+Shift+Z")
    wait(page, "app.state.pending.length === 1")
    draw(page, [(0.8, 0.8)], button="right")
    wait(page, "app.state.pending.length === 2")
    assert journal(tmp_path)[-1]["object_id"] == 0
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.state.rounds.length === 1")
    assert page.evaluate("app.shown") == [1] * 12
    page.keyboard.press("ArrowRight")
    wait(page, "app.displayedFrame === 1 && app.masks.at(1, 1)")
    labels = np.array(page.evaluate("[...app.masks.at(1, 1)]")).reshape(64, 96)
    assert labels[32, 30] == 1
    page.reload()
    wait(page, "window.app?.state?.phase === 'idle' && app.displayedFrame === 0")
    assert page.evaluate("app.shown") == [1] * 12
    page.click("#undo")
    wait(page, "app.state.rounds.length === 0")
    page.click("#redo")
    wait(page, "app.state.rounds.length === 1")


def test_stop_and_continue(serve, visit, wait, tmp_path, clip, held):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(4)}})
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.click("#run")
    wait(page, "app.state.phase === 'propagating' && app.done?.[0] >= 2")
    assert page.inner_text("#run span") == "Stop"
    page.keyboard.press("Escape")
    wait(page, "app.connection.asked.size === 0")  # the server knows
    held.go()
    wait(page, "app.state.phase === 'stopped'")
    assert 0 < page.evaluate("app.shown.filter(Boolean).length") < 12
    page.click("#continue")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")


def test_drawing_while_zoomed_lands_where_it_was_drawn(server, visit, wait, tmp_path):
    page = visit(server.address)
    x, y = (round(value) for value in at(page, 0.7, 0.4))  # a wheel's place has no fractions
    left, top, width, height = page.evaluate(PLACE)
    there = (x - left) / width, (y - top) / height
    page.mouse.move(x, y)
    for _ in range(4):
        page.mouse.wheel(0, -240)
    wait(page, "app.stage.scale > 20")
    assert np.abs(np.subtract(at(page, *there), (x, y))).max() < 0.1  # the pointer's place stays
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(x - 60, y + 25, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert np.abs(np.subtract(at(page, *there), (x - 60, y + 25))).max() < 0.1
    draw(page, [(0.68, 0.38), (0.72, 0.42)])
    wait(page, "app.state.pending.length === 1")
    (stroke,) = [line for line in journal(tmp_path) if line["type"] == "stroke"]
    assert np.abs(np.array(stroke["path"])[[0, -1]] - [(0.68, 0.38), (0.72, 0.42)]).max() < 0.002


def test_a_finger_draws_and_two_zoom(server, visit, wait, browser, tmp_path):
    context = browser.new_context(viewport={"width": 700, "height": 600}, has_touch=True)
    page = visit(server.address, context=context)
    devtools = context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", at(page, 0.2, 0.5))
    for share in (0.25, 0.3, 0.4):
        touch("touchMove", at(page, share, 0.5))
    touch("touchEnd")
    wait(page, "app.state.pending.length === 1")
    (stroke,) = [line for line in journal(tmp_path) if line["type"] == "stroke"]
    assert np.abs(np.array(stroke["path"])[[0, -1]] - [(0.2, 0.5), (0.4, 0.5)]).max() < 0.01
    scale = page.evaluate("app.stage.scale")
    one, two = at(page, 0.4, 0.5), at(page, 0.6, 0.5)
    touch("touchStart", one)
    touch("touchStart", one, two)
    touch("touchMove", (one[0] - 60, one[1]), (two[0] + 60, two[1]))
    wait(page, f"app.stage.scale > 1.5 * {scale}")
    touch("touchEnd")
    wait(page, "app.stage.pointers.size === 0")
    assert page.evaluate(COUNTS) == [0, 0, 1]  # the first of the two fingers has drawn nothing
    context.close()


def test_a_touch_that_the_system_takes_away_draws_nothing(server, visit, wait, browser):
    """pointercancel, as by a notification or a gesture: of a stroke, a brush and a box."""
    context = browser.new_context(viewport={"width": 700, "height": 600}, has_touch=True)
    page = visit(server.address, context=context)
    devtools = context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    for tool in ("s", "d", "t"):
        page.keyboard.press(tool)
        touch("touchStart", at(page, 0.2, 0.5))
        for share in (0.3, 0.4):
            touch("touchMove", at(page, share, 0.6))
        wait(page, "app.stage.live || app.editor.work")
        touch("touchCancel")
        wait(page, "app.stage.pointers.size === 0 && !app.stage.live && !app.editor.work")
    assert page.evaluate(COUNTS) == [0, 0, 0]
    assert page.evaluate("app.editor.local.size") == 0
    page.keyboard.press("s")
    touch("touchStart", at(page, 0.2, 0.5))
    touch("touchMove", at(page, 0.4, 0.5))
    touch("touchEnd")
    wait(page, "app.state.pending.length === 1")  # the next one draws
    context.close()


def test_page_down_goes_to_the_next_video_that_is_not_done(serve, visit, wait, tmp_path, write):
    folders = [write(tmp_path / "videos" / name, frames=4) for name in ("a", "b", "c")]
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder) for folder in folders])
    page = visit(f"{server.base}/w/a/?token={server.token}")
    here = "window.app?.video?.name === '{}' && app.state?.phase === 'idle' && app.displayedFrame === 0"
    page.keyboard.press("PageDown")
    wait(page, here.format("b"))
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    page.click("#done")
    wait(page, here.format("c"))
    page.keyboard.press("PageDown")
    wait(page, here.format("a"))
    page.keyboard.press("PageDown")  # b is done
    wait(page, here.format("c"))


@pytest.mark.slow
def test_a_video_is_uploaded_on_the_start_page(serve, visit, wait, tmp_path, write):
    folders = [write(tmp_path / "videos" / name, frames=4) for name in ("a", "b")]
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder) for folder in folders], uploads=1_000_000)
    page = visit(f"{server.base}/w/a/?token={server.token}")
    page.goto(server.base)
    wait(page, "document.querySelectorAll('.tile').length === 2")
    film = write_video(tmp_path / "film.mp4", [np.full((64, 96, 3), 30 * t, np.uint8) for t in range(5)])
    page.set_input_files("#upload", film)
    wait(page, "document.querySelectorAll('.tile').length === 3")
    wait(page, "[...document.querySelectorAll('.tile img')].every((one) => one.complete && one.naturalWidth)")
    page.click(".tile[href='/w/film/']")
    wait(
        page, "window.app?.video?.name === 'film' && app.state?.phase === 'idle' && app.displayedFrame === 0"
    )


def test_a_pen_draws(server, visit, wait, tmp_path):
    page = visit(server.address)
    devtools = page.context.new_cdp_session(page)

    def pen(kind, share, buttons):
        x, y = at(page, share, 0.4)
        event = {"type": kind, "x": x, "y": y, "pointerType": "pen", "force": 0.6, "buttons": buttons}
        devtools.send("Input.dispatchMouseEvent", {"button": "left", "clickCount": 1, **event})

    page.evaluate(
        "app.stage.ink.addEventListener('pointerdown', (event) => { app.kind = event.pointerType; })"
    )
    pen("mousePressed", 0.2, 1)
    for share in (0.3, 0.4, 0.5):
        pen("mouseMoved", share, 1)
    pen("mouseReleased", 0.5, 0)
    wait(page, "app.state.pending.length === 1")
    assert page.evaluate("app.kind") == "pen"
    (stroke,) = [line for line in journal(tmp_path) if line["type"] == "stroke"]
    assert np.abs(np.array(stroke["path"])[[0, -1]] - [(0.2, 0.4), (0.5, 0.4)]).max() < 0.01


@pytest.mark.slow
def test_killed_and_started_again_the_page_comes_back(serve, visit, wait, tmp_path, clip, held):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(4)}})
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("Enter")
    wait(page, "app.done?.[0] >= 3")
    server.kill()
    draw(page, [(0.5, 0.2), (0.6, 0.3)])  # while nobody answers: kept, and sent later
    wait(page, "app.connection.unsaved.size === 1")
    held.go()
    server.start()
    wait(page, "app.connection.ready && app.state.rounds.length === 1 && app.state.pending.length === 1")
    wait(page, "app.connection.unsaved.size === 0")
    one = page.evaluate("app.state.rounds[0]")
    assert one["status"] == "stopped"
    assert len([line for line in journal(tmp_path) if line["type"] == "stroke"]) == 2


@pytest.mark.slow
def test_two_tabs_on_two_videos_and_two_on_one(serve, visit, wait, tmp_path, clip, write):
    other = write(tmp_path / "other", frames=6)
    server = serve(root=str(tmp_path / "ws"), videos=[str(clip), str(other)], **{"with": {"delay": 0.02}})
    base = server.address.partition("?")[0]
    home = f"{base}w/clip/?token={server.token}"
    one = visit(home)
    two = visit(f"{base}w/other/", context=one.context)
    for page in (one, two):
        draw(page, [(0.3, 0.5), (0.4, 0.5)])
        wait(page, "app.state.pending.length === 1")
        page.keyboard.press("Enter")
    for page in (one, two):
        wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    reader = visit(f"{base}w/clip/", context=one.context)
    wait(reader, "app.state.role === 'reader'")
    draw(reader, [(0.5, 0.5), (0.6, 0.5)])
    assert reader.evaluate("app.connection.unsaved.size") == 0
    reader.click("text=Take over")
    wait(reader, "app.state.role === 'writer'")
    wait(one, "app.state.role === 'reader'")
    assert one.inner_text(".banner").startswith("Another page")


def test_a_narrow_window(server, visit, wait, tmp_path):
    page = visit(server.address, width=360, height=640)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in ("#run", "#play", "#timeline", "#export", "#panel"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 360, name
        assert box["y"] + box["height"] <= 640, name
    draw(page, [(0.1, 0.1), (0.9, 0.9)])
    wait(page, "app.state.pending.length === 1")
    page.click("#panel")
    page.click("#add-object")
    wait(page, "app.state.objects.length === 2")
    assert page.locator("#objects li").count() == 3


def test_the_export_menu_fits_a_phone(server, visit, wait):
    page = visit(server.address, width=375, height=667)
    page.click("#export")
    box = page.locator("#exports").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375
    assert box["y"] + box["height"] <= 667


def test_zoomed_to_200_percent_the_stage_stays_usable(server, visit, wait):
    page = visit(server.address, width=620, height=350)  # a window of 1240x700
    assert page.evaluate("app.stage.box.getBoundingClientRect().height") >= 240


def test_exports_are_downloaded(server, visit, wait, tmp_path):
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    for kind, size in (("davis", 5000), ("coco", 500), ("video", 1000), ("scribbles", 100)):
        page.click("#export")
        with page.expect_download() as download:
            page.click(f"[data-format={kind}]")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.stat().st_size > size
        page.keyboard.press("Escape")
        wait(page, "document.querySelector('#exports').hidden && !app.state.exporting")
    assert page.evaluate("app.state.pending") == []


def test_objects_styles_help_and_play(server, visit, wait):
    page = visit(server.address)
    page.keyboard.press("a")
    wait(page, "app.state.objects.length === 2 && app.object === 2")
    name = page.locator("#objects li[data-number='2'] input.label")
    name.dblclick()
    name.fill("ball")
    name.press("Enter")
    wait(page, "app.state.objects[1].name === 'ball'")
    page.keyboard.press("h")
    wait(page, "app.state.objects[1].hidden")
    page.keyboard.press("0")
    wait(page, "document.querySelector('#tool').innerText === 'Background'")
    page.keyboard.press("m")
    wait(page, "app.style === 'outline'")
    page.keyboard.press("?")
    wait(page, "document.querySelector('#help-dialog').open")
    assert page.locator("#keys dt").count() > 15
    page.keyboard.press("Escape")
    wait(page, "!document.querySelector('dialog[open]')")
    page.keyboard.press("Space")
    wait(page, "app.frame === 11 && !app.playing")
    page.click("#theme")
    wait(page, "document.documentElement.dataset.theme === 'dark'")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#objects li[data-number='2']").hover()
    page.locator("#objects li[data-number='2'] [aria-label='Remove ball']").click()
    wait(page, "app.state.objects[1].removed && app.object === 1")


def test_doubtful_is_what_is_clearly_below_the_rounds_own_middle(server, visit, wait):
    page = visit(server.address)
    rule = "(list) => import('/static/timeline.js').then(({ relative }) => relative(list))"
    assert page.evaluate(rule, [[t, 0.2] for t in range(9)]) == [[t, 1] for t in range(9)]
    assert page.evaluate(rule, [[3, 0.9], [4, 0.8], [5, 0.4]]) == [[3, 1.125], [4, 1], [5, 0.5]]
    assert page.evaluate(rule, []) == []
    assert page.evaluate("import('/static/timeline.js').then(({ LOW_CONFIDENCE }) => LOW_CONFIDENCE)") == 0.8
    blank = page.evaluate(TIMELINE)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, f"app.state.pending.length === 1 && app.timeline.pending.has(0) && {TIMELINE} !== {blank!r}")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    page.evaluate(PAINTED)
    before = page.evaluate(TIMELINE)  # with the end of the round it shows all there is to show
    page.evaluate("app.timeline.draw()")
    page.evaluate(PAINTED)
    assert page.evaluate(TIMELINE) == before
    # The fake's confidence falls evenly from 1 to .4 over the twelve frames.
    assert page.evaluate("app.timeline.lowConfidence().map(([frame]) => frame)") == [11, 10, 9]
    for frame in (11, 10, 9, 11):
        page.keyboard.press("n")
        wait(page, f"app.displayedFrame === {frame}")
    page.evaluate(
        "app.state.rounds[0].confidence.forEach((one) => { one[1] = one[0] === 4 ? 0.9 : 1; }),"
        "app.timeline.changed()"
    )
    assert (
        page.evaluate("app.timeline.lowConfidence()") == []
    )  # none is clearly below: N goes to the least sure
    page.keyboard.press("n")
    wait(page, "app.displayedFrame === 4")


def test_after_a_click_the_keys_are_the_pages(server, visit, wait):
    """Space plays, and does not press again what was clicked; on what the keyboard came to, it presses."""
    page = visit(server.address)
    page.click("#next")
    wait(page, "app.frame === 1")
    page.keyboard.press("Space")
    wait(page, "app.frame === 11 && !app.playing")
    page.click("#show-strokes")
    page.keyboard.press("Home")
    wait(page, "app.frame === 0")
    page.focus("#next")
    page.keyboard.press("Space")
    wait(page, "app.frame === 1 && !app.playing")


def test_nothing_moves_under_the_pointer_while_one_draws_and_propagates(
    serve, visit, wait, tmp_path, clip, held
):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(4)}})
    page = visit(server.address, width=1240, height=760)
    before = at(page, 0, 0), at(page, 1, 1)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    assert (at(page, 0, 0), at(page, 1, 1)) == before
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'propagating' && app.done?.[0] >= 2")
    assert (at(page, 0, 0), at(page, 1, 1)) == before
    held.go()
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    assert (at(page, 0, 0), at(page, 1, 1)) == before


@pytest.fixture
def disk(tmp_path):
    """A file system of two megabytes; `fill` leaves nothing of them."""

    class Disk:
        folder = tmp_path / "disk"

        def fill(self):
            with contextlib.suppress(OSError), open(self.folder / "ballast", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        def free(self):
            (self.folder / "ballast").unlink()

    Disk.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(Disk.folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield Disk()
    subprocess.run(["umount", "-l", str(Disk.folder)], check=True)


BANNERS = "[...document.querySelectorAll('.banner')].map((one) => one.textContent)"
SAID = f"[...app.said, ...{BANNERS}].some((text) => text.includes({{!r}}))"


@pytest.mark.slow
def test_a_full_disk_is_said_and_nothing_is_lost(disk, serve, visit, wait, clip, held):
    options = {"with": {"hold": held.after(4)}}
    server = serve(root=str(disk.folder), videos=[str(clip)], **options)
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    disk.fill()
    full, drawn = SAID.format("No space left on device"), 1
    while not page.evaluate(full):  # the journal's last block has room for some more
        assert drawn < 50
        draw(page, [(0.4, 0.3), (0.4, 0.4)])
        drawn += 1
        wait(page, f"app.connection.unsaved.size === 0 || {full}")
    assert page.evaluate(COUNTS) == [1, 1, drawn - 1]
    disk.free()
    wait(page, f"app.state.pending.length === {drawn} && app.connection.unsaved.size === 0")  # sent by itself
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'propagating' && app.done?.[0] >= 3")
    disk.fill()
    held.go()
    wait(page, "app.state.phase === 'stopped'")
    wait(page, SAID.format("round 1: "))
    assert page.evaluate("app.shown.filter(Boolean).length") >= 3
    page.click("#export")
    page.click("[data-format=coco]")
    wait(page, SAID.format("export: "))
    wait(page, "!app.state.exporting")
    closed = "(id) => document.querySelector(id).hidden"
    assert page.evaluate(closed, "#exports")  # the menu would cover the button to go on
    assert page.evaluate(closed, "#export-note")
    disk.free()
    page.click("#continue")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean) && app.state.saved")
    server.restart()
    wait(page, "app.connection.ready && app.state.phase === 'idle' && app.shown.every(Boolean)")
    assert page.evaluate("app.state.notice") == ""


def test_a_network_out_of_memory_is_said_and_what_it_reached_stays(serve, visit, wait, tmp_path, clip):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"fail_at": 4}})
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'stopped'")
    wait(page, SAID.format("round 1: out of memory; the masks computed so far are kept"))
    assert page.evaluate("app.shown.filter(Boolean).length") == 4


@pytest.mark.slow
def test_a_network_that_cannot_be_had_is_said_and_tried_again(serve, visit, wait, tmp_path, clip):
    refuse = tmp_path / "refuse"
    refuse.touch()
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"refuse": str(refuse)}})
    page = visit(server.address)
    wait(page, "app.state.phase === 'failed'")
    wait(page, SAID.format("checkpoint=x.pt: no such file"))
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")  # strokes are kept meanwhile
    refuse.unlink()
    page.click("text=Try again")
    wait(page, "app.state.phase === 'drawing' && !app.state.failure")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")


def test_a_stroke_that_is_refused_is_said_and_goes(server, visit, wait):
    page = visit(server.address)
    page.evaluate("app.drawn({ path: [[0.5, 0.5]], background: false, start: 0, end: 0 }, (app.object = 9))")
    wait(page, SAID.format("The stroke was refused: there is no object 9"))
    assert page.evaluate(COUNTS) == [0, 0, 0]


def pixel(page, x, y):
    """Where a point of the frame, in its pixels, is in the window."""
    width, height = page.evaluate("app.video.size")
    return at(page, x / width, y / height)


def drag(page, start, end):
    page.mouse.move(*pixel(page, *start))
    page.mouse.down()
    page.mouse.move(*pixel(page, *end), steps=2)
    page.mouse.up()


SAVED = "app.connection.unsaved.size === 0 && app.editor.local.size === 0"
LABELS = "app.masks.get(app.editor.shownOn({0}), {0}).then((labels) => [...labels])"


@pytest.mark.slow
def test_a_user_finishes_three_objects_pixel_for_pixel(server, visit, wait):
    """Boxes, polygon, brush and eraser on one frame; propagation, a later round and an undo leave it so."""
    page = visit(server.address)
    for number in (2, 3):
        page.keyboard.press("a")
        wait(page, f"app.state.objects.length === {number} && app.object === {number}")
    truth = np.zeros((64, 96), np.uint8)
    y, x = np.mgrid[:64, :96]
    truth[(x - 20.5) ** 2 + (y - 20.5) ** 2 < 8**2] = 1
    truth[40:50, 30:60] = 2
    truth[10:14, 70:90] = 3
    truth[11, 72] = 0
    page.keyboard.press("1")
    page.keyboard.press("r")
    for row in np.flatnonzero((truth == 1).any(axis=1)):  # a disc, row by row
        columns = np.flatnonzero(truth[row] == 1)
        drag(page, (columns[0] + 0.2, row + 0.2), (columns[-1] + 0.8, row + 0.8))
    page.keyboard.press("2")
    page.keyboard.press("g")
    for corner in ((30, 40), (60, 40), (60, 50), (30, 50)):
        page.mouse.click(*pixel(page, *corner))
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    page.keyboard.press("r")
    drag(page, (70.2, 10.2), (89.8, 13.8))
    page.keyboard.press("e")
    page.evaluate("app.editor.resize(1)")
    page.mouse.click(*pixel(page, 72.5, 11.5))
    wait(page, SAVED)
    labels = np.array(page.evaluate(LABELS.format(0))).reshape(64, 96)
    assert (labels == truth).all()
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean) && app.state.rounds.length === 1")
    page.keyboard.press("s")
    page.keyboard.press("End")
    wait(page, "app.displayedFrame === 11")
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.state.rounds.length === 2")
    page.reload()
    wait(page, "window.app?.state?.phase === 'idle' && app.displayedFrame === 0")
    page.evaluate(LISTEN)
    assert (np.array(page.evaluate(LABELS.format(0))).reshape(64, 96) == truth).all()
    page.keyboard.press("Control+z")
    wait(page, "app.state.rounds.length === 1")
    assert (np.array(page.evaluate(LABELS.format(0))).reshape(64, 96) == truth).all()


def test_the_brush_draws_at_once_and_is_undone_stroke_by_stroke(server, visit, wait, tmp_path):
    page = visit(server.address)
    page.keyboard.press("d")
    page.evaluate("app.editor.resize(6)")
    drag(page, (20, 20), (40, 20))
    drag(page, (20, 40), (40, 40))
    assert page.evaluate(LABELS.format(0)).count(1) > 2 * 6 * 20  # shown before the server has answered
    wait(page, SAVED)
    assert [line["type"] for line in journal(tmp_path)].count("edit") == 2
    page.keyboard.press("Control+z")
    wait(page, "app.state.redoable?.what === 'edit'")
    labels = np.array(page.evaluate(LABELS.format(0))).reshape(64, 96)
    assert labels[20, 30] == 1
    assert labels[40, 30] == 0
    page.mouse.move(*pixel(page, 60, 30))
    page.mouse.down()
    page.mouse.move(*pixel(page, 70, 30))
    page.keyboard.press("Control+z")  # in the middle of a stroke: this stroke and nothing else
    page.mouse.up()
    assert page.evaluate("app.editor.work") is None
    assert page.evaluate(LABELS.format(0)).count(1) == labels.sum()
    page.mouse.move(*pixel(page, 60, 30))
    page.mouse.down()
    page.mouse.move(*pixel(page, 70, 30))
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.evaluate("app.connection.unsaved.size") == 0
    page.keyboard.press("Control+Shift+Z")
    wait(page, "app.state.undoable?.what === 'edit' && !app.state.redoable")


def test_a_box_around_an_object_and_a_fill_between_frames(server, visit, wait, tmp_path):
    page = visit(server.address)
    page.keyboard.press("t")
    drag(page, (30, 20), (60, 50))
    wait(page, "app.state.pending.length === 1 && app.preview && app.state.phase === 'drawing'")
    (stroke,) = [line for line in journal(tmp_path) if line["type"] == "stroke"]
    assert stroke["box"]
    assert np.abs(np.array(stroke["path"]) * (96, 64) - [(30, 20), (60, 50)]).max() < 0.6
    drag(page, (30, 20), (30.5, 20.5))  # hardly drawn: none
    page.mouse.move(*pixel(page, 30, 20))
    page.mouse.down()
    page.mouse.move(*pixel(page, 50, 40))
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.evaluate(COUNTS) == [0, 0, 1]
    page.keyboard.press("Control+z")
    wait(page, "app.state.pending.length === 0")
    page.keyboard.press("r")
    drag(page, (10, 10), (29.9, 29.9))
    page.keyboard.press("End")
    wait(page, "app.displayedFrame === 11")
    drag(page, (50, 10), (69.9, 29.9))
    wait(page, SAVED)
    page.keyboard.press("u")  # not between two annotated frames
    assert page.evaluate("app.said.some((text) => text.startsWith('Go to a frame between'))")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    wait(page, "app.shown.every(Boolean) && app.displayedFrame === 6")
    page.evaluate("app.masks.get(app.shown[6], 6)")
    labels = np.array(page.evaluate("[...app.masks.at(app.shown[6], 6)]")).reshape(64, 96)
    assert labels[12:28, 34:50].all()
    assert labels.sum() < 500
    page.keyboard.press("Control+z")
    wait(page, "app.shown.filter(Boolean).length === 2")


def test_strokes_on_two_frames_are_both_propagated(server, visit, wait):
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    page.keyboard.press("End")
    wait(page, "app.displayedFrame === 11")
    draw(page, [(0.5, 0.5), (0.6, 0.5)])
    page.keyboard.press("Enter")  # at once: what was drawn last is part of it
    wait(page, "app.state.rounds.length === 2 && app.state.phase === 'idle' && !app.state.pending.length")
    assert [one["frame"] for one in page.evaluate("app.state.rounds")] == [11, 0]
    page.keyboard.press("Home")
    draw(page, [(0.3, 0.2), (0.4, 0.2)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("End")
    wait(page, "app.displayedFrame === 11")
    page.keyboard.press("Control+z")
    wait(page, "app.state.pending.length === 0 && app.displayedFrame === 0")  # it shows what it undoes
    assert any("stroke on frame 0" in text for text in page.evaluate("app.said"))


def test_a_stroke_belongs_to_the_frame_that_is_displayed(server, visit, wait, tmp_path):
    page = visit(server.address)
    page.evaluate("app.frames.get = () => new Promise(() => {}), app.frames.bitmaps.clear()")  # a slow line
    page.keyboard.press("End")
    assert page.evaluate("app.displayedFrame") == 0
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.connection.unsaved.size === 0")
    (stroke,) = [line for line in journal(tmp_path) if line["type"] == "stroke"]
    assert stroke["frame"] == 0


def test_objects_are_renamed_by_double_click_f2_and_pencil(server, visit, wait):
    page = visit(server.address)
    name = page.locator("#objects li[data-number='1'] input.label")
    name.click()
    page.keyboard.press("a")  # still a key of the page
    wait(page, "app.state.objects.length === 2")
    assert page.evaluate("app.state.objects[0].name") == "Object 1"
    for number, begin in ((1, lambda: name.dblclick()), (2, lambda: page.keyboard.press("F2"))):
        begin()
        wait(page, "document.activeElement.matches('input.label') && !document.activeElement.readOnly")
        page.keyboard.type(f"name {number}")
        page.keyboard.press("Enter")
        wait(page, f"app.state.objects.some((one) => one.name === 'name {number}')")
    page.locator("#objects li[data-number='2']").hover()
    page.locator("#objects li[data-number='2'] [aria-label^='Rename']").click()
    wait(page, "document.activeElement.matches('input.label')")


def test_by_keyboard_alone(server, visit, wait):
    """Objects, tools, locks, range and rounds are reached and used without a pointer."""
    page = visit(server.address)
    page.keyboard.press("a")
    wait(page, "app.state.objects.length === 2 && app.object === 2")
    page.focus("#objects li[data-number='1'] .choice")
    page.keyboard.press("Enter")
    wait(page, "app.object === 1")
    page.keyboard.press("k")
    wait(page, "app.object === 2")
    page.focus("#tools [data-tool=stroke]")
    page.keyboard.press("ArrowDown")
    wait(page, "app.editor.tool === 'around'")
    page.keyboard.press("ArrowDown")
    wait(page, "app.editor.tool === 'brush'")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("v")
    wait(page, "app.locks.has(0, 0)")
    page.keyboard.press("Control+z")
    wait(page, "!app.locks.has(0, 0)")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    page.keyboard.press("End")
    page.keyboard.press("o")
    wait(page, "String(app.range.bounds) === '3,11'")


def test_no_serious_findings_of_axe(server, visit, wait, browser):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        found = Axe().run(page).response["violations"]
        serious = [
            (one["id"], one["help"], [node["target"] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], theme


def test_without_a_token_the_page_says_what_to_do(server, browser):
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(server.base)
    assert answer.status == 403
    assert "open the address that the server has printed" in page.inner_text("body")
    context.close()


@pytest.mark.slow
def test_twenty_clients_leave_no_memory(server, browser, visit, wait):
    def resident():
        with open(f"/proc/{server.process.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096 / 1e6

    sizes = []
    for _ in range(20):
        context = browser.new_context()
        page = visit(server.address, context=context)
        page.keyboard.press("End")
        wait(page, "app.displayedFrame === 11")
        context.close()
        sizes.append(resident())
    assert sizes[-1] - sizes[4] < 5, sizes


@pytest.mark.slow
def test_a_thousand_frames_scrub_smoothly(serve, visit, wait, write, tmp_path):
    folder = write(tmp_path / "long", frames=1000, width=480, height=270)
    server = serve(root=str(tmp_path / "ws"), videos=[str(folder)])
    page = visit(server.address)
    draw(page, [(0.3, 0.5), (0.4, 0.5)])
    wait(page, "app.state.pending.length === 1")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    box = page.locator("#timeline").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 30)
    page.mouse.down()
    seen = set()
    for step in range(60):
        page.mouse.move(box["x"] + 5 + (box["width"] - 10) * step / 59, box["y"] + 30)
        wait(page, "app.displayedFrame === app.frame")  # each frame that is come to is shown
        seen.add(page.evaluate("app.frame"))
    page.mouse.up()
    assert page.evaluate("app.frame") >= 990
    assert len(seen) == 60


LOG = """async () => {
    app.log = [];
    const { unpack } = await import('/static/masks.js');
    app.connection.addEventListener("binary", (event) => {
        const mask = unpack(event.detail);
        if (!mask.preview) app.log.push([mask.frame, mask.done, mask.total, app.state.phase]);
    });
}"""


@pytest.mark.slow
def test_the_shipped_network_in_the_page(annotate, visit, wait, tmp_path):
    """The default network gives a preview, masks as they are made, stop, undo and doubtful frames."""
    size = {"width": 320, "height": 240}
    spec = SyntheticSpec(num_frames=24, max_objects=1, min_size=0.4, leaving=0, occluders=0, **size)
    frames, truth = render_clip(spec, 0)
    frames[18:] = render_clip(spec, 3)[0][18:]  # a cut: the object is not there, and the masks are doubtful
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "clip" / f"{t:05d}.png"), frame[..., ::-1])
    server = annotate(video=tmp_path / "clip", workspace=tmp_path / "workspaces")
    page = visit(server.address)
    wait(page, "app.state.phase === 'idle'")  # the network is there
    facts = json.loads((tmp_path / "workspaces" / "clip" / "workspace.json").read_text())
    assert facts["network"]["sha256"] == sha256(weights_file("base"))
    depth = cv2.distanceTransform((truth[0] == 1).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    draw(page, [((x - 8) / 320, y / 240), ((x + 8) / 320, y / 240)])
    wait(page, "app.preview?.frame === 0 && app.state.phase === 'drawing'")
    preview = page.evaluate("app.masks.inflate(app.preview.packed).then((labels) => [...labels])")
    assert np.sum(preview) > 100
    page.evaluate(LOG)
    page.keyboard.press("Enter")
    wait(page, "app.state.rounds.length === 1 && app.state.phase === 'idle' && app.shown.every(Boolean)")
    log = page.evaluate("app.log")
    assert [frame for frame, *_ in log] == list(range(24))  # one by one, the drawn frame first
    assert [(done, total) for _, done, total, _ in log] == [(t + 1, 24) for t in range(24)]
    assert {phase for *_, phase in log} == {"propagating"}
    wait(page, "app.masks.at(1, 0)")
    assert page.evaluate("[...app.masks.at(1, 0)]") == preview
    sure = page.evaluate("app.state.rounds[0].confidence")
    assert [frame for frame, _ in sure] == list(range(24))
    assert all(0 < value <= 1 for _, value in sure)
    worst = min((value, frame) for frame, value in sure if frame)
    doubtful = page.evaluate("app.timeline.lowConfidence().map(([frame]) => frame)")
    assert set(range(18, 24)) <= set(doubtful)
    page.keyboard.press("n")
    wait(page, f"app.displayedFrame === {worst[1]}")
    draw(page, [(0.05, 0.05), (0.1, 0.05)], button="right")
    wait(page, "app.preview && app.state.phase === 'drawing'")
    page.evaluate("app.run().then(() => app.ask('stop'))")  # at once: a slow page cannot come too late
    wait(page, "app.state.rounds.length === 2 && app.state.phase === 'stopped'")
    low, high = page.evaluate("app.state.rounds[1].reach")
    assert low <= worst[1] <= high
    assert high - low + 1 < 24
    page.click("#undo")
    wait(page, "app.state.rounds.length === 1 && app.shown.every((round) => round === 1)")
    page.click("#redo")
    wait(page, "app.state.rounds.length === 2")
    page.click("#continue")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    assert page.evaluate("app.state.notice") == ""  # rounds made again are those on disk
    page.click("#undo")
    page.click("#undo")
    wait(page, "app.state.rounds.length === 0 && app.state.phase === 'idle'")


@pytest.mark.slow
def test_sam_2_drives_the_page(annotate, visit, wait, tmp_path, clip, tiny_sam2):
    """By the path of a model of transformers: click, box, preview, two rounds, restart."""
    tiny_sam2().save_pretrained(tmp_path / "model")
    options = {"segmenter": "sam2", "segmenter.checkpoint": tmp_path / "model", "segmenter.device": "cpu"}
    server = annotate(video=clip, workspace=tmp_path / "workspaces", **options)
    page = visit(server.address)
    wait(page, "app.state.phase === 'idle' && app.state.prompts.join() === 'boxes,clicks,masks'")
    assert page.get_attribute("#tools [data-tool=stroke]", "aria-label") == "Click"
    page.mouse.click(*at(page, 0.3, 0.5))
    wait(page, "app.state.pending.length === 1 && app.preview && app.state.phase === 'drawing'")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.shown.every(Boolean)")
    page.keyboard.press("a")
    wait(page, "app.state.objects.length === 2")
    page.keyboard.press("End")
    wait(page, "app.displayedFrame === 11")
    page.keyboard.press("t")
    drag(page, (50, 10), (80, 40))
    wait(page, "app.state.pending.length === 1 && app.preview?.frame === 11")
    page.keyboard.press("Enter")
    wait(page, "app.state.phase === 'idle' && app.state.rounds.length === 2")
    server.restart()
    wait(page, "app.connection.ready && app.state.phase === 'idle' && app.state.rounds.length === 2")
    assert page.evaluate("app.state.notice") == ""
    assert page.evaluate("app.state.failure") == ""


@pytest.mark.slow
def test_a_user_study(annotate, visit, wait, until, write, tmp_path, capsys):
    """Two rounds, Satisfied: the files and the table are there, and the next video opens."""
    root = tmp_path / "set"
    for name in ("ball", "other"):
        write(root / "JPEGImages" / "480p" / name, frames=4)
        (root / "Annotations" / "480p" / name).mkdir(parents=True)
        labels = np.zeros((64, 96), np.uint8)
        labels[20:45, 15:35] = 1
        for t in range(4):
            write_labels(root / "Annotations" / "480p" / name / f"{t:05d}.png", labels)
    options = {"workspace": tmp_path / "workspaces", "segmenter": "copy", "study.rounds": 2}
    server = annotate(study=root, **options, **{"study.show_truth": "true"})
    page = visit(f"{server.base}/w/p1.ball/?token={server.token}")
    wait(page, "app.state.phase === 'idle'")
    assert page.inner_text("#name") == "p1 · ball (1 of 2)"
    wait(page, "!document.querySelector('#goal').hidden")
    for number, y in ((1, 0.4), (2, 0.6)):
        draw(page, [(0.2, y), (0.3, y)])
        wait(page, "app.state.pending.length === 1 && app.state.phase === 'drawing'")
        page.keyboard.press("Enter")
        wait(page, f"app.state.rounds.length === {number} && app.state.phase === 'idle'")
        wait(page, "app.study.waitingForMasks === false")  # the clock has been told that the masks are there
    draw(page, [(0.5, 0.5), (0.6, 0.5)])
    wait(page, "app.state.pending.length === 1")
    assert page.locator("#run").is_disabled()  # there are two rounds, no more
    page.click("#satisfied")
    wait(page, "app.state.satisfied")
    folder = tmp_path / "workspaces" / "study"
    until((folder / "p1.ball" / "study.csv").exists, "the scores")
    with open(folder / "p1.ball" / "study.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["sequence"], row["N_rounds"]) == ("ball", "2")
    parts = [float(row[f"{name}_time"]) for name in ("scribble", "operation", "finding")]
    assert min(parts) > 0
    assert abs(sum(parts) - float(row["total_time"])) < 0.02
    assert 0 <= float(row["final_J"]) <= 1
    page.click("text=Next video")
    wait(page, "window.app?.video?.name === 'p1.other' && app.state?.phase === 'idle'")
    assert page.inner_text("#name") == "p1 · other (2 of 2)"
    server.restart()
    wait(page, "app.connection.ready && app.state.phase === 'idle' && !app.state.satisfied")
    page.goto(f"{server.base}/w/p1.ball/")
    wait(page, "window.app?.state?.satisfied && app.state.rounds.length === 2")
    study.main([str(folder)])
    shown = capsys.readouterr().out
    assert "ball" in shown
    assert "mean" in shown
    assert (folder / "study.png").stat().st_size > 1000
