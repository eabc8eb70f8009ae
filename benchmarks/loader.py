"""Measure the mini-sequences per second and core for each data set, and the number of cores for one GPU.

uv run benchmarks/loader.py [--seconds 20] [--samples-per-second 60] [--keep FOLDER]

The data sets are small synthetic sets in the layouts and the usual frame sizes of the real sets (DAVIS
854x480, YouTube-VOS 1280x720, SBD 500x375). The mini-sequences are those of `experiment=anet` and
`experiment=tnet` at 384x384, including the strokes of simulated users. Rates are given per second of
processor time of one process, which other programs on the machine hardly affect, and per second of elapsed
time.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.data.miniature import write_sbd, write_youtube_vos
from ivos.data.synthetic import SyntheticSpec, render_clip, write_davis
from ivos.video.index import inspect_files
from ivos.video.video import Video

CONF = Path(__file__).parents[1] / "conf"
SETS = ("davis", "youtube_vos", "sbd")


def make_sets(root: Path, clips: int, frames: int) -> list[str]:
    """Make the three sets unless they exist, and return the overrides that name their folders."""

    def drawn(width: int, height: int, length: int, count: int) -> Iterator[Any]:
        spec = SyntheticSpec(num_clips=count, num_frames=length, width=width, height=height)
        return (render_clip(spec, index) for index in range(count))

    if not (root / "DAVIS").exists():
        for split in ("train", "val"):
            spec = SyntheticSpec(
                num_clips=clips, num_frames=frames, width=854, height=480, scribbles_per_clip=0
            )
            write_davis(spec, root / "DAVIS", split, num_workers=1)
    if not (root / "YouTubeVOS").exists():
        write_youtube_vos(root / "YouTubeVOS", drawn(1280, 720, frames, clips))
    if not (root / "SBD").exists():
        write_sbd(root / "SBD", drawn(500, 375, 1, 4 * clips))
    return [f"data.davis_root={root / 'DAVIS'}", f"data.youtube_vos_root={root / 'YouTubeVOS'}",
            f"data.sbd_root={root / 'SBD'}"]  # fmt: skip


class Clock:
    """Processor time and time by the clock, in seconds, since the object was created."""

    def __init__(self) -> None:
        self._start = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        return time.process_time() - self._start[0], time.perf_counter() - self._start[1]


def rate(dataset: Any, seconds: float) -> tuple[float, float]:
    """Return the mini-sequences per second of processor time, and per second by the clock."""
    dataset[0]
    clock, count = Clock(), 0
    while clock.read()[0] < seconds:
        count += 1
        dataset[count]
    used, passed = clock.read()
    return count / used, count / passed


def reading(videos: list[Video], num_frames: int, seconds: float) -> float:
    """Return the processor time of reading the frames and masks of a mini-sequence, in seconds."""
    rng = np.random.default_rng(0)
    clock, count = Clock(), 0
    while clock.read()[0] < seconds:
        video = videos[rng.integers(len(videos))]
        video.read(rng.integers(video.num_frames, size=min(num_frames, video.num_frames)).tolist())
        count += 1
    return clock.read()[0] / count


def measure(roots: list[str], seconds: float, wanted: float | None) -> Table:
    table = Table(title="Mini-sequences of 384x384, one process, one thread", box=box.MARKDOWN)
    columns = [
        "set",
        "stage",
        "frames",
        "a second of processor time",
        "a second by the clock",
        "of it reading",
    ]
    for column in columns + ([f"cores for {wanted:g} a second"] if wanted else []):
        table.add_column(column, justify="left" if column in ("set", "stage") else "right")
    for stage in ("anet", "tnet"):
        for name in (*SETS, stage):
            cfg = compose("train", overrides=[f"experiment={stage}", f"data@data.train={name}", *roots])
            data = instantiate(cfg.stages[stage].data, memory_mib=0)
            data.setup("fit")
            drawn = data.train_dataloader().dataset
            by_processor, by_clock = rate(drawn, seconds)
            share = "-"
            if isinstance(data.train, list) or name in SETS:
                spent = reading(list(data.train), drawn.num_frames, seconds / 4)
                share = f"{100 * spent * by_processor:.0f} %"
            cells = [name, stage, str(cfg.stages[stage].data.samples.num_frames), f"{by_processor:.1f}"]
            cells += [f"{by_clock:.1f}", share]
            cells += [str(math.ceil(wanted / by_processor))] if wanted else []
            table.add_row(*cells)
    return table


def index_rates(root: Path) -> Table:
    table = Table(title="Inspecting files for the index, one thread", box=box.MARKDOWN)
    for column in ("set", "files", "files/s of processor time"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for name in ("DAVIS", "YouTubeVOS", "SBD"):
        frames = list((root / name).rglob("*.jpg"))
        masks = [path for path in (root / name).rglob("*") if path.suffix in (".png", ".mat")]
        clock = Clock()
        inspect_files(frames, masks, root / name, index=False)
        table.add_row(
            name, str(len(frames) + len(masks)), f"{(len(frames) + len(masks)) / clock.read()[0]:.0f}"
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="seconds of processor time for each row")
    parser.add_argument("--samples-per-second", type=float, help="training speed of the GPU")
    parser.add_argument("--clips", type=int, default=4, help="number of clips of each set")
    parser.add_argument("--frames", type=int, default=10, help="number of frames of each clip")
    parser.add_argument("--keep", type=Path, help="folder in which the sets are kept for further runs")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as aside, initialize_config_dir(str(CONF), version_base="1.3"):
        root = chosen.keep or Path(aside)
        roots = make_sets(root, chosen.clips, chosen.frames)
        console.print(measure(roots, chosen.seconds, chosen.samples_per_second))
        console.print(index_rates(root))


if __name__ == "__main__":
    main()
