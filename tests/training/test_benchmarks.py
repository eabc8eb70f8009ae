"""Tests of the benchmarks' own logic: compiled kernels, devices, rounds."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ivos import kernels
from ivos.engine import plan_round
from ivos.runtime.overrides import prepare_overrides
from ivos.video.clip import Clip

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gpu_script_names_parts_and_options_that_exist(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    benchmark, text = script("gpu"), (FOLDER / "gpu.sh").read_text()
    parts = set(re.findall(r"\$measure (\w+)", text))
    assert parts == {*benchmark.PARTS, *benchmark.OF_A_FOLDER}
    with initialize_config_dir(str(FOLDER.parent / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=prepare_overrides(["experiment=pretrain"]))
    options = set(re.findall(r"(?<![\w/])((?:stages|model|callbacks)\.[\w.$]+)", text))
    assert len(options) > 8
    for name in {each.replace("$stage", stage) for each in options for stage in cfg.stages}:
        place, _, last = name.rpartition(".")
        known = {"max_time", "max_epochs"} if place.endswith("trainer") else OmegaConf.select(cfg, place)
        assert last in known, name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="GNU's timeout")
@pytest.mark.parametrize("what", ["first", "rest", "train"])
def test_the_gpu_script_runs_through_on_a_cpu(what, tmp_path):
    environment = {"SMOKE": "1", "WHAT": what, "OUT": str(tmp_path), "PY": sys.executable, "TOTAL": "850"}
    command = ["bash", str(FOLDER / "gpu.sh")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    found = {json.loads(line)["part"] for line in (tmp_path / "results.jsonl").read_text().splitlines()}
    assert (
        found
        >= {
            "first": {"context", "parity", "engine", "released", "train", "speeds", "shipped", "ceilings"},
            "rest": {"engine"},
            "train": {"speeds", "weights"},
        }[what]
    )


def test_every_row_of_the_correlation_is_compiled():
    """Twelve variants of one function, of which PyTorch keeps eight: sizes, types, gradients or none."""
    benchmark = script("correlation")
    graphs = []

    def backend(graph, inputs):
        graphs.append(len(inputs))
        return graph.forward

    sizes = [(1, 2, 6, 7), (2, 2, 6, 7)]
    function = partial(kernels.correlation, implementation="naive", radius=1)
    for size, dtype in product(sizes, benchmark.TYPES):
        tensors = benchmark.inputs(size, "cpu", dtype)[:2]
        for run in benchmark.gpu_runs(benchmark.compiled(function, backend), tensors).values():
            run()
    assert len(graphs) == 2 * len(sizes) * len(benchmark.TYPES)


def test_a_row_that_is_not_compiled_is_an_error(monkeypatch):
    benchmark = script("correlation")
    monkeypatch.setattr("torch.compile", lambda function, **_: function)
    tensors = benchmark.inputs((1, 2, 6, 7), "cpu", torch.float32)
    checked = benchmark.compiled(partial(kernels.local_transfer, implementation="naive"))
    with pytest.raises(RuntimeError, match="has not been compiled"):
        checked(*tensors)


@pytest.mark.parametrize("num_frames", [3, 8])
def test_rounds_propagate_in_both_directions(num_frames):
    frames = script("rounds").annotated_frames(num_frames, 4)
    plan = plan_round(frames[0], [], num_frames)
    assert list(plan.backward)
    assert list(plan.forward)
    assert len(set(frames[:3])) == 3
    assert frames[3] == frames[0]


def test_the_precision_of_a_gpu_leaves_out_what_only_a_cpu_has():
    benchmark = script("precision")
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert benchmark.options_for(cpu, None) == list(benchmark.OPTIONS)
    assert benchmark.options_for(gpu, None) == [name for name in benchmark.OPTIONS if name != "winograd"]
    assert benchmark.options_for(gpu, ["compile=default"]) == ["compile=default"]
    with pytest.raises(SystemExit, match="winograd: for a CPU only"):
        benchmark.options_for(gpu, ["winograd"])


def test_operations_are_measured_on_a_device():
    benchmark = script("operations")
    with torch.inference_mode():
        table, _ = benchmark.measure(torch.device("cpu"), (64, 64), 4, 1, depths=[1, 1, 1, 1])
    assert len(table.rows) == 13


@pytest.mark.parametrize("stage", ["anet", "tnet"])
def test_a_full_size_step_on_a_device(stage, monkeypatch):
    benchmark = script("full_size_step")
    monkeypatch.setattr(benchmark, "limit_memory", lambda *_: None)
    sizes = ["model.width=4", "model.depths=[1,1,1,1]", "model.decoder_width=8"]
    crop = f"stages.{stage}.data.samples.crop=32"
    found = benchmark.step(stage, [*sizes, crop], 2, False, 1.0, "cpu", "bf16-mixed", turns=2)
    assert found["seconds"] > 0
    assert found["loss"] > 0


def test_the_memory_of_a_try_is_limited_on_the_current_gpu(monkeypatch):
    """PyTorch limits a device only by its number, which ``--device cuda`` lacks."""
    limits = []
    properties = SimpleNamespace(total_memory=8 * 2**30)
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda *given: limits.append(given), raising=False
    )
    limit = script("full_size_step").limit_memory
    limit(torch.device("cuda"), 2.0)
    limit(torch.device("cuda:2"), 16.0)
    assert limits == [(0.25, 1), (1.0, 2)]


def test_a_step_out_of_memory_is_a_row(monkeypatch):
    benchmark = script("full_size_step")

    def full(**_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(benchmark, "step", full)
    with pytest.raises(SystemExit) as status:
        benchmark.run_try({})
    assert status.value.code == benchmark.OUT_OF_MEMORY


def test_limits_measure_the_annotated_frame_and_the_frames_without_a_true_mask():
    limits = script("limits")
    labels = np.zeros((9, 24, 32), np.uint8)
    labels[:, 4:20, 8:24] = 1
    clip = Clip("square", np.zeros((9, 24, 32, 3), np.uint8), labels, 1)

    class Half:
        """Segmenter whose masks are half of the object in the first round, and then all of it."""

        def start(self, frames, num_objects):
            self.rounds = 0

        def adopt(self, frame, mask):
            assert (mask == labels[frame]).all()

        def interact(self, frame, strokes):
            self.rounds += 1
            return labels * (np.arange(32) < (16 if self.rounds == 1 else 32))

        def propagate(self, frame, strokes, reach):
            assert reach == (frame, frame)
            assert {stroke["object_id"] for stroke in strokes} <= {0, 1}
            return iter([(frame, self.interact(frame, strokes)[frame])])

    assert limits.annotated(Half(), clip).tolist() == [0.5, 1, 1]
    assert limits.propagated(Half(), clip).tolist() == [0.5, 1, 1, 1]
