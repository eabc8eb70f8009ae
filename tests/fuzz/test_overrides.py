"""Tests that options with values of all kinds are accepted or refused in one line."""

import sys

import absl.logging
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import strategies as st

from ivos.evaluation import run as evaluation
from ivos.evaluation.main import main as evaluate
from ivos.training import pipeline
from ivos.training.main import main as train
from tests.support.discs import TINY, draw
from tests.support.tiny import MODEL, stage

from .exploring import counts, explore

VALUES = st.sampled_from([
    "null", "true", "off", "0", "-1", "1", "3", "0.5", "nan", "1e400", "4294967296", "abc", "''", "[]",
    "[1,2]", "[a]", "{}", "{a:1}", "${nosuch}", "${seed}", "???", "[[1]]", "/proc/x", "../x", "'[bold]'", "J",
])  # fmt: skip
SHARED = [
    "session", "session.metric", "session.max_interactions", "session.max_time", "seed",
    "session.robot", "session.robot.nb_points", "session.robot.kernel_size", "trainer", "device",
    "trainer.devices", "trainer.num_nodes", "model.width", "model.depths", "model.normalize", "segmenter",
    "segmenter.precision", "segmenter.short_side", "segmenter.feature_batch_size", "segmenter.tf32", "resume",
    "logger", "logger.csv.name", "folder", "+nosuch", "data.root", "+data.nosuch",
]  # fmt: skip
OF_EVALUATE = [
    "data.split", "data.sequences", "data.year", "data.resolution", "data.index", "data.num_workers",
    "checkpoint", "threads", "save_masks", "masks_layout", "save_overlays", "protocol",
]  # fmt: skip
OF_TRAIN = [
    "checkpoint", "score", "stages", "stages.tnet", "stages.tnet.module", "stages.tnet.module.seed",
    "stages.tnet.module.optimizer", "stages.tnet.module.optimizer.lr", "stages.tnet.module.local_weight",
    "stages.tnet.data.batch_size", "stages.tnet.data.num_workers", "stages.tnet.data.samples.crop",
    "stages.tnet.data.samples.zoom", "stages.tnet.data.samples.augment", "stages.tnet.init.from_anet",
    "stages.tnet.trainer.max_epochs", "stages.tnet.execution.compile", "callbacks", "optimized_metric",
    "trainer.precision", "trainer.gradient_clip_val", "data.test", "data.val.split",
]  # fmt: skip


@pytest.fixture
def end(monkeypatch, capsys, tmp_path):
    """Run a program up to its work: its exit status and errors."""

    def run(main, *arguments):
        monkeypatch.setattr("sys.argv", ["program.py", *arguments])
        absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
        GlobalHydra.instance().clear()
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        return status, capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: {"J": {"computed_by": "ivos"}})
    monkeypatch.setattr(evaluation, "summary_table", lambda _: "")
    monkeypatch.setattr(pipeline, "train_stage", lambda cfg, name, network, *_: network)
    monkeypatch.setattr(pipeline, "score", lambda *_: None)
    return run


def overrides(options):
    pair = st.tuples(st.sampled_from(options), VALUES).map("=".join)
    return st.lists(pair, min_size=1, max_size=2)


@pytest.mark.parametrize("program", ["evaluate", pytest.param("train", marks=pytest.mark.slow)])
@counts(20, more=3)
def test_options_are_taken_or_refused_in_a_line(examples, program, end, tmp_path):
    for split in ("train", "val"):
        draw(tmp_path / "davis", f"{split}_discs", size=(64, 64), objects=1, split=split)
    main, options = {"evaluate": (evaluate, OF_EVALUATE), "train": (train, OF_TRAIN)}[program]
    own = {"evaluate": TINY, "train": [*MODEL, *stage("anet"), *stage("tnet")]}[program]
    numbers = iter(range(10**6))

    def check(drawn):
        folder = f"hydra.run.dir={tmp_path}/run{next(numbers)}"
        status, errors = end(main, folder, f"data.root={tmp_path}/davis", *own, *drawn)
        assert status in (0, 2), errors
        assert "Traceback" not in errors
        if status == 2:
            assert errors.startswith("error: ")

    explore(check, overrides(SHARED + options), examples=examples)
