"""Tests that the own summary equals davisinteractive's, where that is installed."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ivos.evaluation import summary as module
from ivos.evaluation.report import COLUMNS
from ivos.evaluation.summary import own_summary, summarise
from ivos.session import SessionSettings


def made(seed, max_rounds=4):
    """A report of three sequences with 1 to 3 objects and 1 to 3 samples, some of which ran out of time."""
    rng = np.random.default_rng(seed)
    videos, rows = [], []
    for name in ("dogs-jump", "bear", "camel"):  # not in alphabetical order
        objects, samples, frames = rng.integers(1, 4), rng.integers(1, 4), rng.integers(2, 6)
        videos.append(
            SimpleNamespace(
                name=name, num_objects=int(objects), num_scribbles=int(samples), num_frames=int(frames)
            )
        )
        for scribble in range(1, samples + 1):
            for number in range(1, rng.integers(0, max_rounds + 1) + 1):
                seconds = float(rng.uniform(0.1, 9))
                for frame in range(frames):
                    for one in range(1, objects + 1):
                        j, f = rng.uniform(size=2)
                        rows.append(
                            ("seed-0", name, scribble, number, one, frame, j, f, 0.5 * j + 0.5 * f, seconds)
                        )
    return pd.DataFrame(rows, columns=list(COLUMNS)), videos


def equal(found, expected):
    assert found.keys() == expected.keys()
    assert found["metric_at_threshold"] == pytest.approx(expected["metric_at_threshold"], abs=1e-15)
    assert found["auc"] == pytest.approx(expected["auc"], abs=1e-15)
    for name, values in expected["curve"].items():
        assert found["curve"][name] == pytest.approx(values, abs=1e-13)


@pytest.mark.parametrize("metric", ["J", "F", "J_AND_F"])
@pytest.mark.parametrize("max_time", [None, 2.5, 240])
def test_equals_the_official_summary(metric, max_time):
    official = pytest.importorskip("ivos.evaluation.official")
    settings = SessionSettings(metric=metric, max_interactions=4, max_time=max_time, time_threshold=7)
    for seed in range(6):
        report, videos = made(seed)
        equal(
            own_summary(report, videos, metric, settings),
            official.summarise(report, videos, metric, settings),
        )


def test_a_session_without_any_round():
    official = pytest.importorskip("ivos.evaluation.official")
    settings = SessionSettings(metric="J", max_interactions=3, max_time=10)
    report, videos = made(0)
    equal(
        own_summary(report[:0], videos, "J", settings), official.summarise(report[:0], videos, "J", settings)
    )


def test_by_hand():
    """One object, two rounds of 10 s with J .5 and 1, time-out 40 s: area 2.5 + 7.5 + 20 of 40."""
    rows = [("s", "a", 1, number, 1, 0, j, j, j, 10.0) for number, j in ((1, 0.5), (2, 1.0))]
    report = pd.DataFrame(rows, columns=list(COLUMNS))
    videos = [SimpleNamespace(name="a", num_objects=1, num_scribbles=1, num_frames=1)]
    settings = SessionSettings(metric="J", max_interactions=2, max_time=40, time_threshold=15)
    found = own_summary(report, videos, "J", settings)
    assert found["curve"] == {"time": [0, 10, 20, 40], "J": [0, 0.5, 1, 1]}
    assert found["auc"] == 30 / 40
    assert found["metric_at_threshold"] == {"threshold": 15, "J": 0.75}


def test_the_summary_says_who_has_computed_it(monkeypatch):
    settings = SessionSettings(metric="J", max_interactions=4)
    report, videos = made(1)
    if module.find_spec("davisinteractive"):
        assert summarise(report, videos, "J", settings)["computed_by"] == "davisinteractive"
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "davisinteractive", None)
    found = summarise(report, videos, "J", settings)
    assert found["computed_by"] == "ivos"
    json.dumps(found)
