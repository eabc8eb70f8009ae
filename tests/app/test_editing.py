"""Tests of editing by hand through the web socket: edits, locks, operations, restarts."""

import json

import numpy as np
import pytest

from ivos.app.journal import read_lines
from ivos.app.messages import unpack_labels
from ivos.app.pixels import draw_runs, find_runs, merge_annotation, protect
from ivos.app.session import Refused, Session
from ivos.video.palette import write_labels
from tests.support import wire

SIZE = (96, 64)


class Painter(wire.Client):
    """A page that edits masks."""

    number = 0

    def edit(self, frame, area, label=1):
        """Give the pixels of a mask [h, w] a label; the answer's text if it was refused."""
        Painter.number += 1
        key = f"e{Painter.number}"
        shown = self.shown[frame]
        return self.ask("edit", id=key, frame=frame, label=label, runs=find_runs(area), base=shown)

    def mask(self, server, frame):
        """What the server says that a frame shows."""
        shown = self.shown[frame]
        if shown == 0:
            return np.zeros(SIZE[::-1], np.uint8)
        status, _, body = wire.request(server, f"/w/clip/masks/{self.facts['id']}/{shown}/{frame}")
        assert status == 200
        return unpack_labels(body, SIZE)

    def propagate(self, frame, **limits):
        count = self.heard.count("end")
        assert self.ask("propagate", frame=frame, **limits) == ""
        self.until(lambda one: one.heard.count("end") > count)
        self.phase("idle", "stopped", "drawing")


def area(top, bottom, left, right):
    mask = np.zeros(SIZE[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def server(serve, tmp_path, clip):
    return serve(root=str(tmp_path), videos=[str(clip)])


def test_a_frame_is_finished_by_hand_and_stays_so(server):
    """Three objects, pixel for pixel; a propagation, a later round, an undo and a restart leave them so."""
    one = Painter(server).phase("idle")
    for name in ("b", "c"):
        assert one.ask("add_object", name=name) == ""
    truth = np.zeros(SIZE[::-1], np.uint8)
    for label, where in ((1, area(5, 30, 5, 40)), (2, area(20, 50, 30, 70)), (3, area(60, 64, 90, 96))):
        assert one.edit(4, where, label) == ""
        truth[where] = label
    assert one.edit(4, area(10, 12, 6, 9), 0) == ""
    truth[10:12, 6:9] = 0
    assert (one.mask(server, 4) == truth).all()
    one.propagate(4)
    assert (one.mask(server, 4) == truth).all()
    assert (one.mask(server, 6) == np.roll(truth, 2, axis=1)).all()  # carried from the edited mask
    one.stroke("s", 0, 0.3, 1)
    one.propagate(0)
    assert one.shown[0] == 2
    assert (one.mask(server, 4) == truth).all()  # no later round changes it
    one.ask("undo")
    assert (one.mask(server, 4) == truth).all()
    one.ask("undo")  # the propagation of the edits; the edits stay
    assert isinstance(one.shown[4], str)
    assert (one.mask(server, 4) == truth).all()
    server.restart()
    again = Painter(server).phase("drawing", "idle")
    assert (again.mask(server, 4) == truth).all()
    again.ask("undo")
    assert again.mask(server, 4)[10, 7] == 1
    again.ask("redo")
    assert (again.mask(server, 4) == truth).all()


def test_edits_are_undone_one_by_one(server):
    one = Painter(server).phase("idle")
    masks = [one.mask(server, 2)]
    for step in range(4):
        assert one.edit(2, area(10 * step, 10 * step + 15, 0, 20), 1) == ""
        masks.append(one.mask(server, 2))
    for mask in reversed(masks[:-1]):
        assert one.ask("undo") == ""
        assert (one.mask(server, 2) == mask).all()
    assert one.ask("undo") == "there is nothing to undo"
    for mask in masks[1:]:
        assert one.ask("redo") == ""
        assert (one.mask(server, 2) == mask).all()


def test_an_edit_of_a_preview_keeps_the_preview(server):
    one = Painter(server).phase("idle")
    one.stroke("a", 3, 0.5, 1)
    one.until(lambda each: each.state["previewed"] == 3 and (0, 3) in each.masks)
    preview = unpack_labels(one.masks[0, 3], SIZE)
    runs = find_runs(area(0, 4, 0, 4))
    assert "changed in the meantime" in one.ask(
        "edit", id="x", frame=3, label=1, runs=runs, base="preview:99"
    )
    assert one.ask("edit", id="y", frame=3, label=1, runs=runs, base=f"preview:{one.preview_number}") == ""
    expected = preview.copy()
    expected[:4, :4] = 1
    assert (one.mask(server, 3) == expected).all()
    server.restart()
    one = Painter(server).phase("drawing")
    assert (one.mask(server, 3) == expected).all()
    one.propagate(3)
    assert (one.mask(server, 3) == expected).all()
    assert one.state["pending"] == []


def test_an_edit_that_rests_on_another_mask_is_refused(server):
    one = Painter(server).phase("idle")
    runs = find_runs(area(0, 4, 0, 4))
    assert "draw again" in one.ask("edit", id="x", frame=3, label=1, runs=runs, base=7)
    assert "no object 2" in one.ask("edit", id="x", frame=3, label=2, runs=runs, base=0)
    assert "do not fit" in one.ask("edit", id="x", frame=3, label=1, runs=[9000, 1], base=0)
    assert "the video has frames 0 to 11" in one.ask("edit", id="x", frame=12, label=1, runs=runs, base=0)
    assert one.ask("edit", id="x", frame=3, label=1, runs=runs, base=0) == ""
    assert one.ask("edit", id="x", frame=3, label=1, runs=runs, base=0) == ""  # sent again: counts once
    assert one.shown[3] == "x"


def test_locked_frames_and_objects_stay(server):
    one = Painter(server).phase("idle")
    one.ask("add_object", name="b")
    one.edit(0, area(0, 10, 0, 10), 1)
    one.edit(0, area(20, 40, 20, 40), 2)
    one.propagate(0)
    before = {frame: one.mask(server, frame) for frame in range(12)}
    assert one.ask("lock", lo=3, hi=5, object=0, locked=True) == ""
    assert one.ask("lock", lo=6, hi=11, object=2, locked=True) == ""
    assert one.state["locks"] == {"0": [[3, 5]], "2": [[6, 11]]}
    assert "frame 4 is locked" in one.edit(4, area(0, 5, 0, 5), 1)
    assert "locked on this frame" in one.edit(8, area(0, 5, 0, 5), 2)
    one.stroke("s", 10, 0.7, 1)
    one.propagate(10)
    for frame in (3, 4, 5):
        assert (one.mask(server, frame) == before[frame]).all()
    for frame in range(6, 12):
        assert ((one.mask(server, frame) == 2) == (before[frame] == 2)).all()
    assert (one.mask(server, 10) != before[10]).any()
    assert (one.mask(server, 1) != before[1]).any()  # carried past the locked frames
    server.restart()
    again = Painter(server).phase("idle")
    assert again.state["locks"] == {"0": [[3, 5]], "2": [[6, 11]]}
    assert again.state["notice"] == ""  # what was kept is no difference
    assert again.ask("undo") == ""  # the round
    assert again.ask("undo") == ""  # the second lock
    assert again.state["locks"] == {"0": [[3, 5]]}


def test_objects_without_strokes_keep_their_mask_on_the_frame(server):
    one = Painter(server).phase("idle")
    one.ask("add_object", name="b")
    one.edit(5, area(28, 36, 40, 56), 2)
    one.propagate(5)
    before = one.mask(server, 5)
    one.stroke("s", 5, 0.45, 1)  # the fake's disc of object 1 would cover a part of object 2
    one.propagate(5)
    after = one.mask(server, 5)
    covered = before != after
    assert (after[covered] == 1).all()
    stroke = np.zeros_like(covered)
    stroke[29:35, 40:47] = True  # what a stroke covers has its label
    assert ((after == 2) | (before != 2) | stroke).all()
    assert (after == 1).any()


def test_operations_on_ranges(server):
    one = Painter(server).phase("idle")
    one.ask("add_object", name="b")
    one.edit(0, area(0, 10, 0, 10), 1)
    one.edit(0, area(20, 40, 20, 40), 2)
    one.propagate(0)
    first = {frame: one.mask(server, frame) for frame in range(12)}
    swapped = np.array([0, 2, 1], np.uint8)
    operation = {"frame": 0, "lo": 4, "hi": 6}
    assert one.ask("operation", kind="swap", object=1, other=2, **operation) == ""
    for frame in range(12):
        expected = swapped[first[frame]] if 4 <= frame <= 6 else first[frame]
        assert (one.mask(server, frame) == expected).all()
    assert one.ask("operation", kind="delete", object=2, **operation) == ""
    assert not (one.mask(server, 5) == 2).any()
    assert one.ask("operation", kind="copy", frame=0, lo=1, hi=1) == ""
    assert (one.mask(server, 1) == first[0]).all()
    for _ in range(3):
        assert one.ask("undo") == ""
    for frame in range(12):
        assert (one.mask(server, frame) == first[frame]).all()
    assert one.ask("redo") == ""
    assert (one.mask(server, 5) == swapped[first[5]]).all()
    assert "name an object" in one.ask("operation", kind="delete", **operation)
    assert "the video has frames 0 to 11" in one.ask("operation", kind="copy", frame=0, lo=3, hi=12)


def test_frames_between_two_edited_ones_are_filled(server):
    one = Painter(server).phase("idle")
    assert one.ask("operation", kind="fill", frame=1, lo=0, hi=1).startswith("fill: choose a range")
    one.edit(2, area(10, 30, 10, 30), 1)
    one.edit(6, area(20, 40, 50, 70), 1)
    one.edit(10, area(20, 40, 50, 60), 1)
    assert one.ask("lock", lo=4, hi=4, object=0, locked=True) == ""
    before = {frame: one.mask(server, frame) for frame in range(12)}
    assert one.ask("operation", kind="fill", frame=3, lo=2, hi=10) == ""
    for frame in (0, 1, 2, 4, 6, 10, 11):  # outside, annotated or locked
        assert (one.mask(server, frame) == before[frame]).all()
    assert (one.mask(server, 3)[13:32, 20:39] == 1).all()  # a fourth of the way
    filled = one.mask(server, 3)
    assert 380 <= filled.sum() <= 420
    assert 200 < one.mask(server, 8).sum() < 400
    assert not one.state["annotated"] or all(low != 3 for low, _ in one.state["annotated"])
    server.restart()
    one = Painter(server).phase("drawing")
    assert (one.mask(server, 3) == filled).all()
    assert one.ask("undo") == ""
    assert not one.mask(server, 3).any()
    assert one.ask("redo") == ""
    assert (one.mask(server, 3) == filled).all()


def test_a_box_around_an_object_gives_its_extent(server, tmp_path):
    """The fake knows strokes alone: it gets strokes for the box, and what it finds outside does not count."""
    one = Painter(server).phase("idle")
    box = {"frame": 3, "path": [[0.6, 0.6], [0.4, 0.4]], "box": True}
    assert "a box needs two opposite corners" in one.ask("stroke", id="x", object_id=0, **box)
    assert "a box needs two" in one.ask("stroke", id="x", object_id=1, **{**box, "path": [[0.1, 0.1]]})
    assert one.state["prompts"] == ["strokes"]
    assert one.ask("stroke", id="a", object_id=1, **box) == ""
    one.until(lambda each: each.state["previewed"] == 3 and (0, 3) in each.masks)
    preview = unpack_labels(one.masks[0, 3], SIZE)
    inside = area(25, 39, 38, 58)
    assert preview[inside].any()
    assert not preview[~inside].any()
    one.propagate(3)
    assert (one.mask(server, 3) == preview).all()
    assert (one.mask(server, 5) == np.roll(preview, 2, axis=1)).all()  # it was given the mask
    (line,) = [line for line in read_lines(tmp_path / "clip" / "journal.jsonl") if line["type"] == "stroke"]
    assert line["box"]
    server.restart()
    again = Painter(server).phase("idle")
    assert again.state["notice"] == ""
    assert (again.mask(server, 3) == preview).all()


def test_a_segmenter_of_clicks_and_boxes(serve, tmp_path, clip):
    server = serve(root=str(tmp_path), videos=[str(clip)], segmenter="Clicker")
    one = Painter(server).phase("idle")
    one.ask("add_object", name="b")
    assert one.state["prompts"] == ["boxes", "clicks"]
    box = {"id": "a", "frame": 3, "path": [[0.25, 0.25], [0.5, 0.75]], "box": True, "object_id": 1}
    assert one.ask("stroke", **box) == ""
    assert one.stroke("b", 3, 0.8, 2) == ""
    minus = {"frame": 3, "path": [[0.5, 0.75], [0.5, 0.74]], "object_id": 0, "of": 1}
    assert one.ask("stroke", id="c", **minus) == ""
    one.propagate(3)
    mask = one.mask(server, 3)
    assert mask[20, 30] == 1
    assert mask[32, 76] == 2
    assert mask[46, 46] == 0  # a negative click of object 1
    assert (one.mask(server, 4) == np.roll(mask, 1, axis=1)).all()
    assert wire.request(server, "/w/clip/export", "POST", '{"format": "scribbles"}',
                        Origin=f"http://127.0.0.1:{server.port}")[0] == 202  # fmt: skip
    one.until(lambda each: "exported" in each.heard)
    written = json.loads((tmp_path / "clip" / "exports" / "clip-scribbles.json").read_text())
    strokes = written["rounds"][0]["strokes"]
    assert len(strokes) == 1 + 4 + 1 + 1  # the box as strokes that stand for it
    assert {tuple(sorted(stroke)) for stroke in strokes} == {("end_time", "object_id", "path", "start_time")}
    server.restart()
    again = Painter(server).phase("idle")
    assert again.state["notice"] == ""


def test_objects_are_merged_and_removed_and_come_back(server):
    one = Painter(server).phase("idle")
    one.ask("add_object", name="b")
    assert one.ask("remove_object", number=2, into=1) == ""
    assert one.state["objects"][1]["removed"]
    assert one.state["objects"][1]["merged_into"] == 1
    assert "last object" in one.ask("remove_object", number=1)
    assert one.ask("undo") == ""
    assert not one.state["objects"][1]["removed"]
    one.stroke("s", 3, 0.5, 2)
    assert one.ask("remove_object", number=2) == ""
    assert one.state["pending"] == []
    assert one.ask("undo") == ""
    assert one.state["pending"] == ["s"]


def test_a_round_within_a_range(server):
    one = Painter(server).phase("idle")
    one.stroke("s", 5, 0.5, 1)
    one.propagate(5, lo=5, hi=8)
    assert one.state["shown"] == [[0, 5], [1, 4], [0, 3]]
    assert one.state["rounds"][0]["status"] == "complete"
    assert "do not contain frame 5" in one.ask("propagate", frame=5, lo=6, hi=8) or one.stroke("t", 5) == ""
    server.restart()
    again = Painter(server).phase("idle", "drawing")
    assert again.state["shown"] == [[0, 5], [1, 4], [0, 3]]
    assert again.state["notice"] == ""


def test_an_edit_while_a_round_runs_is_not_overtaken(serve, tmp_path, clip, held):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(3)}})
    one = Painter(server).phase("idle")
    one.stroke("s", 0, 0.3, 1)
    one.ask("propagate", frame=0)
    one.until(lambda each: len([key for key in each.masks if key[0]]) >= 3)
    assert one.edit(9, area(0, 8, 0, 8), 1) == ""
    held.go()
    one.phase("drawing")
    assert isinstance(one.shown[9], str)
    assert one.mask(server, 9)[:8, :8].all()
    assert one.shown[8] == one.shown[10] == 1
    server.restart()
    again = Painter(server).phase("drawing")
    assert again.shown == one.shown


def test_the_cost_of_an_event_does_not_grow_with_frames_and_rounds(server):
    """Rounds are described once; a stroke after many of them costs as much as before."""
    one = Painter(server).phase("idle")
    sizes = []
    receive = one.socket.recv

    def counting(timeout=None):
        message = receive(timeout)
        if isinstance(message, str) and '"type":"state"' in message:
            sizes.append(len(message))
        return message

    one.socket.recv = counting
    one.stroke("a", 0)
    first = max(sizes)
    for number in range(6):
        one.stroke(f"r{number}", number)
        one.propagate(number)
    sizes.clear()
    one.stroke("z", 0)
    one.until(lambda each: each.state["previewed"] == 0)
    assert max(sizes) <= first + 100
    assert not any('"confidence"' in json.dumps(size) for size in sizes)


# Without a server


def test_runs_and_masks_are_each_others_reverse():
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.9, 1):
        mask = rng.random((17, 23)) < share
        labels = np.zeros((17, 23), np.uint8)
        draw_runs(labels, find_runs(mask), 7)
        assert ((labels == 7) == mask).all()
    with pytest.raises(ValueError, match="do not fit"):
        draw_runs(np.zeros((2, 2), np.uint8), [3, 2], 1)


def test_protected_objects_have_exactly_their_pixels():
    current = np.array([[1, 1, 2, 0]], np.uint8)
    new = np.array([[2, 0, 1, 1]], np.uint8)
    assert protect(current, new, [1]).tolist() == [[1, 1, 0, 0]]
    assert protect(current, new, []).tolist() == new.tolist()


def test_merging_an_annotation():
    current = np.zeros((20, 40), np.uint8)
    current[5:15, 5:15] = 1
    current[5:15, 25:35] = 3
    network = np.zeros((20, 40), np.uint8)
    network[5:15, 8:30] = 2
    network[0:2, 0:2] = 3  # an object without strokes gains nothing
    stroke = {"path": [[0.5, 0.5]], "object_id": 2, "start_time": 0, "end_time": 0}
    merged = merge_annotation(current, network, [stroke])
    assert ((merged == 1) == (current == 1)).all()
    assert ((merged == 3) == (current == 3)).all()
    assert (merged[5:15, 15:25] == 2).all()
    over = {**stroke, "path": [[0.6, 0.5], [0.7, 0.5]]}  # crosses object 3, which can lose pixels to 2
    merged = merge_annotation(current, network, [over])
    assert (merged[5:15, 25:30] == 2).all()
    assert ((merged == 1) == (current == 1)).all()
    assert not (merged[0:2, 0:2] == 3).any()


def test_journals_of_version_0_1_are_read():
    """As that version wrote them: strokes undone in its own order, rounds without a kind."""
    session = Session(10)
    stroke = {"type": "stroke", "path": [[0.5, 0.5]], "object_id": 1}
    for event in (
        {"type": "add_object", "number": 1},
        {**stroke, "id": "a", "frame": 0},
        {**stroke, "id": "b", "frame": 3},
        {"type": "round_begin", "round": 1, "frame": 0, "strokes": ["a"]},
        {"type": "round_end", "round": 1, "lo": 0, "hi": 9, "complete": True},
        {"type": "undo_stroke"},
        {"type": "undo_round"},
        {"type": "redo"},
        {"type": "redo"},
        {"type": "undo_stroke"},
    ):
        session.apply(event)
    assert (session.pending, [one.number for one in session.active]) == ([], [1])
    assert session.undo_event() == {"type": "undo_round", "round": 1}


def test_an_edit_of_a_frame_that_does_not_exist_is_refused():
    session = Session(3)
    session.apply({"type": "add_object", "number": 1})
    event = {"type": "edit", "id": "a", "frame": 3, "label": 1, "runs": [0, 1], "over": 0}
    with pytest.raises(Refused, match="0 to 2"):
        session.apply(event)


def test_edits_are_in_the_journal_before_they_are_acknowledged(server, tmp_path):
    one = Painter(server).phase("idle")
    assert one.edit(1, area(0, 2, 0, 2), 1) == ""
    (line,) = [line for line in read_lines(tmp_path / "clip" / "journal.jsonl") if line["type"] == "edit"]
    assert (line["frame"], line["label"], line["runs"]) == (1, 1, [0, 2, 94, 2])


def test_strokes_that_an_edit_replaced_stay_replaced_after_a_restart(server):
    one = Painter(server).phase("idle")
    one.stroke("s", 3, 0.2, 1)
    one.phase("drawing")
    assert one.edit(3, area(0, 8, 0, 8), 1) == ""
    one.stroke("t", 3, 0.7, 1)
    one.propagate(3)
    server.restart()
    again = Painter(server).phase("idle")
    assert again.state["notice"] == ""
    assert again.state["pending"] == []


def test_a_round_that_goes_on_after_a_lock_is_made_again_without_a_difference(serve, tmp_path, clip, held):
    server = serve(root=str(tmp_path), videos=[str(clip)], **{"with": {"hold": held.after(4)}})
    one = Painter(server).phase("idle")
    one.ask("add_object", name="b")
    one.edit(6, area(0, 20, 0, 20), 2)
    one.stroke("s", 6, 0.5, 1)  # the round's first mask is merged from the edit and from the network's
    one.ask("propagate", frame=6)
    one.until(lambda each: len([key for key in each.masks if key[0]]) >= 3)
    one.ask("stop")
    held.go()
    one.phase("stopped")
    one.edit(11, area(30, 40, 30, 40), 1)
    assert one.ask("lock", lo=11, hi=11, object=1, locked=True) == ""
    assert one.ask("continue") == ""
    one.phase("idle", "drawing")
    shown = {frame: one.mask(server, frame) for frame in range(12)}
    server.restart()
    again = Painter(server).phase("idle", "drawing")
    assert again.state["notice"] == ""
    for frame in range(12):
        assert (again.mask(server, frame) == shown[frame]).all()


def test_masks_of_an_operation_that_was_never_recorded_do_not_enter_the_next_round(server, tmp_path):
    one = Painter(server).phase("idle")
    one.stroke("s", 3, 0.5, 1)
    server.kill()
    left = tmp_path / "clip" / "rounds" / "0001"  # as if killed between the writing and its record
    left.mkdir()
    write_labels(left / "00005.png", np.ones(SIZE[::-1], np.uint8))
    server.start()
    again = Painter(server).phase("idle", "drawing")
    again.propagate(3)
    assert not again.mask(server, 5).all()
    server.restart()
    assert Painter(server).phase("idle").state["notice"] == ""
