"""Tests of the benchmarks' own logic: compiled kernels, devices, rounds."""

import importlib.util
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch

from ivos import kernels
from ivos.engine import plan_round

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_a_step_out_of_memory_is_a_row(monkeypatch):
    benchmark = script("full_size_step")

    def full(**_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(benchmark, "step", full)
    with pytest.raises(SystemExit) as status:
        benchmark.run_try({})
    assert status.value.code == benchmark.OUT_OF_MEMORY
