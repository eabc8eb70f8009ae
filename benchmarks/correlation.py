"""Measure time and memory of the correlation and of the local transfer.

    python benchmarks/correlation.py                 CPU: ivos compared with 81 shifted products
    python benchmarks/correlation.py --device cuda   GPU: the CUDA kernels compared with PyTorch and a lower
    bound

Both sides of a ratio are timed alternately in the same run; a time is the median of several turns. The CPU
table has a column for the package spatial-correlation-sampler if it is installed. The script needs only
PyTorch; if rich is installed, it prints formatted tables.
"""

import argparse
import importlib
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from ivos import kernels

try:
    from rich.console import Console
    from rich.table import Table
except ImportError:  # a bare GPU machine
    Console = Table = None  # type: ignore[assignment,misc]

SIZES = [(1, 256, 128, 216), (3, 256, 128, 216)]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
Run = Callable[[], object]

# From NVIDIA's data sheets: memory in bytes per second; float32 and dense half-precision tensor-core products
# in operations per second.
GPUS = {"H100": (3.35e12, 67e12, 989e12), "H200": (4.8e12, 67e12, 989e12), "A100": (2.04e12, 19.5e12, 312e12)}


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table, unformatted where rich is missing."""
    if Console is None:
        print(f"\n{title}\n" + "\n".join(" | ".join(row) for row in [header, *rows]))
        return
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)


def inputs(size: tuple[int, ...], device: str, dtype: torch.dtype) -> list[Tensor]:
    """Return a target, a reference and a mask that all require gradients."""
    batch, _, height, width = size
    target, reference = (torch.randn(size, device=device).to(dtype) for _ in range(2))
    mask = torch.rand(batch, 1, height, width, device=device).to(dtype)
    return [x.requires_grad_() for x in (target, reference, mask)]


def steps(function: Callable[..., Tensor], tensors: list[Tensor]) -> dict[str, Run]:
    """Return the function's forward pass without a graph, and its backward pass alone."""

    def forward() -> Tensor:
        with torch.no_grad():
            return function(*tensors)

    out = function(*tensors)
    grad = torch.randn_like(out)

    def backward() -> object:
        return torch.autograd.grad(out, tensors, grad, retain_graph=True)

    return {"forward": forward, "backward": backward}


def medians(runs: dict[str, Run], turns: int, synchronize: Callable[[], None]) -> dict[str, float]:
    """Return the median seconds of each run; all take turns after one turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            synchronize()
            begin = time.perf_counter()
            run()
            synchronize()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def sampler() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the same correlation by spatial-correlation-sampler, or None where it is not installed."""
    try:
        sample = importlib.import_module("spatial_correlation_sampler").spatial_correlation_sample
    except ImportError as error:
        print(f"spatial-correlation-sampler: not measured ({error})")
        return None

    def correlation(target: Tensor, reference: Tensor) -> Tensor:
        volume = sample(target, reference, kernel_size=1, patch_size=9, stride=1, padding=0, dilation_patch=2)
        return volume.flatten(1, 2) / target.shape[1]

    return correlation


def measure_cpu(turns: int) -> None:
    """Compare our PyTorch path with the naive reference on the CPU."""
    print(
        f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32, {turns} turns"
    )
    packaged, rows = sampler(), []
    for size in SIZES:
        tensors = inputs(size, "cpu", torch.float32)
        functions: dict[tuple[str, str], Callable[..., Tensor]] = {
            ("correlation", "shifted"): partial(kernels.correlation, implementation="naive"),
            ("correlation", "ours"): partial(kernels.correlation, implementation="torch"),
            ("local transfer", "shifted"): partial(kernels.local_transfer, implementation="naive"),
            ("local transfer", "ours"): partial(kernels.local_transfer, implementation="torch"),
        }
        if packaged is not None:
            functions["correlation", "sampler"] = packaged
        for op in ("correlation", "local transfer"):
            arguments = tensors[:2] if op == "correlation" else tensors
            prepared = {who: steps(f, arguments) for (what, who), f in functions.items() if what == op}
            for step in ("forward", "backward"):
                runs = {who: works for who, both in prepared.items() if (works := working(who, both[step]))}
                seconds = medians(runs, turns, lambda: None)
                rows.append([op, str(list(size)), step, *cells(seconds)])
    header = [
        "op",
        "size",
        "pass",
        "81 shifted products",
        "sampler",
        "ours",
        "shifted / ours",
        "sampler / ours",
    ]
    show("Correlation on the CPU, milliseconds", header, rows)


def working(who: str, run: Run) -> Run | None:
    """Return the run, or None if it is that of the package and fails."""
    if who != "sampler":
        return run
    try:
        run()
    except Exception as error:  # a defect of the package must not end the benchmark
        print(f"spatial-correlation-sampler: {error}")
        return None
    return run


def cells(seconds: dict[str, float]) -> list[str]:
    """Return times in milliseconds and ratios, with a dash for what was not measured."""
    times = [f"{1e3 * seconds[who]:.1f}" if who in seconds else "-" for who in ("shifted", "sampler", "ours")]
    ratios = [
        f"{seconds[who] / seconds['ours']:.1f}" if who in seconds else "-" for who in ("shifted", "sampler")
    ]
    return times + ratios


def cpu_name() -> str:
    """Return the processor's name, or its architecture where the system does not name it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def gpu_runs(function: Callable[..., Tensor], tensors: list[Tensor]) -> dict[str, Run]:
    """Return the function's forward pass without a graph, and its forward and backward pass together."""

    def forward() -> Tensor:
        with torch.no_grad():
            return function(*tensors)

    grad = torch.randn_like(forward())
    return {
        "forward": forward,
        "forward and backward": lambda: torch.autograd.grad(function(*tensors), tensors, grad),
    }


def gpu_seconds(run: Run, repeats: int = 20) -> float:
    """Return the seconds that the GPU takes for a run, captured in a CUDA graph to exclude Python's time."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(repeats):
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def peak(run: Run) -> int:
    """Return the peak memory of a run in bytes, beyond what was allocated before."""
    run()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def floor(op: str, step: str, tensors: list[Tensor]) -> tuple[float, float] | None:
    """Return lower bounds in seconds, by bytes moved and by operations; None on an unknown GPU.

    Bytes: each pass reads its inputs once and writes its outputs once. Operations: a product and a sum per
    channel, displacement and pixel, once forward and twice backward, and once more where the backward pass
    has no volume to read; at the rate of float32 or, for half-precision types, of the tensor cores (which our
    kernels do not use).
    """
    known = [rates for key, rates in GPUS.items() if key in torch.cuda.get_device_name()]
    if not known:
        return None
    bandwidth, plain, tensor_cores = known[0]
    batch, channels, height, width = tensors[0].shape
    pixels, element = batch * height * width, tensors[0].element_size()
    features, fused = 2 * channels * pixels * element, op == "local transfer"
    maps = (2 if fused else 81) * pixels * element
    moved, sums = features + maps, 1
    if step != "forward":
        moved, sums = moved + 2 * features + maps, 4 if fused else 3
    rate = plain if element == 4 else tensor_cores
    return moved / bandwidth, sums * 2 * 81 * channels * pixels / rate


def compiled(function: Callable[..., Tensor], backend: str = "inductor") -> Callable[..., Tensor]:
    """Compile a function for one size and type, and check in each call that it runs compiled.

    All combinations share the code of one function, of which PyTorch keeps eight compiled variants and runs
    every other one uncompiled, with a single line in a log. The earlier variants are therefore discarded.

    Raises:
        RuntimeError: the call is not compiled.
    """
    torch.compiler.reset()
    counters.clear()
    made = torch.compile(function, backend=backend, dynamic=False)

    def checked(*tensors: Tensor) -> Tensor:
        result: Tensor = made(*tensors)
        if not counters["stats"]["unique_graphs"] or counters["graph_break"]:
            raise RuntimeError("the naive path has not been compiled as a whole")
        return result

    return checked


def measure_gpu() -> None:
    """Compare the CUDA kernels with the PyTorch path, eager and compiled, and with the lower bound."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    times, memory = [], []
    for op, size, dtype in product(("correlation", "local transfer"), SIZES, TYPES):
        function = kernels.correlation if op == "correlation" else kernels.local_transfer
        tensors = inputs(size, "cuda", dtype)[: 2 if op == "correlation" else 3]
        sides = {
            "ours": gpu_runs(partial(function, implementation="cuda"), tensors),
            "eager": gpu_runs(partial(function, implementation="torch"), tensors),
            "compiled": gpu_runs(compiled(partial(function, implementation="naive")), tensors),
        }
        label = [op, str(list(size)), str(dtype).removeprefix("torch.")]
        for step in ("forward", "forward and backward"):
            seconds = {who: gpu_seconds(side[step]) for who, side in sides.items()}
            row = [f"{1e6 * seconds[who]:.0f}" for who in sides]
            row += [f"{seconds[who] / seconds['ours']:.1f}" for who in ("eager", "compiled")]
            bound = floor(op, step, tensors)
            if bound is None:
                row += ["-"] * 3
            else:
                row += [*(f"{1e6 * b:.0f}" for b in bound), f"{seconds['ours'] / max(bound):.1f}"]
            times.append([*label, step, *row])
            used = {who: peak(side[step]) for who, side in sides.items()}
            share = f"{used['ours'] / max(used['eager'], 1):.1%}"
            memory.append([*label, step, *(f"{used[who] / 2**20:.1f}" for who in sides), share])
    header = ["op", "size", "type", "pass", "ours", "eager", "compiled"]
    ratios = ["eager / ours", "compiled / ours", "floor: bytes", "floor: operations", "ours / floor"]
    show(
        "On the GPU, microseconds (eager: the PyTorch path; compiled: shifted products)",
        header + ratios,
        times,
    )
    show("Memory at the peak, MiB, outputs included", [*header, "ours / eager"], memory)


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--turns", type=int, default=5, help="number of timed turns of each side on the CPU")
    parser.add_argument("--threads", type=int, help="number of CPU threads; default: PyTorch's own choice")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("no CUDA device here")
        measure_gpu()
    else:
        measure_cpu(arguments.turns)


if __name__ == "__main__":
    main()
