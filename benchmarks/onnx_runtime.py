"""Compare the engine with ONNX Runtime on exported weights, by processor time and elapsed time.

uv run benchmarks/onnx_runtime.py [--weights small] [--frames 8] [--height 240] [--width 432] [--threads 1]

Both run the same three rounds on the same frames, a moving smooth picture, without optical flow and at the
original size. The script also prints the largest difference of the probabilities. Processor time is that of
the whole process; it is the better measure if other programs run on the machine.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ivos.engine import ATNetSegmenter
from ivos.export.main import export
from ivos.networks import MemoryATNet, load

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
STROKES: list[Any] = [
    {"path": [[0.2, 0.3], [0.3, 0.5], [0.25, 0.6]], "object_id": 1},
    {"path": [[0.7, 0.3], [0.8, 0.6]], "object_id": 2},
    {"path": [[0.5, 0.1], [0.5, 0.9]], "object_id": 0},
]


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Run a function, and return its processor time and elapsed time in seconds."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - processor, time.perf_counter() - clock


def session(network: Any, folder: Path, frames: Any, threads: int) -> Any:
    """Return a session of docs/examples for the kind of network in a folder of graphs."""
    sys.path.insert(0, str(EXAMPLES))
    if isinstance(network, MemoryATNet):
        from onnx_memory_session import MemorySession  # type: ignore[import-not-found]

        return MemorySession(str(folder), frames, 2, threads)
    from onnx_session import Session  # type: ignore[import-not-found]

    return Session(str(folder), frames, 2, threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="small")
    parser.add_argument(
        "--folder", type=Path, help="folder of graphs written by ivos-export; default: export them now"
    )
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=432)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    network = load(chosen.weights)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary) / "graphs"
        if not folder.exists():
            print(*export(chosen.weights, folder), sep="\n")
        small = np.random.default_rng(0).integers(0, 256, (9, 16, 3)).astype(np.uint8)
        wide = (2 * chosen.width, chosen.height)
        picture = np.asarray(cv2.resize(small, wide, interpolation=cv2.INTER_CUBIC), np.uint8)
        frames = np.stack([picture[:, 4 * t : 4 * t + chosen.width] for t in range(chosen.frames)])
        theirs = session(network, folder, frames, chosen.threads)
    ours = ATNetSegmenter(network, flow=False, short_side=None)
    ours.start(frames[:2], 2)
    ours.interact(0, STROKES)  # a warm-up, so that PyTorch's initialisation is not measured
    ours.start(frames, 2)
    names = ("round", "engine, processor s", "ONNX Runtime, processor s", "engine, s", "ONNX Runtime, s")
    print("|", " | ".join((*names, "difference")), "|")
    print("|---" * 6 + "|")
    for number, frame in enumerate((chosen.frames // 2, 0, chosen.frames - 1), start=1):
        engine = timed(partial(ours.interact, frame, STROKES))
        onnx = timed(partial(theirs.interact, frame, STROKES))
        difference = np.abs(ours.probabilities - theirs.probabilities[theirs.inside]).max()
        seconds = " | ".join(f"{value:.2f}" for pair in zip(engine, onnx, strict=True) for value in pair)
        print(f"| {number} | {seconds} | {difference:.0e} |")


if __name__ == "__main__":
    main()
