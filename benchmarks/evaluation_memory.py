"""Measure the resident memory of an evaluation over many samples.

uv run benchmarks/evaluation_memory.py [--samples 1000] [--rounds 4]

Each sample has different first strokes on the same small synthetic video. The segmenter is `segmenter=copy`,
the robot draws corrections, and all report files are written. The table has the memory after 1/5, 2/5, ... of
the samples. A line below it gives the growth after the first fifth.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

import cv2
import psutil
import pytorch_lightning as pl
from rich import box
from rich.console import Console
from rich.table import Table

from ivos.data.datasets.davis import DavisFolder
from ivos.data.synthetic import SyntheticSpec, write_davis
from ivos.evaluation import SessionSettings, evaluate
from ivos.evaluation.session_callbacks import SampleReports
from ivos.runtime.command_line import quiet_libraries
from ivos.segmenters import CopySegmenter
from ivos.session import Sample

MIB = 2**20


def write_samples(root: Path, samples: int) -> DavisFolder:
    """Write a video of three frames with a file of first strokes for each sample."""
    spec = SyntheticSpec(
        num_clips=1, num_frames=3, width=96, height=64, min_objects=2, max_objects=2, leaving=0
    )
    folder = write_davis(spec, root, "val", num_workers=1)
    (name,) = (folder / "ImageSets/2017/val.txt").read_text().split()
    strokes = folder / "Scribbles" / name
    strokes.mkdir(parents=True, exist_ok=True)
    for number in range(1, samples + 1):
        x = 0.2 + 0.6 * number / samples
        drawn = [{"path": [[x, 0.4], [x, 0.6]], "object_id": label} for label in (1, 2)]
        content = {"sequence": name, "scribbles": [drawn, [], []]}
        (strokes / f"{number:03d}.json").write_text(json.dumps(content))
    return DavisFolder(folder, index=False)


def measure(root: Path, samples: int, rounds: int) -> list[int]:
    """Return the resident memory after each sample, in bytes."""
    seen: list[int] = []
    process = psutil.Process()
    complete = SampleReports.on_sample_end

    def noted(self: SampleReports, sample: Sample) -> None:
        complete(self, sample)
        seen.append(process.memory_info().rss)

    SampleReports.on_sample_end = noted  # type: ignore[method-assign]
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    settings = SessionSettings(max_interactions=rounds, max_time=None)
    evaluate(CopySegmenter(), write_samples(root, samples), settings, root / "run", trainer)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    quiet_libraries()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        seen = measure(Path(place), chosen.samples, chosen.rounds)
    table = Table(title=f"{chosen.rounds} rounds each", box=box.MARKDOWN)
    table.add_column("samples", justify="right")
    table.add_column("resident memory", justify="right")
    fifth = max(1, chosen.samples // 5)
    for number in (1, *range(fifth, chosen.samples + 1, fifth)):
        table.add_row(str(number), f"{seen[number - 1] / MIB:.0f} MiB")
    console = Console(width=120)
    console.print(table)
    grown, over = seen[-1] - seen[fifth - 1], len(seen) - fifth
    console.print(
        f"growth over the last {over} samples: {grown / MIB:.1f} MiB, {grown / over / 1024:.2f} KiB each"
    )


if __name__ == "__main__":
    main()
