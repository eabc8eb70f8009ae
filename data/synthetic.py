"""Synthetic video in DAVIS layout: made in parallel, kept on disk, opened like any other data set.

What the clips show is in :mod:`data.scene`. A set of clips is cached under a name that holds all of its
parameters, so that a changed parameter never meets stale clips.
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as ListLike
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from data.davis import DataError, DavisFolder
from data.index import Index, user_cache
from data.scene import SyntheticSpec, picture_files, render_clip, sprite_files
from ivos.interaction import Scribbles, Stroke, write_scribbles
from ivos.interaction.labels import most_telling_frames
from ivos.interaction.palette import write_labels

__all__ = ["SyntheticSpec", "open_videos", "render_clip", "synthetic_davis", "write_davis"]

VERSION = 3  # of the generator; a new one whenever the same parameters give other clips
SUBSETS = ("train", "val")


def write_davis(spec: SyntheticSpec, root: str | Path, subset: str, num_workers: int | None = None) -> Path:
    """Make a subset in DAVIS layout; the files are the same for any number of workers.

    Args:
        spec: the clips; their names are ``SUBSET-0000`` and so on.
        root: the folder; other subsets may be in it.
        subset: the list in ``ImageSets/2017``.
        num_workers: processes; None for one a core.

    Returns:
        ``root``.
    """
    root = Path(root)
    names = [f"{subset}-{index:04d}" for index in range(spec.num_clips)]
    workers = min(num_workers or os.cpu_count() or 1, spec.num_clips)
    jobs = [(spec, root, index, name) for index, name in enumerate(names)]
    what = f"Making {spec.num_clips} synthetic clips ({subset})"
    console = Console(highlight=False)
    if not console.is_terminal:
        console.print(what)
    with contextlib.ExitStack() as stack:
        if workers == 1:
            done: Iterator[None] = map(_write_clip, *zip(*jobs, strict=True))
        else:
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn))
            with _main_not_imported():
                done = pool.map(_write_clip, *zip(*jobs, strict=True))
        for _ in track(done, what, len(jobs), console=console, disable=not console.is_terminal):
            pass
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{subset}.txt").write_text("\n".join(names) + "\n")
    return root


@contextlib.contextmanager
def _main_not_imported() -> Iterator[None]:
    """Processes that are spawned meanwhile do not import the running program, which they do not need.

    train.py's imports take many times as long as a clip.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    try:
        main.__file__ = None
        yield
    finally:
        main.__file__ = file


def synthetic_davis(
    cache_dir: str | Path | None, specs: Mapping[str, SyntheticSpec], num_workers: int | None = None
) -> Path:
    """A folder in DAVIS layout with these subsets, made unless it has been made before.

    It is made aside and renamed when it is complete, so that a run that is killed leaves no half set behind,
    and two runs that make the same one do not disturb each other.

    Args:
        cache_dir: where such folders are kept; None for ``ivos`` in the user's cache folder.
        specs: by subset.
        num_workers: see :func:`write_davis`.

    Returns:
        the folder, with ``parameters.json`` in it.

    Raises:
        DataError: the folder of sprites or backgrounds cannot be used.
    """
    parameters = _parameters(specs)
    text = json.dumps(parameters, indent=2, sort_keys=True)
    home = Path(cache_dir) if cache_dir is not None else user_cache()
    root = home / f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if root.is_dir():
        return root
    home.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=home))
    try:
        for subset, spec in specs.items():
            write_davis(spec, aside, subset, num_workers)
        (aside / "parameters.json").write_text(text + "\n")
        aside.chmod(0o755)
        aside.rename(root)
    except OSError:
        if not root.is_dir():  # else another process was faster, with the same clips
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return root


def open_videos(
    root: str | Path | None = None,
    subset: str = "val",
    sequences: ListLike[str] | None = None,
    year: str = "2017",
    resolution: str = "480p",
    cache_dir: str | Path | None = None,
    num_workers: int | None = None,
    index: Index = True,
    **synthetic: Any,
) -> DavisFolder:
    """A folder in DAVIS layout, or synthetic clips where there is none.

    Args:
        root: the folder; None makes (or finds again) synthetic clips.
        subset: see :class:`data.davis.DavisFolder`; of synthetic clips there are ``train`` and ``val``.
        sequences: see :class:`data.davis.DavisFolder`.
        year: see :class:`data.davis.DavisFolder`.
        resolution: see :class:`data.davis.DavisFolder`.
        cache_dir: see :func:`synthetic_davis`.
        num_workers: see :func:`write_davis`.
        index: see :class:`data.davis.DavisFolder`.
        synthetic: values of :class:`data.scene.SyntheticSpec`.

    Raises:
        DataError: what is wrong with the folder, or with a parameter.
    """
    if root is not None:
        return DavisFolder(root, subset, sequences, year, resolution, index)
    if subset not in SUBSETS:
        raise DataError(f"synthetic video has no subset {subset!r}; it has: {', '.join(SUBSETS)}")
    try:
        spec = SyntheticSpec(**synthetic, stream=subset)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    folder = synthetic_davis(cache_dir, {subset: spec}, num_workers)
    return DavisFolder(folder, subset, sequences, index=index)


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
        cv2.imwrite(str(images / f"{t:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_labels(masks / f"{t:05d}.png", mask)
    for number in range(1, spec.scribbles_per_clip + 1):
        write_scribbles(scribbles / f"{number:03d}.json", _first_strokes(spec, name, labels, number))


def _first_strokes(spec: SyntheticSpec, name: str, labels: NDArray[np.uint8], number: int) -> Scribbles:
    """What the seeded robot draws on the frame that shows most (the next best for the next file)."""
    from ivos.interaction.robot import Robot  # takes seconds to import, and most clips come from the cache

    robot = Robot(
        spec.robot_kernel_size,
        spec.robot_max_kernel_radius,
        spec.robot_min_nb_nodes,
        spec.robot_nb_points,
    )
    num_objects = int(labels[0].max())
    frame = most_telling_frames(labels, num_objects)[(number - 1) % len(labels)]
    drawn: list[list[Stroke]] = [[] for _ in labels]
    nothing = np.zeros_like(labels[frame])
    drawn[frame] = robot.strokes(nothing, labels[frame], num_objects, (spec.seed, name, number))
    return {"scribbles": drawn, "sequence": name}


def _parameters(specs: Mapping[str, SyntheticSpec]) -> dict[str, Any]:
    """All that the clips depend on; of the user's own pictures their names, sizes and times of change."""
    found: dict[str, Any] = {"version": VERSION}
    for subset, spec in specs.items():
        found[subset] = dataclasses.asdict(spec)
        files: list[Path] = []
        if spec.backgrounds is not None:
            files += picture_files(Path(spec.backgrounds))
        if spec.sprites is not None:
            files += [path for pair in sprite_files(spec.sprites) for path in pair]
        found[f"{subset} pictures"] = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return found
