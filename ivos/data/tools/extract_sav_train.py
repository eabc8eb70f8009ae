"""Unpack SA-V's training videos: ``uv run -m ivos.data.tools.extract_sav_train SAV_TRAIN OUTPUT``.

The input is ``sav_000001.mp4`` with ``sav_000001_manual.json`` etc., in folders sav_000, sav_001, ... or in
one folder. The JSON files contain the masks of every fourth frame as run lengths. The command writes these
frames and masks to ``OUTPUT/sav_train`` in the layout of val and test, which :mod:`ivos.data.datasets.sav`
reads. A video is written completely or not at all, and repeating the command continues an interrupted run.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.data.datasets.sav import FRAMES, MASKS
from ivos.runtime.errors import UserError
from ivos.runtime.files import read_json, write_text
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker
from ivos.video.files import DataError, by
from ivos.video.names import name_fault
from ivos.video.palette import write_labels
from ivos.video.reader import Limits, open_source
from ivos.video.run_lengths import decode_runs

EVERY = 4  # videos have 24 frames per second, masks 6
_QUALITY = 95  # JPEG quality
_LISTS = {"manual": "_manual.json", "auto": "_auto.json"}


def unpack(video: Path, output: Path, kinds: Sequence[str] = ("manual",)) -> str:
    """Write the annotated frames of a video and the masks of its objects, unless they exist already.

    Args:
        video: The mp4 file; its JSON files are in the same folder.
        output: Folder for ``JPEGImages_24fps`` and ``Annotations_6fps``.
        kinds: Kinds of masks (``manual``, ``auto``); objects are numbered in this order.

    Returns:
        An error message of one line, or an empty string.
    """
    frames, masks = output / FRAMES / video.stem, output / MASKS / video.stem
    if frames.is_dir():  # this folder is moved to its place last
        return ""
    for folder in (frames, masks):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=f".{video.stem}-") as aside:
        try:
            _write(video, Path(aside), kinds)
        except DataError as error:
            return str(error)
        if masks.is_dir():  # left by a process that was killed between the two moves
            masks.rename(Path(aside) / "old")
        (Path(aside) / "masks").rename(masks)
        (Path(aside) / "frames").rename(frames)
    return ""


def _write(video: Path, folder: Path, kinds: Sequence[str]) -> None:
    codes = [_read(video.with_name(video.stem + _LISTS[kind])) for kind in kinds]
    length = min(map(len, codes))
    (folder / "frames").mkdir()
    written = 0
    source = open_source(video, limits=Limits(frames=10**6))
    for t, (frame, _) in enumerate(source.decode()):
        if t % EVERY or t // EVERY >= length:
            continue
        objects = [code for each in codes for code in each[t // EVERY]]
        for number, code in enumerate(objects):
            mask = _decode(code, f"{video}: object {number} of frame {t}")
            if mask.shape != frame.shape[:2]:
                sizes = by(mask.shape[::-1]), by(frame.shape[1::-1])
                raise DataError(f"{video}: masks of {sizes[0]}, frames of {sizes[1]}")
            (place := folder / f"masks/{number:03d}").mkdir(parents=True, exist_ok=True)
            write_labels(place / f"{t:05d}.png", mask)
        name = str(folder / f"frames/{t:05d}.jpg")
        if not cv2.imwrite(
            name, np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        ):
            raise DataError(f"{name}: cannot be written")
        written += 1
    if written < length or not (folder / "masks").is_dir():
        raise DataError(f"{video}: {written} frames for {length} frames with masks, or no object")


def _read(path: Path) -> list[list[Mapping[str, Any]]]:
    try:
        found: list[list[Mapping[str, Any]]] = read_json(path)["masklet"]
        if not isinstance(found, list) or not all(isinstance(each, list) for each in found):
            raise TypeError("masklet is not a list of lists")
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a file with masklets of SA-V ({error})") from error
    return found


def _decode(code: Mapping[str, Any], what: str) -> NDArray[np.uint8]:
    try:
        return decode_runs(code)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{what}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    words = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m ivos.data.tools.extract_sav_train", description=words)
    parser.add_argument("videos", type=Path, help="folder with *.mp4 and *_manual.json, at any depth")
    parser.add_argument("output", type=Path, help="folder in which the folder sav_train is written")
    parser.add_argument("--kinds", nargs="+", choices=list(_LISTS), default=["manual"], help="kinds of masks")
    parser.add_argument("--processes", type=int, default=cores(), help="number of processes")
    options = parser.parse_args(arguments)
    try:
        return _unpack_all(options.videos, options.output / "sav_train", options.kinds, options.processes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _unpack_all(folder: Path, output: Path, kinds: Sequence[str], processes: int) -> int:
    videos = sorted(folder.rglob("*.mp4"))
    if not videos:
        raise DataError(f"{folder}: no videos (*.mp4)")
    if processes < 1:
        raise UserError(f"--processes: at least 1, got {processes}")
    faults = [f"{path}: {fault}" for path in videos if (fault := name_fault(path.stem))]
    if faults:
        raise DataError(f"{folder}: unusable names", faults)
    one: Callable[[Path], str] = partial(unpack, output=output, kinds=kinds)
    with ProcessPoolExecutor(min(processes, len(videos)), initializer=be_a_worker) as pool:
        told = [line for line in pool.map(one, videos) if line]
    names = [path.stem for path in videos if (output / FRAMES / path.stem).is_dir()]
    write_text(output / "sav_train.txt", "".join(f"{name}\n" for name in names))
    print(f"{len(names)} of {len(videos)} videos: {output}")
    if told:
        raise DataError(f"{folder}: some videos were not unpacked", told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
