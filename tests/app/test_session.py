"""Tests of the session's state machine without input and output."""

import json

import pytest

from ivos.app.session import Refused, Session, interrupted


def stroke(key, frame=0, number=1):
    return {"type": "stroke", "id": key, "frame": frame, "path": [[0.5, 0.5]], "object_id": number}


@pytest.fixture
def session():
    one = Session(10)
    one.apply({"type": "add_object", "number": 1})
    one.apply({"type": "loaded"})
    return one


def run(session, frame=0, key="a", low=0, high=9, complete=True):
    session.apply(stroke(key, frame))
    number = len(session.rounds) + 1
    session.apply({"type": "round_begin", "round": number, "frame": frame, "strokes": [key]})
    for t in range(low, high + 1):
        session.apply({"type": "reached", "round": number, "frame": t})
    session.apply({"type": "round_end", "round": number, "lo": low, "hi": high, "complete": complete})
    return number


def test_phases_of_a_session(session):
    assert Session(3).phase == "loading"
    assert session.phase == "idle"
    session.apply(stroke("a"))
    assert session.phase == "drawing"
    session.apply({"type": "preview", "busy": True})
    assert session.phase == "previewing"
    session.apply({"type": "preview", "busy": False})
    session.apply({"type": "round_begin", "round": 1, "frame": 0, "strokes": ["a"]})
    assert session.phase == "propagating"
    session.apply({"type": "round_end", "round": 1, "lo": 0, "hi": 4, "complete": False})
    assert session.phase == "stopped"
    session.apply({"type": "continue"})
    assert session.phase == "propagating"
    session.apply({"type": "round_end", "round": 1, "lo": 0, "hi": 9, "complete": True})
    assert session.phase == "idle"
    session.apply({"type": "restore", "busy": True})
    assert session.phase == "restoring"
    session.apply({"type": "failure", "message": "no network"})
    assert session.phase == "failed"


def test_frames_show_the_newest_round_that_counts(session):
    run(session)
    run(session, 5, "b", 3, 7)
    assert session.shown() == [1, 1, 1, 2, 2, 2, 2, 2, 1, 1]
    session.apply({"type": "undo_round"})
    assert session.shown() == [1] * 10
    session.apply({"type": "redo"})
    assert session.shown() == [1, 1, 1, 2, 2, 2, 2, 2, 1, 1]


def test_redo_brings_back_in_the_opposite_order(session):
    run(session)
    session.apply(stroke("b"))
    session.apply({"type": "undo_stroke"})
    session.apply({"type": "undo_round"})
    assert (session.pending, session.active) == ([], [])
    session.apply({"type": "redo"})
    assert [one.number for one in session.active] == [1]
    session.apply({"type": "redo"})
    assert session.pending == ["b"]
    with pytest.raises(Refused, match="nothing to redo"):
        session.apply({"type": "redo"})


def test_a_new_stroke_ends_what_could_be_brought_back(session):
    session.apply(stroke("a"))
    session.apply({"type": "undo_stroke"})
    session.apply(stroke("b"))
    with pytest.raises(Refused):
        session.apply({"type": "redo"})


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (stroke("x", frame=10), "the video has frames 0 to 9"),
        (stroke("x", number=2), "no object 2"),
        ({"type": "undo_stroke"}, "no stroke"),
        ({"type": "undo_round"}, "no round"),
        ({"type": "continue"}, "no stopped round"),
        ({"type": "round_begin", "round": 1, "frame": 0, "strokes": []}, "no new strokes"),
        ({"type": "round_begin", "round": 1, "frame": 0, "strokes": ["x"]}, "not pending"),
        ({"type": "round_begin", "round": 2, "frame": 0, "strokes": ["x"]}, "does not follow"),
        ({"type": "round_end", "round": 1, "lo": 0, "hi": 1, "complete": True}, "not being propagated"),
        ({"type": "remove_object", "number": 1}, "last object"),
        ({"type": "add_object", "number": 3}, "does not follow"),
        ({"type": "object", "number": 7, "name": "x"}, "no object 7"),
    ],
)
def test_what_is_out_of_order_is_refused_and_changes_nothing(session, event, says):
    before = repr(session)
    with pytest.raises(Refused, match=says):
        session.apply(event)
    assert repr(session) == before


def test_a_stroke_counts_once(session):
    session.apply(stroke("a"))
    with pytest.raises(Refused, match="exists already"):
        session.apply(stroke("a"))


def test_objects_are_added_late_and_removed_for_good(session):
    run(session)
    session.apply({"type": "add_object", "number": 2, "name": "ball"})
    session.apply(stroke("b", number=2))
    session.apply({"type": "object", "number": 2, "colour": "#123456", "hidden": True})
    assert (session.objects[2].name, session.objects[2].colour) == ("ball", "#123456")
    session.apply({"type": "remove_object", "number": 2})
    assert (session.pending, session.removed, session.num_objects) == ([], [2], 2)
    session.apply({"type": "add_object", "number": 3})
    assert [one.num_objects for one in session.rounds] == [1]


@pytest.mark.parametrize(
    ("there", "event"),
    [
        (set(), {"type": "round_abort", "round": 1}),
        ({4}, {"type": "round_abort", "round": 1}),
        ({5}, {"type": "round_end", "round": 1, "lo": 5, "hi": 5, "complete": False}),
        ({3, 4, 5, 6, 9}, {"type": "round_end", "round": 1, "lo": 3, "hi": 6, "complete": False}),
        (set(range(10)), {"type": "round_end", "round": 1, "lo": 0, "hi": 9, "complete": True}),
    ],
)
def test_a_round_that_a_kill_left_open_stops_at_the_masks_on_disk(session, there, event):
    session.apply(stroke("a", 5))
    session.apply({"type": "round_begin", "round": 1, "frame": 5, "strokes": ["a"]})
    (found,) = interrupted(session, lambda number: there)
    assert found == event
    session.apply(found)
    assert session.phase == (
        "drawing" if event["type"] == "round_abort" else "stopped" if not event["complete"] else "idle"
    )
    assert interrupted(session, lambda number: there) == []


def test_events_read_back_give_the_same_session(session):
    events = [
        {"type": "add_object", "number": 1},
        stroke("a"),
        stroke("b"),
        {"type": "undo_stroke"},
        {"type": "redo"},
        {"type": "round_begin", "round": 1, "frame": 0, "strokes": ["a", "b"]},
        {
            "type": "round_end",
            "round": 1,
            "lo": 0,
            "hi": 1,
            "complete": False,
            "planned": [0, 9],
            "confidence": [1.0, 0.5],
        },
        {"type": "add_object", "number": 2},
        stroke("c", 6, 2),
        {"type": "undo_round"},
    ]
    one, other = Session(10), Session(10)
    for event in events:
        one.apply(event)
        other.apply(json.loads(json.dumps(event)))
    assert one == other
