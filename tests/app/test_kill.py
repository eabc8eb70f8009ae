"""Tests that nothing acknowledged is lost when the server is killed at random moments."""

import contextlib
import http.client
import io
import random
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed

from ivos.app.journal import read_lines
from ivos.app.messages import pack_labels
from ivos.app.session import Session, interrupted
from ivos.video.files import read_mask
from tests.support import wire

MOMENTS = 20
FRAMES = 12


class User:
    """Works on and on, and remembers what was acknowledged: strokes, rounds, undone rounds, masks."""

    def __init__(self, server, dice):
        self.server, self.dice, self.number = server, dice, 0
        self.busy, self.early = threading.Event(), False
        self.strokes, self.events, self.masks = {}, [], {}
        self.edits = {}

    def work(self):
        """Until the server is killed."""
        one = None
        with contextlib.suppress(ConnectionClosed, OSError, EOFError, http.client.HTTPException):
            one = wire.Client(self.server)
            one.until(lambda client: client.state and client.state["phase"] not in ("restoring", "loading"))
            if self.early:
                self.busy.set()
            while True:
                self.act(one)
        if one is not None:  # what has been shown is on disk
            self.masks |= {key: data for key, data in one.masks.items() if key[0]}

    def act(self, one):
        names = ("stroke", "stroke", "propagate", "propagate", "undo", "export", "object")
        action = self.dice.choice((*names, "edit", "edit", "edit", "lock", "operation", "import"))
        if action == "stroke":
            self.number += 1
            key, frame = f"s{self.number}", self.dice.randrange(FRAMES)
            if one.stroke(key, frame, x=self.dice.uniform(0.1, 0.9)) == "":
                self.strokes[key] = frame
        elif action == "propagate" and one.state["pending"]:
            frame = self.strokes.get(one.state["pending"][-1])
            if frame is not None and one.ask("propagate", frame=frame) == "":
                self.events.append("round_begin")
                before, stop = one.heard.count("end"), self.dice.random() < 0.3
                while one.heard.count("end") == before:
                    if one.hear()["type"] == "mask":
                        self.busy.set()
                        if stop:
                            one.send("stop")
                        stop = False
        elif action == "undo" and one.state["phase"] not in ("propagating", "restoring"):
            what = (one.state["undoable"] or {}).get("what")
            if one.ask("undo") == "":
                self.events.append({"stroke": "undo_stroke", "round": "undo_round"}.get(what, "undo"))
        elif action == "edit":
            self.edit(one)
        elif action == "lock":
            low = self.dice.randrange(FRAMES)
            number, locked = self.dice.choice((0, 1)), self.dice.random() < 0.4
            if one.ask("lock", lo=low, hi=low, object=number, locked=locked) == "":
                self.events.append("lock")
        elif action == "operation" and one.state["phase"] not in ("propagating", "restoring"):
            frame, low = self.dice.randrange(FRAMES), self.dice.randrange(FRAMES)
            if one.ask("operation", kind="copy", frame=frame, lo=low, hi=min(low + 2, FRAMES - 1)) == "":
                self.events.append("operation")
        elif action == "import" and one.state["phase"] not in ("propagating", "restoring"):
            origin = {"Origin": f"http://127.0.0.1:{self.server.port}"}
            content = io.BytesIO()
            Image.fromarray(np.full((64, 96), 1, np.uint8)).save(content, "PNG")
            path = f"/w/clip/import?name={self.dice.randrange(FRAMES):05d}.png"
            if wire.request(self.server, path, "POST", content.getvalue(), **origin)[0] == 200:
                self.events.append("operation")
        elif action == "object" and one.state["phase"] != "propagating" and len(one.state["objects"]) < 5:
            if one.ask("add_object", name="") == "":
                self.events.append("add_object")
        elif action == "export":
            origin = {"Origin": f"http://127.0.0.1:{self.server.port}"}
            wire.request(self.server, "/w/clip/export", "POST", '{"format": "davis"}', **origin)

    def edit(self, one):
        """A rectangle by hand, over what the frame shows."""
        self.number += 1
        key, frame = f"e{self.number}", self.dice.randrange(FRAMES)
        runs = [96 * self.dice.randrange(30) + self.dice.randrange(40), self.dice.randrange(1, 300)]
        base = one.shown[frame]
        if one.ask("edit", id=key, frame=frame, label=self.dice.randrange(2), runs=runs, base=base) == "":
            self.edits[key] = runs


def recovered(folder):
    """The session that the journal gives, without the server's own code around it."""
    session = Session(FRAMES)
    lines = read_lines(folder / "journal.jsonl")
    for line in lines:
        session.apply(line)

    def on_disk(number):
        return {int(path.stem) for path in (folder / "rounds" / f"{number:04d}").glob("[0-9]*.png")}

    for event in interrupted(session, on_disk):
        session.apply(event)
    return session, lines


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_killed_at_twenty_moments_nothing_acknowledged_is_lost(serve, tmp_path, clip, seed):
    dice = random.Random(seed)
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"delay": 0.04}})
    user = User(server, dice)
    folder = tmp_path / "clip"
    phases = set()
    for moment in range(MOMENTS):
        user.busy.clear()
        user.early = moment % 2 == 0  # the others: once a first mask was made, for which PyTorch is imported
        worker = threading.Thread(target=user.work)
        worker.start()
        assert user.busy.wait(60)
        time.sleep(dice.uniform(0.05, 1.5))
        server.kill()
        worker.join(30)
        assert not worker.is_alive()
        kept, lines = recovered(folder)
        phases.add(lines[-1]["type"])
        assert set(user.strokes) <= set(kept.strokes), f"moment {moment}: a stroke is gone"
        assert set(user.edits) <= set(kept.edits), f"moment {moment}: an edit is gone"
        for kind in set(user.events):
            there = sum(line["type"] == kind for line in lines)
            assert there >= user.events.count(kind), f"moment {moment}: {kind} is gone"
        for (number, frame), data in user.masks.items():
            labels = read_mask(folder / "rounds" / f"{number:04d}" / f"{frame:05d}.png")
            assert pack_labels(labels) == data, f"moment {moment}: mask {number}/{frame} is another"
        for packed in (folder / "exports").glob("[!.]*.zip"):  # names with a dot are not finished
            with zipfile.ZipFile(packed) as archive:
                assert archive.testzip() is None, f"moment {moment}: the export is not whole"
        server.start()
        check(server, kept)
        assert not list((folder / "exports").glob(".*")), f"moment {moment}: an unfinished export stays"
    assert len(user.masks) > MOMENTS
    assert len(user.strokes) > MOMENTS
    kinds = {line["type"] for line in lines}
    assert {"stroke", "round_begin", "edit", "lock", "operation"} <= kinds
    assert len(user.edits) > MOMENTS
    assert len(phases) > 1, "all kills fell into the same state"


def drawn(kept, server, frame):
    """The mask of a frame that was drawn by hand, from the journal and the round below it."""
    chain = kept.chain(frame)
    folder = Path(server.options["root"]) / "clip"
    if chain[0].over:
        labels = read_mask(folder / "rounds" / f"{chain[0].over:04d}" / f"{frame:05d}.png").copy()
    else:
        labels = np.zeros((64, 96), np.uint8)
    for one in chain:
        flat, at = labels.reshape(-1), 0
        for skipped, count in zip(one.runs[::2], one.runs[1::2], strict=True):
            flat[at + skipped : at + skipped + count] = one.label
            at += skipped + count
    return labels


def check(server, kept):
    """The server started again is where the journal is, and its engine makes the masks that are on disk."""
    one = wire.Client(server)
    one.until(lambda client: client.state and client.state["phase"] not in ("loading", "restoring"))
    state = one.state
    shown = [number for number, count in state["shown"] for _ in range(count)]
    assert shown == kept.shown()
    assert state["pending"] == kept.pending
    assert [each["number"] for each in state["rounds"]] == [each.number for each in kept.active]
    assert [each["status"] for each in state["rounds"]] == [each.status for each in kept.active]
    assert state["locks"] == kept.locks.ranges()
    edited = [frame for frame, value in enumerate(shown) if isinstance(value, str)]
    for frame in edited:
        status, _, body = wire.request(server, f"/w/clip/masks/{one.facts['id']}/{shown[frame]}/{frame}")
        assert status == 200
        assert body == pack_labels(drawn(kept, server, frame))
    assert [tuple(each["reach"]) for each in state["rounds"]] == [each.reach for each in kept.active]
    assert [each["number"] for each in state["objects"]] == list(kept.objects)
    assert state["failure"] == ""
    assert state["notice"] == ""  # no pixel of a mask that was made again differs
    one.socket.close()
