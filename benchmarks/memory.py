"""Compare the memory that ATNetSegmenter uses on a long video with its limit device_cache_gib.

The script measures anonymous memory, which the operating system cannot reclaim. Probabilities beyond the
limit are stored in a mapped file, whose pages the system can write to disk. The network is small, so that a
thousand frames take only minutes on a CPU; this does not affect which data are kept in memory.

    uv run benchmarks/memory.py --frames 1000 --objects 10
"""

import argparse
import threading
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ivos.engine import ATNetSegmenter
from ivos.engine.feature_store import GIB
from ivos.interaction import Stroke
from ivos.networks import ATNet
from ivos.runtime.machine import recycle_memory


def anonymous_gib() -> float:
    with open("/proc/self/status") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["RssAnon"].split()[0]) * 1024 / GIB


class Peak:
    """A sampler of the anonymous memory of the process, which keeps the peak of 50 samples per second."""

    def __enter__(self) -> "Peak":
        self.value, self._stop = anonymous_gib(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.value = max(self.value, anonymous_gib())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--size", type=int, nargs=2, default=[120, 152], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--grants", type=float, nargs="+", default=[4.0, 0.25], help="values of device_cache_gib to measure"
    )
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = ATNet(width=8, depths=(1, 1, 1, 1), decoder_width=16)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (arguments.frames, *arguments.size, 3), np.uint8)
    path = [[0.2, 0.3], [0.4, 0.5]]
    strokes = [Stroke(path=path, object_id=i + 1) for i in range(arguments.objects)]
    height, width = (side + 32 - side % 32 for side in arguments.size)
    table = Table(title=f"{arguments.frames} frames of {arguments.size[1]}x{arguments.size[0]}")
    for name in (
        "objects",
        "granted [GiB]",
        "probabilities [GiB]",
        "peak, beyond the start [GiB]",
        "seconds",
    ):
        table.add_column(name, justify="right")
    first = None
    for grant in arguments.grants:
        segmenter = ATNetSegmenter(network, device_cache_gib=grant)
        recycle_memory()  # free what the previous segmenter has left
        start = anonymous_gib()
        clock = time.perf_counter()
        with Peak() as peak:
            segmenter.start(frames, arguments.objects)
            for frame in (0, len(frames) // 2):
                masks = segmenter.interact(frame, strokes)
        probabilities = 4 * arguments.frames * arguments.objects * height * width / GIB
        row = (f"{probabilities:.2f}", f"{peak.value - start:.2f}", f"{time.perf_counter() - clock:.0f}")
        table.add_row(str(arguments.objects), f"{grant:g}", *row)
        first = masks if first is None else first
        assert np.array_equal(masks, first), "the memory granted changed the masks"
        del segmenter
    Console().print(table)


if __name__ == "__main__":
    main()
