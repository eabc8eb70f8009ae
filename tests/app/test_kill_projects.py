"""SIGKILL while several videos are edited, locked, imported into and marked as done: nothing is lost.

The short form kills a few times; IVOS_LONG_TESTS=1 does so at many moments and with other dice.
"""

import contextlib
import http.client
import io
import json
import random
import threading
import time

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed

from ivos.app.journal import read_lines
from ivos.app.messages import unpack_labels
from ivos.app.session import Session, interrupted
from ivos.video.files import read_mask
from tests.support import wire
from tests.support.long import LONG

NAMES = ("a", "b", "c")
FRAMES = 8
SIZE = (96, 64)
MOMENTS = 25 if LONG else 3
ACTIONS = (
    *("edit", "edit", "edit", "edit", "stroke", "box", "lock", "unlock", "done", "undo", "redo"),
    *("copy", "fill", "delete", "import", "import", "propagate", "object", "merge"),
)
BUSY = ("propagating", "restoring", "loading", "decoding")


class Annotator:
    """Works on random videos until the server is killed, and remembers what was acknowledged."""

    def __init__(self, server, dice):
        self.server, self.dice, self.number = server, dice, 0
        self.ids = {name: set() for name in NAMES}  # of strokes and edits
        self.counts = {name: {} for name in NAMES}  # events of other types
        self.imported = {}  # (name, round, frame) -> where the mask is not background

    def work(self):
        self.pages = {}
        with contextlib.suppress(
            ConnectionClosed, OSError, EOFError, http.client.HTTPException, TimeoutError
        ):
            while True:
                self.act(self.dice.choice(NAMES))

    def page(self, name):
        if name not in self.pages:
            page = self.pages[name] = wire.Client(self.server, name)
            page.until(lambda one: one.state and one.state["phase"] not in BUSY)
        return self.pages[name]

    def act(self, name):
        one, dice = self.page(name), self.dice
        low = dice.randrange(FRAMES)
        high = min(FRAMES - 1, low + dice.randrange(4))
        self.number += 1
        action = dice.choice(ACTIONS)
        if action == "edit":
            runs = [dice.randrange(3000), dice.randrange(1, 400)]
            content = {"frame": low, "label": dice.randrange(2), "runs": runs, "base": one.shown[low]}
            self.drawn(one, name, "edit", **content)
        elif action == "stroke":
            self.drawn(one, name, "stroke", frame=low, path=[[dice.random(), 0.5]], object_id=1)
        elif action == "box":
            path = [[0.1, 0.1], [0.2 + dice.random() / 2, 0.6]]
            self.drawn(one, name, "stroke", frame=low, path=path, object_id=1, box=True)
        elif action in ("lock", "unlock"):
            content = {"lo": low, "hi": high, "object": dice.randrange(2), "locked": action == "lock"}
            self.done(one, name, "lock", **content)
        elif action == "done":
            self.done(one, name, "done", done=dice.random() < 0.5)
        elif action == "propagate":
            self.done(one, name, "round_begin", "propagate", frame=low)
        elif action == "object":
            if len(one.state["objects"]) < 4:
                self.done(one, name, "add_object", name="")
        elif action == "merge":
            self.done(one, name, "remove_object", number=2, into=1)
        elif action == "import":
            self.import_mask(one, name, low)
        elif action in ("undo", "redo"):
            one.ask(action)  # of many types; the state after the restart says whether it was kept
        else:
            content = {"frame": low, "lo": low, "hi": high, "object": action == "delete"}
            self.done(one, name, "operation", "operation", kind=action, **content)

    def drawn(self, one, name, kind, **content):
        key = f"{name}{self.number}"
        if one.ask(kind, id=key, **content) == "":
            self.ids[name].add(key)

    def done(self, one, name, event, /, message=None, **content):
        if one.ask(message or event, **content) == "":
            self.count(name, event)

    def count(self, name, kind):
        self.counts[name][kind] = self.counts[name].get(kind, 0) + 1

    def import_mask(self, one, name, frame):
        labels = np.zeros(SIZE[::-1], np.uint8)
        labels[self.dice.randrange(40) :, : self.dice.randrange(1, 90)] = 1
        content = io.BytesIO()
        image = Image.fromarray(labels)
        image.putpalette([0] * 768)
        image.save(content, "PNG")
        path = f"/w/{name}/import?name={frame:05d}.png"
        origin = {"Origin": f"http://127.0.0.1:{self.server.port}"}
        status, _, body = wire.request(self.server, path, "POST", content.getvalue(), **origin)
        if status == 200 and json.loads(body)["frames"]:
            self.count(name, "operation")
            one.ask("redo")  # anything that is answered after the state with the new round
            number = max(one.rounds, default=0)
            if number and one.rounds[number]["kind"] == "import":
                self.imported[name, number, frame] = labels > 0


def recovered(folder):
    """The session that the journal gives, and the journal."""
    lines = read_lines(folder / "journal.jsonl")
    session = Session(FRAMES)
    for line in lines:
        session.apply(line)

    def on_disk(number):
        return {int(path.stem) for path in (folder / "rounds" / f"{number:04d}").glob("[0-9]*.png")}

    for event in interrupted(session, on_disk):
        session.apply(event)
    return session, lines


def check(server, root, name, kept, statuses):
    """The video is listed before it is opened as it is afterwards, which is as the journal says."""
    worked = bool(kept.strokes or kept.edits or kept.rounds)
    assert statuses[name] == ("done" if kept.done else "in work" if worked else "new")
    one = wire.Client(server, name)
    one.until(lambda client: client.state and client.state["phase"] not in ("loading", "restoring"))
    state = one.state
    assert one.shown == kept.shown()
    assert state["pending"] == kept.pending
    assert state["locks"] == kept.locks.ranges()
    assert state["done"] == kept.done
    removed = [each.removed for each in kept.objects.values()] or [False]  # a new session begins with one
    assert [each["removed"] for each in state["objects"]] == removed
    assert (state["failure"], state["notice"]) == ("", "")
    for frame, shown in enumerate(one.shown):
        if not shown:
            continue
        status, _, body = wire.request(server, f"/w/{name}/masks/{one.facts['id']}/{shown}/{frame}")
        assert status == 200
        if not isinstance(shown, str):
            labels = read_mask(root / name / "rounds" / f"{shown:04d}" / f"{frame:05d}.png")
            assert (unpack_labels(body, SIZE) == labels).all()
    one.socket.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4) if LONG else [1])
def test_killed_while_a_project_is_worked_on(serve, tmp_path, write, seed):
    dice = random.Random(seed)
    folders = [write(tmp_path / "videos" / name, frames=FRAMES) for name in NAMES]
    root = tmp_path / "ws"
    server = serve(root=str(root), videos=[str(folder) for folder in folders], **{"with": {"delay": 0.01}})
    user = Annotator(server, dice)
    seen = set()
    for moment in range(MOMENTS):
        worker = threading.Thread(target=user.work)
        before = sum(map(len, user.ids.values()))
        worker.start()
        until = time.monotonic() + 60
        while sum(map(len, user.ids.values())) < before + 5 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 1.5))
        server.kill()
        worker.join(30)
        assert not worker.is_alive()
        kept = {}
        for name in NAMES:
            kept[name], lines = recovered(root / name)
            known = {line.get("id") for line in lines}
            assert user.ids[name] <= known, f"moment {moment}, {name}: something drawn is gone"
            for kind, count in user.counts[name].items():
                there = sum(line["type"] == kind for line in lines)
                assert there >= count, f"moment {moment}, {name}: {kind} is gone"
            seen |= {line["type"] for line in lines}
        for (name, number, frame), area in user.imported.items():
            labels = read_mask(root / name / "rounds" / f"{number:04d}" / f"{frame:05d}.png")
            assert ((labels > 0) == area).all(), f"moment {moment}, {name}: an import is another"
        server.start()
        statuses = {one["name"]: one["status"] for one in json.loads(wire.request(server, "/sessions")[2])}
        for name in NAMES:
            check(server, root, name, kept[name], statuses)
    assert {"edit", "stroke", "lock", "operation"} <= seen
    assert all(user.ids.values())
