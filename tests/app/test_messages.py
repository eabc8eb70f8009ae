"""Tests that messages are checked by type and that each fault is named in one line."""

import json

import numpy as np
import pytest

from ivos.app import messages
from ivos.app.messages import MessageError, parse

STROKE = {"type": "stroke", "seq": 1, "id": "p-1", "frame": 0, "path": [[0, 0], [1, 1]], "object_id": 1}


def test_a_stroke():
    one = parse(json.dumps({**STROKE, "start_time": 5.0, "end_time": 9}))
    assert isinstance(one, messages.DrawStroke)
    assert (one.path, one.object_id, one.end_time) == ([[0.0, 0.0], [1.0, 1.0]], 1, 9.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": [[0.5, 1.2]]}, r"stroke.path: point 0 is not inside the frame"),
        ({"path": [[-0.1, 0.5]]}, "point 0 is not inside the frame"),
        ({"path": [[0.5, float("nan")]]}, "a number is needed, got nan"),
        ({"path": [[0.5, float("inf")]]}, "a number is needed"),
        ({"path": [[0.5, True]]}, "a number is needed, got True"),
        ({"path": [[0.5, 10**400]]}, "a number is needed, got 1000"),
        ({"frame": 10**400}, "a whole number from 0 to 10000000 is needed, got 1000"),
        ({"path": [[0.5]]}, r"\[x, y\] is needed"),
        ({"path": []}, "a list of points"),
        ({"path": [[0.5, 0.5]] * 20_001}, "20001 points are too many; a stroke can have at most 20000"),
        ({"frame": -1}, "stroke.frame: a whole number from 0"),
        ({"frame": 1.0}, "a whole number"),
        ({"object_id": 255}, "from 0 to 254"),
        ({"id": "../x"}, "not of the form"),
        ({"id": None}, "id is missing"),
        ({"seq": None}, "seq is missing"),
        ({"extra": 1}, "the field 'extra' is unknown"),
        ({"type": "format"}, "'format' is not one of"),
        ({"type": ["stroke"]}, "is not one of"),
    ],
)
def test_faults_are_named(change, says):
    with pytest.raises(MessageError, match=says) as error:
        parse(json.dumps({**STROKE, **change}))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, b"bytes", "x" * (messages.MAX_MESSAGE + 1)]
)
def test_what_is_no_message(text):
    with pytest.raises(MessageError):
        parse(text)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "object", "number": 1, "colour": "red"},
        {"type": "object", "number": 1, "colour": "#12345G"},
        {"type": "object", "number": 1, "name": "x" * 81},
        {"type": "object", "number": 1, "name": "\x1b[2J"},
        {"type": "object", "number": 1, "hidden": 1},
        {"type": "study", "event": "coffee", "at": 1},
        {"type": "hello", "page": "a b"},
    ],
)
def test_values_are_checked(content):
    with pytest.raises(MessageError, match=content["type"]):
        parse(json.dumps({"seq": 0, **content}))


def test_labels_survive_the_wire():
    labels = np.random.default_rng(0).integers(0, 4, (48, 64), np.uint8)
    packed = messages.pack_labels(labels)
    assert (messages.unpack_labels(packed, (64, 48)) == labels).all()
    message = messages.pack_mask(messages.MASK, 3, 17, (64, 48), packed, 5, 40)
    assert message[24:] == packed
    assert np.frombuffer(message[4:20], "<u4").tolist() == [3, 17, 5, 40]
