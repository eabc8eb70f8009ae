"""Writing of synthetic clips in DAVIS layout, with first strokes by the seeded robot."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.render import render_clip
from ivos.interaction import Scribbles, Stroke, write_scribbles
from ivos.runtime.subprocesses import be_a_worker
from ivos.video.labels import most_telling_frames
from ivos.video.palette import write_labels


def write_davis(spec: SyntheticSpec, root: str | Path, split: str, num_workers: int | None = None) -> Path:
    """Write a split in DAVIS layout; the files do not depend on the number of workers.

    Args:
        spec: Settings of the clips; their names are ``SPLIT-0000`` etc.
        root: Folder to write to, which may contain other splits.
        split: Name of the split and of its list in ``ImageSets/2017``.
        num_workers: Number of processes; None uses one per core.

    Returns:
        ``root``.
    """
    root = Path(root)
    names = [f"{split}-{index:04d}" for index in range(spec.num_clips)]
    workers = min(num_workers or os.cpu_count() or 1, spec.num_clips)
    jobs = [(spec, root, index, name) for index, name in enumerate(names)]
    what = f"Making {spec.num_clips} synthetic clips ({split})"
    console = Console(highlight=False)
    if not console.is_terminal:
        console.print(what)
    with contextlib.ExitStack() as stack:
        if workers == 1:
            done: Iterator[None] = map(_write_clip, *zip(*jobs, strict=True))
        else:
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, be_a_worker))
            with _main_not_imported():
                done = pool.map(_write_clip, *zip(*jobs, strict=True))
        for _ in track(done, what, len(jobs), console=console, disable=not console.is_terminal):
            pass
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


@contextlib.contextmanager
def _main_not_imported() -> Iterator[None]:
    """Return a context in which spawned processes do not import the main program.

    They do not need it, and the imports of train.py take much longer than rendering a clip.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    try:
        main.__file__ = None
        yield
    finally:
        main.__file__ = file


def _write_clip(spec: SyntheticSpec, root: Path, index: int, name: str) -> None:
    cv2.setNumThreads(1)
    frames, labels = render_clip(spec, index)
    folders = [root / kind / "480p" / name for kind in ("JPEGImages", "Annotations")]
    folders.append(root / "Scribbles" / name)
    for folder in folders:
        folder.mkdir(parents=True)
    images, masks, scribbles = folders
    for t, (frame, mask) in enumerate(zip(frames, labels, strict=True)):
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        path = images / f"{t:05d}.jpg"
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"{path}: cannot be written")
        write_labels(masks / f"{t:05d}.png", mask)
    for number in range(1, spec.scribbles_per_clip + 1):
        write_scribbles(scribbles / f"{number:03d}.json", _first_strokes(spec, name, labels, number))


def _first_strokes(spec: SyntheticSpec, name: str, labels: NDArray[np.uint8], number: int) -> Scribbles:
    """Return the seeded robot's strokes on a frame that shows many objects, for scribble file ``number``."""
    from ivos.interaction.robot import Robot  # here, because the import takes seconds

    robot = Robot()
    num_objects = int(labels[0].max())
    frame = most_telling_frames(labels, num_objects)[(number - 1) % len(labels)]
    drawn: list[list[Stroke]] = [[] for _ in labels]
    nothing = np.zeros_like(labels[frame])
    drawn[frame] = robot.strokes(nothing, labels[frame], num_objects, (spec.seed, name, number))
    return {"scribbles": drawn, "sequence": name}
