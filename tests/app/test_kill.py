"""SIGKILL at random moments, whatever the server does: nothing that was acknowledged is lost."""

import contextlib
import http.client
import importlib.util
import random
import threading
import time
import zipfile
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from ivos.app.journal import read_lines
from ivos.app.messages import pack_labels
from ivos.app.session import Session, interrupted
from ivos.video.files import read_mask

MOMENTS = 20
FRAMES = 12

spec = importlib.util.spec_from_file_location("over_the_wire", Path(__file__).with_name("test_server.py"))
wire = importlib.util.module_from_spec(spec)
spec.loader.exec_module(wire)


class User:
    """Works on and on, and remembers what was acknowledged: strokes, rounds, undone rounds, masks."""

    def __init__(self, server, dice):
        self.server, self.dice, self.number = server, dice, 0
        self.busy, self.early = threading.Event(), False
        self.strokes, self.events, self.masks = {}, [], {}

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
        action = self.dice.choice(("stroke", "stroke", "propagate", "propagate", "undo", "export", "object"))
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
            kind = "undo_stroke" if one.state["pending"] else "undo_round"
            if one.ask("undo") == "":
                self.events.append(kind)
        elif action == "object" and one.state["phase"] != "propagating" and len(one.state["objects"]) < 5:
            if one.ask("add_object", name="") == "":
                self.events.append("add_object")
        elif action == "export":
            origin = {"Origin": f"http://127.0.0.1:{self.server.port}"}
            wire.request(self.server, "/w/clip/export", "POST", '{"format": "davis"}', **origin)


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
        for kind in set(user.events):
            there = sum(line["type"] == kind for line in lines)
            assert there >= user.events.count(kind), f"moment {moment}: {kind} is gone"
        for (number, frame), data in user.masks.items():
            labels = read_mask(folder / "rounds" / f"{number:04d}" / f"{frame:05d}.png")
            assert pack_labels(labels) == data, f"moment {moment}: mask {number}/{frame} is another"
        for packed in (folder / "exports").glob("*.zip"):
            with zipfile.ZipFile(packed) as archive:
                assert archive.testzip() is None, f"moment {moment}: the export is not whole"
        server.start()
        check(server, kept)
    assert len(user.masks) > MOMENTS
    assert len(user.strokes) > MOMENTS
    assert {"stroke", "round_begin"} <= {line["type"] for line in lines}
    assert len(phases) > 1, "all kills fell into the same state"


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
    assert [tuple(each["reach"]) for each in state["rounds"]] == [each.reach for each in kept.active]
    assert [each["number"] for each in state["objects"]] == list(kept.objects)
    assert state["failure"] == ""
    assert state["notice"] == ""  # no pixel of a mask that was made again differs
    one.socket.close()
