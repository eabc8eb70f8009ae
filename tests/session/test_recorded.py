"""Tests of journals of user studies as a protocol."""

import json

import numpy as np
import pytest

from ivos.data.datasets.davis import DavisFolder
from ivos.runtime.errors import UserError
from ivos.session import Recorded, Sample, SessionSettings, run_session
from ivos.session.recorded import recorded_rounds
from tests.support.discs import draw


def stroke(key, frame, number=1):
    path = [[0.3, 0.4], [0.5, 0.6]]
    return {"type": "stroke", "id": key, "frame": frame, "object_id": number, "path": path}


EVENTS = [
    {"type": "add_object", "number": 1},
    stroke("a", 0),
    stroke("b", 0, 0),
    {"type": "undo_stroke"},
    {"type": "redo"},
    {"type": "round_begin", "round": 1, "frame": 0, "strokes": ["a", "b"]},
    {"type": "round_end", "round": 1, "lo": 0, "hi": 2, "complete": True},
    stroke("c", 2),
    {"type": "round_begin", "round": 2, "frame": 2, "strokes": ["c"]},
    {"type": "round_end", "round": 2, "lo": 0, "hi": 2, "complete": True},
    {"type": "undo_round"},
    {"type": "redo"},
    {"type": "undo_round"},
    stroke("d", 1),
    {"type": "round_begin", "round": 3, "frame": 1, "strokes": ["d"]},
    {"type": "round_abort", "round": 3},
    {"type": "round_begin", "round": 4, "frame": 1, "strokes": ["d"]},
    {"type": "round_end", "round": 4, "lo": 0, "hi": 2, "complete": False},
    {"type": "study", "event": "satisfied"},
]


class Recording:
    def start(self, frames, num_objects):
        self.shape, self.asked = frames.shape[:3], []

    def interact(self, frame, strokes):
        self.asked.append((frame, [each["object_id"] for each in strokes]))
        return np.zeros(self.shape, np.uint8)


@pytest.fixture
def study(tmp_path):
    draw(tmp_path / "set", "discs", frames=3, objects=1)
    draw(tmp_path / "set", "one", frames=3, objects=1)
    for name, events in (("ann.discs", EVENTS), ("ben.discs", EVENTS[:7]), ("ann.other", EVENTS)):
        (tmp_path / "study" / name).mkdir(parents=True)
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (tmp_path / "study" / name / "journal.jsonl").write_text(lines)
    return tmp_path


def test_every_participants_rounds_are_replayed(study):
    protocol = Recorded(study=str(study / "study"))
    settings = protocol.adapt(SessionSettings(max_interactions=8))
    assert (settings.max_interactions, settings.max_time) == (2, None)
    videos = protocol.videos(DavisFolder(study / "set"))
    assert [video.name for video in videos] == ["discs.ann", "discs.ben"]
    found = []
    for video in videos:
        sample, segmenter = Sample(video).decoded(), Recording()
        rounds = list(run_session(segmenter, sample, protocol.on(sample, settings, "J")))
        assert len(rounds) == len(segmenter.asked)
        found.append(segmenter.asked)
    assert found == [[(0, [1, 0]), (1, [1])], [(0, [1, 0])]]
    assert [video.name for video in Recorded(study=str(study / "study"), participant="ben").videos(
        DavisFolder(study / "set")
    )] == ["discs.ben"]  # fmt: skip


def test_the_rounds_are_those_of_the_page(study):
    """The page's own reading of the same journal."""
    from ivos.app.session import Session

    session = Session(3)
    for event in EVENTS:
        session.apply(event)
    path = study / "study/ann.discs/journal.jsonl"
    assert [each.frame for each in recorded_rounds(path)] == [one.frame for one in session.active]
    assert [len(each.strokes) for each in recorded_rounds(path)] == [
        len(one.strokes) for one in session.active
    ]


def test_bad_studies_are_one_line(study):
    with pytest.raises(UserError, match=r"protocol\.study: None has no journals"):
        Recorded()
    with pytest.raises(UserError, match="has no journals of eve"):
        Recorded(study=str(study / "study"), participant="eve")
    protocol = Recorded(study=str(study / "study"), participant="ann")
    with pytest.raises(UserError, match="has strokes on discs, other, which the data lacks"):
        protocol.videos([])
    bad = [*EVENTS[:5], stroke("x", 0, 9), {"type": "round_begin", "round": 1, "frame": 0, "strokes": ["x"]}]
    path = study / "study/ann.discs/journal.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in bad))
    sample = Sample(protocol.videos(DavisFolder(study / "set"))[0]).decoded()
    with pytest.raises(UserError, match=r"journal\.jsonl, round 1: "):
        protocol.on(sample, SessionSettings(), "J")
    path.write_text("{")
    with pytest.raises(UserError, match="not a journal of the annotation app"):
        recorded_rounds(path)
