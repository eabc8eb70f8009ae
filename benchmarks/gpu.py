"""Measure speed, memory and numerical accuracy on a GPU, one part per call.

    python benchmarks/gpu.py engine
    SMOKE=1 python benchmarks/gpu.py engine     a test of the script with tiny sizes, which also runs on a CPU

benchmarks/gpu.sh runs all parts in order. Every result is printed, and written as a line of results.jsonl in
the folder $OUT (by default the current folder). The goals and the tables to fill in are in
docs/experiments/gpu.md.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rounds import Released, lively

from ivos import kernels
from ivos.engine import ATNetSegmenter, plan_round
from ivos.engine.arithmetic import tf32
from ivos.interaction import Stroke
from ivos.kernels import cuda
from ivos.networks import ATNet, load
from ivos.networks.shipped import shipped_names

SMOKE = bool(os.environ.get("SMOKE"))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WIDTH, FRAMES, SIZE, OBJECTS = (8, 5, (64, 96), (1, 2)) if SMOKE else (64, 40, (480, 854), (1, 3, 8))
SIDE = 64 if SMOKE else 384  # side of a training sample in pixels
PIECE = 15_000_000  # largest size of a file in bytes, because downloads from a rented machine may be limited
GOLDEN = Path(__file__).parents[1] / "tests" / "golden"

PRECISIONS: dict[str, dict[str, Any]] = {
    "ieee": {},
    "tf32": {"tf32": True},
    "bf16": {"precision": "bfloat16"},
    "bf16 tf32": {"precision": "bfloat16", "tf32": True},
    "fp16 tf32 nhwc": {"precision": "float16", "tf32": True, "channels_last": True},
    "bf16 tf32 nhwc": {"precision": "bfloat16", "tf32": True, "channels_last": True},
}
FAST = PRECISIONS["bf16 tf32 nhwc"]
COMPILED: dict[str, dict[str, Any]] = {
    "bf16 tf32 nhwc": FAST,
    "compiled": {**FAST, "compile": "default"},
    "graphs": {**FAST, "compile": "reduce-overhead"},
}


def note(part: str, **found: Any) -> None:
    """Print a result and append it to the results."""
    found = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}
    print(part, *(f"{name}={value}" for name, value in found.items()), flush=True)
    with (Path(os.environ.get("OUT", ".")) / "results.jsonl").open("a") as file:
        print(json.dumps({"part": part, "device": DEVICE.type, **found}), file=file)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def milliseconds(run: Callable[[], object], turns: int = 1) -> float:
    """Return the mean time of a run, the device's work included."""
    wait()
    begin = time.perf_counter()
    for _ in range(turns):
        run()
    wait()
    return 1e3 * (time.perf_counter() - begin) / turns


def peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0


def busy(run: Callable[[], object]) -> float:
    """Print the GPU's slowest kernels in a run, and return the fraction of time with kernels; -1 on a CPU."""
    if DEVICE.type != "cuda":
        run()
        return -1.0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        taken = milliseconds(run)
    averages = profile.key_averages()
    print(
        averages.table(sort_by="self_device_time_total", row_limit=10, max_name_column_width=60), flush=True
    )
    return float(sum(each.self_device_time_total for each in averages) / 1e3 / taken)


def full_size() -> ATNet:
    """Return the paper's network (a tiny one with SMOKE) with weights that make masks lively."""
    torch.manual_seed(0)
    depths = (1, 1, 1, 1) if SMOKE else (3, 4, 6, 3)
    return lively(ATNet(width=WIDTH, depths=depths, decoder_width=4 * WIDTH)).to(DEVICE)


def video() -> NDArray[np.uint8]:
    """Return frames of coarse noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (FRAMES, SIZE[0] // 8 + 1, SIZE[1] // 8 + 1, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2)[:, : SIZE[0], : SIZE[1]])


def strokes(num_objects: int) -> list[Stroke]:
    return [
        {"path": [[k / 10, 0.3], [k / 10 + 0.05, 0.5]], "object_id": k} for k in range(1, num_objects + 1)
    ]


def rounds(segmenter: Any, frames: NDArray[np.uint8], num_objects: int) -> list[float]:
    """Return the milliseconds per propagated frame in a first round and in a round with cached features."""
    segmenter.start(frames, num_objects)
    found: list[float] = []
    annotated: list[int] = []
    for frame in (len(frames) // 2, 0):
        plan = plan_round(frame, annotated, len(frames))
        annotated.append(frame)
        taken = milliseconds(functools.partial(segmenter.interact, frame, strokes(num_objects)))
        found.append(taken / (plan.end - plan.start))
    return found


def ceilings() -> None:
    """Measure the peak rates of the machine, in bytes and operations per second, as references."""
    count, side = (1 << 16, 64) if SMOKE else (1 << 30, 8192)
    first, second = (torch.empty(count, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    second.copy_(first)
    note("ceilings", copy_tb_s=2 * count / milliseconds(lambda: second.copy_(first), 10) / 1e9)
    for dtype, allowed in (torch.float32, False), (torch.float32, True), (torch.bfloat16, False):
        x, y = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
        with tf32(allowed):
            x @ y
            taken = milliseconds(functools.partial(torch.matmul, x, y), 10)
        note("ceilings", type=str(dtype)[6:], tf32=allowed, tflops=2 * side**3 / taken / 1e9)
    if DEVICE.type == "cuda":
        host = torch.empty(count, dtype=torch.uint8, pin_memory=True)
        taken = milliseconds(lambda: first.copy_(host, non_blocking=True), 4)
        note("ceilings", pinned_to_gpu_gb_s=count / taken / 1e6)
        note("ceilings", gpu_to_pageable_gb_s=count / milliseconds(lambda: first.cpu(), 2) / 1e6)
    note("ceilings", cpus=os.cpu_count(), threads=torch.get_num_threads(), torch=torch.__version__)


def context() -> None:
    """Run the correlation as the first operation of autograd's thread, where no context exists yet."""
    x = torch.randn(1, 8, 32, 32, device=DEVICE, requires_grad=True)
    volume = kernels.correlation(x, x.detach())
    (gradient,) = torch.autograd.grad(volume, x, torch.ones_like(volume))
    try:
        toolchain = " ".join(cuda.toolchain()[1:])
    except cuda.ToolchainMissing as error:
        toolchain = str(error)
    note("context", ok=bool(gradient.isfinite().all()), toolchain=toolchain)


def golden_network() -> ATNet:
    if SMOKE:
        return full_size()
    code: dict[str, Any] = {"__file__": str(GOLDEN / "fill.py"), "__name__": "fill"}
    exec(compile((GOLDEN / "fill.py").read_text(), "fill.py", "exec"), code)
    state = {key: torch.from_numpy(value) for key, value in code["state_dict"]().items()}
    return ATNet.from_released(state).to(DEVICE)


def parity() -> None:
    """Compare the engine with the golden session of the released system, by probabilities and masks."""
    arrays, network = dict(np.load(GOLDEN / "session.npz")), golden_network()
    (top, bottom), (left, right) = arrays["pad"]
    played = json.loads(str(arrays["rounds"]))[: 1 if SMOKE else None]
    for name in ("ieee", "bf16") if SMOKE else PRECISIONS:
        segmenter = ATNetSegmenter(network, **PRECISIONS[name])
        segmenter.start(arrays["frames"], int(arrays["num_objects"]))
        for number, (frame, drawn) in enumerate(played, start=1):
            masks = segmenter.interact(frame, drawn)
            truth = arrays[f"probabilities_{number}"][..., top : -bottom or None, left : -right or None]
            largest = float(np.abs(segmenter.probabilities - truth).max())
            pixels = int((masks != arrays[f"masks_{number}"]).sum())
            note("parity", arithmetic=name, round=number, difference=largest, allowed=5e-5, pixels=pixels)


def engine() -> None:
    """Measure the time of a propagated frame in the engine and in the authors' released procedure."""
    network, frames = full_size(), video()
    found = measure(network, frames, PRECISIONS, OBJECTS)
    segmenter = ATNetSegmenter(network, **FAST)
    segmenter.start(frames, 1)
    share = busy(lambda: segmenter.interact(FRAMES // 2, strokes(1)))
    note("engine", arithmetic="bf16 tf32 nhwc", objects=1, gpu_busy=share)
    released = Released(network)
    for count in OBJECTS:
        with tf32(False):
            released.start(frames[:4], count)
            released.interact(0, strokes(count))
            theirs = rounds(released, frames, count)[0]
        ratios = {
            f"ratio_{name}": theirs / found[name, count] for name in PRECISIONS if (name, count) in found
        }
        note("released", arithmetic="ieee", objects=count, ms_round_1=theirs, **ratios)


def compiled() -> None:
    """Measure the engine compiled by PyTorch, and as CUDA graphs."""
    measure(full_size(), video(), COMPILED, OBJECTS[:1] if SMOKE else (1, 8))


def measure(
    network: ATNet,
    frames: NDArray[np.uint8],
    configurations: dict[str, dict[str, Any]],
    objects: Sequence[int],
) -> dict[tuple[str, int], float]:
    """Record the times of each configuration, and return those of the first round by name and objects."""
    truth: dict[int, NDArray[np.float32]] = {}
    found = {}
    chosen = list(configurations.items())
    for name, options in chosen[:1] + chosen[-1:] if SMOKE else chosen:
        segmenter = ATNetSegmenter(network, **options)
        for count in objects:
            warm = milliseconds(functools.partial(rounds, segmenter, frames, count))
            first, second = rounds(segmenter, frames, count)
            probabilities = segmenter.probabilities
            difference = np.abs(probabilities - truth.setdefault(count, probabilities))
            found[name, count] = first
            note("engine", arithmetic=name, objects=count, ms_round_1=first, ms_round_2=second,
                 largest=float(difference.max()), mean=float(difference.mean()), warm_ms=warm,
                 gib=peak_gib())  # fmt: skip
    return found


def shipped() -> None:
    """Measure each included network at its own size and at the frames' size, with and without flow."""
    for weights in shipped_names():
        _measure_shipped(weights)


def _measure_shipped(weights: str) -> None:
    network, frames = load(weights).to(DEVICE), video()
    sizes: dict[str, int | None] = {"trained": network.short_side, "frames": None}
    for flow in (False, True):
        for name, side in sizes.items():
            if flow and side is None and not SMOKE:
                continue  # half a second per frame
            segmenter = ATNetSegmenter(network, flow=flow, short_side=side)
            for count in OBJECTS[:2]:
                rounds(segmenter, frames, count)
                first, second = rounds(segmenter, frames, count)
                times = {"ms_round_1": first, "ms_round_2": second}
                note("shipped", weights=weights, flow=flow, size=name, objects=count, **times)
        segmenter = ATNetSegmenter(network, flow=flow)
        segmenter.start(frames, 1)
        share = busy(functools.partial(segmenter.interact, FRAMES // 2, strokes(1)))
        note("shipped", weights=weights, flow=flow, gpu_busy=share)


def train() -> None:
    """Measure training steps of both stages, without data loading, at the paper's and the shipped sizes."""
    from ivos.training.stages import ANetStage, TNetStage  # the parts that do not train start sooner

    torch.backends.cudnn.benchmark = True
    small = functools.partial(ATNet, width=16, depths=(2, 2, 2, 2), decoder_width=64)
    cases: list[tuple[str, Callable[[], ATNet], Any, int, int, int]] = [
        ("paper", full_size, ANetStage, 6, 1, SIDE),
        ("paper", full_size, TNetStage, 8, 5, SIDE),
        ("recipe", lambda: small().to(DEVICE), ANetStage, 8, 1, 160),
        ("recipe", lambda: small().to(DEVICE), ANetStage, 64, 1, 160),
        ("recipe", lambda: small().to(DEVICE), TNetStage, 4, 4, 160),
        ("recipe", lambda: small().to(DEVICE), TNetStage, 32, 4, 160),
    ]
    for name, make, stage, batch, count, side in cases[: 2 if SMOKE else None]:
        if SMOKE:
            batch, count = 2, min(count, 2)
        for channels_last in (False, True) if name == "paper" else (True,):
            step = training_step(make(), stage, batch, count, side, channels_last)
            if DEVICE.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            for _ in range(1 if SMOKE else 4):
                step()
            taken = milliseconds(step, 1 if SMOKE else 10)
            note("train", size=name, stage=stage.__name__, batch=batch, nhwc=channels_last, ms_step=taken,
                 samples_s=1e3 * batch / taken, gib=peak_gib())  # fmt: skip
            if name == "paper" and channels_last:
                note("train", stage=stage.__name__, gpu_busy=busy(step))


def training_step(
    network: ATNet, stage: Any, size: int, count: int, side: int, channels_last: bool
) -> Callable[[], None]:
    """Return a step of a stage in bf16-mixed on noise, with the optimiser as train.py makes it."""
    from full_size_step import noise

    from ivos.training.execution import fused

    module = stage(network, optimizer=functools.partial(torch.optim.AdamW, lr=1e-5)).to(DEVICE).train()
    if channels_last:
        module.network.to(memory_format=torch.channels_last)
    one_kernel = {"fused": True} if fused(module.make_optimizer, DEVICE) else {}
    optimizer = module.make_optimizer([p for p in module.parameters() if p.requires_grad], **one_kernel)
    samples = noise(size, count, side)
    batch: Any = {key: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for key, v in samples.items()}

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss, _ = module.losses(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def speeds(folder: Path) -> None:
    """Record the metrics in the metrics.csv files of a run of train.py."""
    import pandas as pd

    for path in sorted(folder.glob("*/metrics.csv")):
        table = pd.read_csv(path)
        for name in ("speed/samples_per_second", "speed/waiting_for_data", "train/iou", "val/J"):
            values = table.get(name, pd.Series(dtype=float)).dropna()
            if len(values):
                note("speeds", stage=path.parent.name, metric=name, first=float(values.iloc[0]),
                     median=float(values.median()), last=float(values.iloc[-1]),
                     steps=int(table["step"].max()))  # fmt: skip


def weights(folder: Path) -> None:
    """Write the trained network in half precision to $OUT, in pieces of 15 MB."""
    names = [
        f"{stage}/{name}.ckpt" for stage in ("joint", "tnet", "anet") for name in ("final", "best", "last")
    ]
    path = next(folder / name for name in names if (folder / name).exists())
    out = Path(os.environ.get("OUT", "."))
    load(path).save(out / "weights.pt", half=True)
    data = (out / "weights.pt").read_bytes()
    (out / "weights.pt").unlink()
    for number, start in enumerate(range(0, len(data), PIECE)):
        (out / f"weights.pt.{number}").write_bytes(data[start : start + PIECE])
    note("weights", checkpoint=str(path.relative_to(folder)), bytes=len(data))


def pictures(folder: Path) -> None:
    """Write synthetic pictures, which replace photographs in a test of training."""
    import cv2

    from ivos.data.synthetic import SyntheticSpec, render_clip

    folder.mkdir(parents=True, exist_ok=True)
    spec = SyntheticSpec(num_clips=12, num_frames=1, width=192, height=160)
    for index in range(spec.num_clips):
        frames, _ = render_clip(spec, index)
        cv2.imwrite(str(folder / f"{index:02d}.jpg"), np.ascontiguousarray(frames[0, ..., ::-1]))


PARTS: dict[str, Callable[[], None]] = {
    part.__name__: part for part in (context, parity, engine, train, shipped, compiled, ceilings)
}
OF_A_FOLDER: dict[str, Callable[[Path], None]] = {part.__name__: part for part in (speeds, weights, pictures)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, *OF_A_FOLDER])
    parser.add_argument("folder", nargs="?", type=Path, help="folder of a run of train.py, or of pictures")
    arguments = parser.parse_args()
    if arguments.part in OF_A_FOLDER:
        if arguments.folder is None:
            parser.error(f"{arguments.part} needs a folder")
        OF_A_FOLDER[arguments.part](arguments.folder)
        return
    if DEVICE.type == "cpu" and not SMOKE:
        raise SystemExit("error: no GPU here; SMOKE=1 tries the script on a CPU")
    PARTS[arguments.part]()


if __name__ == "__main__":
    main()
