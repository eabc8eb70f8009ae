"""Measure one optimisation step of each stage at the paper's size: seconds, samples per second, peak memory.

The network, the loss, the optimiser and the sizes are those of experiment=anet and experiment=tnet. The
images are noise, which affects neither time nor memory. Each try runs in its own process, whose memory is
limited to the memory that is free when the program starts. If a try exceeds the limit, the step is tried
again with recomputed activations (checkpointing), then with half the batch, and so on. Each try is a row of
the table.

    uv run benchmarks/full_size_step.py
    uv run benchmarks/full_size_step.py --device cuda --precision bf16-mixed --turns 5
    uv run benchmarks/full_size_step.py --overrides model.width=8 stages.anet.data.samples.crop=64
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ivos.data.batches import Batch
from ivos.runtime.errors import is_out_of_memory
from ivos.runtime.overrides import prepare_overrides
from ivos.training.execution import fused

ROOT = Path(__file__).parents[1]
GIB = 2**30
OUT_OF_MEMORY = 77  # exit status of a try that exceeds its memory limit
COLUMNS = ("stage", "batch", "frames", "side", "checkpointing", "seconds", "samples/s", "peak GiB", "loss")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=["anet", "tnet"], choices=["anet", "tnet"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--turns", type=int, help="number of timed steps; default: 5 on a GPU, 1 on a CPU")
    parser.add_argument("--memory-gib", type=float, help="memory limit of a try; default: the free memory")
    parser.add_argument("--overrides", nargs="*", default=[], help="options of the experiments")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # options of a try, passed to its own process
    arguments = parser.parse_args()
    if arguments.step:
        run_try(json.loads(arguments.step))
        return
    limit = arguments.memory_gib or 0.95 * free_gib(arguments.device)
    turns = arguments.turns or (5 if arguments.device.startswith("cuda") else 1)
    common = {"device": arguments.device, "precision": arguments.precision, "turns": turns}
    table = Table(title=f"One step, {describe(arguments.device)}, {arguments.precision}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in arguments.stages:
        overrides = [each for each in arguments.overrides if named_stage(each) in (None, stage)]
        for batch_size, checkpointing in tries(configured(stage, overrides)[1].data.batch_size):
            options = {"stage": stage, "overrides": overrides, "batch_size": batch_size, **common}
            row = attempt({**options, "checkpointing": checkpointing, "memory_gib": limit})
            table.add_row(stage, *row)
            if row[-1] != "none":
                break
    Console(width=120).print(table)


def describe(device: str) -> str:
    """Return the device, its threads and PyTorch's version for a table's title."""
    name = (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return f"{name}, PyTorch {torch.__version__}"


def free_gib(device: str) -> float:
    """Return the free memory of a device in GiB."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0] / GIB
    return psutil.virtual_memory().available / GIB


def named_stage(override: str) -> str | None:
    """Return the stage to which an override belongs, or None if it applies to all stages."""
    return override.split(".")[1] if override.startswith("stages.") else None


def configured(stage: str, overrides: list[str]) -> tuple[DictConfig, DictConfig]:
    """Return the model and the stage of an experiment."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=prepare_overrides([f"experiment={stage}", *overrides]))
    return cfg.model, cfg.stages[stage]


def tries(batch_size: int) -> list[tuple[int, bool]]:
    """Return pairs of a batch size and whether to checkpoint activations, in the order of the tries.

    The first pair is the given batch size without checkpointing. The batch size is then halved until it is
    2 or 3, since batch norm needs two samples.
    """
    halves = [batch_size >> n for n in range(batch_size.bit_length() - 1)]
    return [(batch_size, False), *((half, True) for half in halves)]


def attempt(options: dict[str, Any]) -> list[str]:
    """Run a try in its own process, and return its row of the table."""
    run = subprocess.run(
        [sys.executable, __file__, "--step", json.dumps(options)], capture_output=True, text=True
    )
    _, cfg = configured(options["stage"], options["overrides"])
    data = (cfg.data.samples.num_frames, cfg.data.samples.crop)
    sizes = [str(options["batch_size"]), *map(str, data), str(options["checkpointing"])]
    if run.returncode == 0:
        found = json.loads(run.stdout.splitlines()[-1])
        rate = options["batch_size"] / found["seconds"]
        return [
            *sizes,
            f"{found['seconds']:.3g}",
            f"{rate:.3g}",
            f"{found['gib']:.2f}",
            f"{found['loss']:.3f}",
        ]
    if run.returncode not in (OUT_OF_MEMORY, -9):  # -9: killed by the system's out-of-memory killer
        raise RuntimeError(run.stderr)
    return [*sizes, "", "", f"> {options['memory_gib']:.1f}", "none"]


def run_try(options: dict[str, Any]) -> None:
    """Print the result of a try as JSON, or exit with :data:`OUT_OF_MEMORY`."""
    try:
        print(json.dumps(step(**options)))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise SystemExit(OUT_OF_MEMORY) from None


def step(
    stage: str,
    overrides: list[str],
    batch_size: int,
    checkpointing: bool,
    memory_gib: float,
    device: str = "cpu",
    precision: str = "32-true",
    turns: int = 1,
) -> dict[str, float]:
    """Return the median seconds of a step, the peak memory in GiB and the loss of the first step."""
    place = torch.device(device)
    limit_memory(place, memory_gib)
    model, cfg = configured(stage, overrides)
    torch.manual_seed(0)
    module = instantiate(cfg.module, instantiate(model)).to(place)
    module.checkpointing = checkpointing
    samples = noise(batch_size, cfg.data.samples.num_frames, cfg.data.samples.crop)
    batch: Any = {k: v.to(place) if isinstance(v, torch.Tensor) else v for k, v in samples.items()}
    one_kernel = {"fused": True} if fused(module.make_optimizer, place) else {}
    optimizer = module.make_optimizer([p for p in module.parameters() if p.requires_grad], **one_kernel)
    module.train()
    seconds, losses = [], []
    for _ in range(turns + (place.type == "cuda")):  # on a GPU the first step is a warm-up and is not counted
        began = clock(place)
        optimizer.zero_grad()
        with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss, _ = module.losses(batch)
        loss.backward()
        optimizer.step()
        seconds.append(clock(place) - began)
        losses.append(loss.detach())
    return {
        "seconds": statistics.median(seconds[-turns:]),
        "gib": peak_gib(place),
        "loss": losses[0].item(),
    }


def limit_memory(device: torch.device, gib: float) -> None:
    """Limit the memory of this process, so that it gets an error before the machine runs out of memory."""
    if device.type == "cuda":
        share = gib * GIB / torch.cuda.get_device_properties(device).total_memory
        # The function takes a device only with its number.
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), index)
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (int(gib * GIB), int(gib * GIB)))


def clock(device: torch.device) -> float:
    """Wait until the device has finished its work, and return the time in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_gib(device: torch.device) -> float:
    """Return the peak memory of this process on a device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def noise(batch_size: int, frames: int, side: int) -> Batch:
    """Return a batch of noise images with one object, a square, per sample."""
    masks = torch.zeros(batch_size, frames, 1, side, side, dtype=torch.uint8)
    masks[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    interaction = torch.zeros(batch_size, 3, side, side)
    interaction[:, 0] = 0.5
    interaction[:, 1, side // 3, side // 4 : side // 2] = 1
    return {
        "names": ["noise"] * batch_size,
        "frames": torch.randint(256, (batch_size, frames, 3, side, side), dtype=torch.uint8),
        "masks": masks,
        "interaction": interaction,
        "image": torch.arange(batch_size),
    }


if __name__ == "__main__":
    main()
