"""Tests that memory and open files do not grow with the number of samples."""

import gc
import logging

import numpy as np
import psutil
import pytest
import pytorch_lightning as pl

from ivos.evaluation import SessionSettings, evaluate
from ivos.evaluation.module import SessionCallback, run_samples
from ivos.session import FramePrompts, Sample, Scores
from ivos.video.clip import Clip

MIB = 2**20


class Empty:
    """A segmenter of background."""

    def start(self, frames, num_objects):
        self.shape = frames.shape[:3]

    def interact(self, frame, strokes):
        return np.zeros(self.shape, np.uint8)


class LongStrokes:
    """Two rounds of a stroke of 2,000 points each, which are 0.3 MB as lists."""

    max_rounds, max_seconds = 2, None

    def first(self):
        return FramePrompts(0, [{"path": np.random.rand(2000, 2).tolist(), "object_id": 1}])

    def next(self, last):
        return self.first()

    def score(self, masks):
        return Scores(np.ones((len(masks), 1)), np.ones((len(masks), 1)))


class Rss(SessionCallback):
    """The resident memory after each sample."""

    def __init__(self):
        self.process, self.seen = psutil.Process(), []

    def on_sample_end(self, sample):
        gc.collect(0)
        self.seen.append(self.process.memory_info().rss)


@pytest.fixture
def trainer():
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)


def clip(name="made"):
    labels = np.zeros((2, 16, 16), np.uint8)
    labels[:, 4:12, 4:12] = 1
    return Clip(name, np.zeros((2, 16, 16, 3), np.uint8), labels, 1)


def test_rounds_are_not_kept(trainer):
    rss = Rss()
    samples = [Sample(clip())] * 250
    run_samples(Empty(), samples, lambda _: LongStrokes(), trainer, metric="J", session_callbacks=[rss])
    assert len(rss.seen) == 250
    assert rss.seen[-1] - rss.seen[50] < 40 * MIB  # 120 MB were added by 200 samples' strokes


@pytest.mark.slow
def test_a_thousand_samples(trainer, tmp_path):
    """A whole evaluation, with its report files."""
    from tests.support.discs import draw

    draw(tmp_path / "set", "discs", size=(40, 30), frames=2, objects=1, scribbles=(0,) * 1000)
    from ivos.data.datasets.davis import DavisFolder
    from ivos.evaluation.session_callbacks import SampleReports

    rss, complete = Rss(), SampleReports.on_sample_end

    def noted(self, sample):
        complete(self, sample)
        rss.on_sample_end(sample)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleReports, "on_sample_end", noted)
        settings = SessionSettings(max_interactions=4, max_time=None)
        evaluate(Empty(), DavisFolder(tmp_path / "set"), settings, tmp_path / "run", trainer)
    assert len(rss.seen) == 1000
    print(f"RSS after 200 samples {rss.seen[199] / MIB:.0f} MiB, after 1,000 {rss.seen[-1] / MIB:.0f} MiB")
    assert rss.seen[-1] - rss.seen[199] < 30 * MIB
