"""One optimisation step of each stage as the paper configures it: seconds and peak memory on this CPU.

The network, the loss, the optimiser and the sizes are those of experiment=anet and experiment=tnet; the
pixels are noise, for they change neither time nor memory. Each try is a process of its own and may take so
much memory as is free when the program starts; one that needs more is tried again with recomputed
activations (checkpointing), then with half the batch, and so on, a row each.

    uv run benchmarks/full_size_step.py
    uv run benchmarks/full_size_step.py --overrides model.width=8 stages.anet.data.samples.crop=64
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ivos.data.batches import Batch

ROOT = Path(__file__).parents[1]
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=["anet", "tnet"], choices=["anet", "tnet"])
    parser.add_argument("--memory-gib", type=float, default=0.95 * free_gib(), help="of a try")
    parser.add_argument("--overrides", nargs="*", default=[], help="of the experiment; others' are left out")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # one try, in its process
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(step(**json.loads(arguments.step))))
        return
    table = Table(title=f"One step on a CPU, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for column in ("stage", "batch", "frames", "side", "checkpointing", "seconds", "peak GiB", "loss"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in arguments.stages:
        overrides = [each for each in arguments.overrides if named_stage(each) in (None, stage)]
        for batch_size, checkpointing in tries(configured(stage, overrides)[1].data.batch_size):
            options = {"stage": stage, "overrides": overrides, "batch_size": batch_size}
            row = attempt({**options, "checkpointing": checkpointing, "memory_gib": arguments.memory_gib})
            table.add_row(stage, *row)
            if "none" not in row[-1]:
                break
    Console().print(table)


def free_gib() -> float:
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["MemAvailable"].split()[0]) * 1024 / GIB


def named_stage(override: str) -> str | None:
    """The stage that an override is about."""
    return override.split(".")[1] if override.startswith("stages.") else None


def configured(stage: str, overrides: list[str]) -> tuple[DictConfig, DictConfig]:
    """The model and the stage of an experiment."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"experiment={stage}", *overrides])
    return cfg.model, cfg.stages[stage]


def tries(batch_size: int) -> list[tuple[int, bool]]:
    """The paper's batch as it is, with checkpointing, then ever smaller ones."""
    halves = [batch_size >> n for n in range(batch_size.bit_length() - 1)]  # batch norm needs two
    return [(batch_size, False), *((half, True) for half in halves)]


def attempt(options: dict) -> list[str]:
    """A row of the table from a step in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--step", json.dumps(options)], capture_output=True, text=True
    )
    if run.returncode == 0:
        found = json.loads(run.stdout.splitlines()[-1])
        return [*found["sizes"], f"{found['seconds']:.1f}", f"{found['gib']:.2f}", f"{found['loss']:.3f}"]
    if run.returncode != -9 and "can't allocate memory" not in run.stderr:
        raise RuntimeError(run.stderr)
    _, cfg = configured(options["stage"], options["overrides"])
    data = (cfg.data.samples.num_frames, cfg.data.samples.crop)
    beyond = f"> {options['memory_gib']:.1f}"
    return [str(options["batch_size"]), *map(str, data), str(options["checkpointing"]), "", beyond, "none"]


def step(stage: str, overrides: list[str], batch_size: int, checkpointing: bool, memory_gib: float) -> dict:
    """One optimisation step; seconds and the highest memory of this process."""
    limit = int(memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # an error instead of the system's out of memory
    model, cfg = configured(stage, overrides)
    torch.manual_seed(0)
    module = instantiate(cfg.module, instantiate(model))
    module.checkpointing = checkpointing
    batch = noise(batch_size, cfg.data.samples.num_frames, cfg.data.samples.crop)
    optimizer = module.make_optimizer([p for p in module.parameters() if p.requires_grad])
    module.train()
    began = time.perf_counter()
    loss, _ = module.losses(batch)
    loss.backward()
    optimizer.step()
    seconds = time.perf_counter() - began
    sizes = (batch_size, cfg.data.samples.num_frames, cfg.data.samples.crop, checkpointing)
    return {
        "sizes": [str(size) for size in sizes],
        "seconds": seconds,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB,
        "loss": loss.item(),
    }


def noise(batch_size: int, frames: int, side: int) -> Batch:
    """A batch of one object each: a square on noise."""
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
