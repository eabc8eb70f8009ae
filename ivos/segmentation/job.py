"""Segmentation of a video from prompts, in memory or into files."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.engine import AdoptingSegmenter, LiveSegmenter, Segmenter
from ivos.interaction.clicks import click_radius, translate, understood_prompts
from ivos.runtime.errors import UserError
from ivos.runtime.files import write_text
from ivos.segmentation.prompts import VideoFrames, VideoPrompts, from_clicks, from_masks, from_strokes
from ivos.video.overlay import overlay
from ivos.video.palette import write_labels
from ivos.video.reader import Source
from ivos.video.run_lengths import encode_runs
from ivos.video.writer import write_video

Labels = NDArray[np.uint8]
Progress = Callable[[int, int], None]
PARTIAL = ".partial"  # suffix of a folder with incomplete masks


def prompts_of(
    frames: VideoFrames,
    masks: Mapping[int, Labels] | str | Path | None = None,
    strokes: Mapping[int, Sequence[Any]] | str | Path | None = None,
    clicks: Mapping[int, Sequence[Any]] | str | Path | None = None,
) -> VideoPrompts:
    """Return the prompts of a video from masks, strokes or clicks, exactly one of which has to be given.

    Raises:
        UserError: No kind or several kinds of prompts are given, or the prompts cannot be used.
    """
    if sum(one is not None for one in (masks, strokes, clicks)) != 1:
        raise UserError("give exactly one kind of prompts: masks, strokes or clicks")
    if masks is not None:
        return from_masks(masks, frames)
    if strokes is not None:
        return from_strokes(strokes, frames)
    assert clicks is not None
    return from_clicks(clicks, frames)


def run(
    segmenter: Segmenter,
    frames: NDArray[np.uint8],
    prompts: VideoPrompts,
    progress: Progress = lambda done, of: None,
) -> Labels:
    """Segment a video from its prompts.

    Each prompted frame is one round, from which masks are propagated. Frames that are prompted by masks keep
    exactly these masks.

    Args:
        segmenter: The segmenter.
        frames: Frames RGB uint8 [T, h, w, 3].
        prompts: Masks, strokes or clicks.
        progress: Function that is called with the numbers of finished and of all frames of all rounds.

    Returns:
        Labels uint8 [T, h, w], with the object numbers of the prompts.

    Raises:
        UserError: The prompts are masks, which the segmenter does not accept.
    """
    kinds = understood_prompts(segmenter)
    segmenter.start(frames, prompts.num_objects)
    rounds: list[tuple[int, list[Any]]] = []
    if prompts.labels:
        if "masks" not in kinds or not isinstance(segmenter, AdoptingSegmenter):
            raise UserError(
                f"{type(segmenter).__name__} does not accept masks, only {', '.join(sorted(kinds))}; choose "
                "another segmenter, or give strokes or clicks"
            )
        for frame, labels in prompts.labels.items():
            segmenter.adopt(frame, labels)
        rounds = [(frame, []) for frame in prompts.labels]
    aspect = frames.shape[2] / frames.shape[1]
    for frame, drawn in prompts.prompts.items():
        radius = click_radius(segmenter) if rounds else 0.0  # clicks of later rounds are drawn larger
        rounds.append((frame, translate(drawn, kinds - {"masks"}, radius=radius, aspect=aspect)))
    total = len(rounds) * len(frames)
    masks = np.zeros(frames.shape[:3], np.uint8)
    for number, (frame, drawn) in enumerate(rounds):
        before = number * len(frames)
        masks = _round(segmenter, frame, drawn, masks, partial(_report, progress, before, total))
        progress(before + len(frames), total)
    original = np.zeros(256, np.uint8)
    original[1 : prompts.num_objects + 1] = prompts.numbers
    return original[masks]


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    """Report the finished frames of a round, added to the frames of the rounds before it."""
    progress(before + done, total)


def _round(
    segmenter: Segmenter, frame: int, drawn: list[Any], masks: Labels, progress: Callable[[int], None]
) -> Labels:
    """Run a round; a segmenter that can propagate frame by frame reports its progress."""
    if not isinstance(segmenter, LiveSegmenter):
        return segmenter.interact(frame, drawn)
    for done, (target, labels) in enumerate(segmenter.propagate(frame, drawn), start=1):
        masks[target] = labels
        progress(done)
    return masks


def segment_source(
    segmenter: Segmenter,
    source: Source,
    prompts: Callable[[VideoFrames], VideoPrompts],
    output: Path,
    name: str,
    *,
    make_overlay: bool = False,
    make_coco: bool = False,
    progress: Progress = lambda done, of: None,
) -> Path:
    """Segment a video and write its masks to the folder ``output/name``.

    The folder gets its final name only when it is complete.

    Args:
        segmenter: The segmenter.
        source: The video.
        prompts: Function that returns the prompts of the video.
        output: Folder of all results.
        name: Name of the video's results.
        make_overlay: Whether to write a video of the frames with their masks, too.
        make_coco: Whether to write the masks as COCO JSON, too.
        progress: See :func:`run`.

    Returns:
        The folder of the masks.
    """
    decoded = list(source.decode())
    frames = np.stack([frame for frame, _ in decoded])
    names = frame_names(source, len(frames))
    info = VideoFrames(name, names, (frames.shape[2], frames.shape[1]))
    masks = run(segmenter, frames, prompts(info), progress)
    folder, unfinished = output / name, output / f"{name}{PARTIAL}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for frame_name, labels in zip(names, masks, strict=True):
        write_labels(unfinished / f"{frame_name}.png", labels)
    if make_overlay:
        pictures = (overlay(frame, labels) for frame, labels in zip(frames, masks, strict=True))
        write_overlay(output / f"{name}-overlay", pictures, source.rate, [time for _, time in decoded])
    if make_coco:
        write_text(output / f"{name}-coco.json", json.dumps(coco(name, names, masks), separators=(",", ":")))
    os.replace(unfinished, folder)
    return folder


def frame_names(source: Source, num_frames: int) -> tuple[str, ...]:
    """Return the names of a video's frames: names of its pictures, or 00000, 00001, ... for a video file."""
    return tuple(path.stem for path in source.files) or tuple(f"{t:05d}" for t in range(num_frames))


def write_overlay(
    path: Path, pictures: Iterator[NDArray[np.uint8]], rate: Fraction, times: list[float]
) -> Path:
    """Write a video, as H.264 in MP4 if PyAV has that encoder, else as VP8 in WebM."""
    import av

    suffix = ".mp4" if "libx264" in av.codecs_available else ".webm"
    return write_video(path.with_name(path.name + suffix), pictures, float(rate), times)


def coco(name: str, names: Sequence[str], masks: Labels) -> dict[str, Any]:
    """Return masks as COCO JSON: an image for each frame, and an annotation for each object on a frame."""
    height, width = masks.shape[1:]
    numbers = sorted({int(number) for number in np.unique(masks)} - {0})
    images = [
        {"id": t, "file_name": frame_name, "width": width, "height": height}
        for t, frame_name in enumerate(names)
    ]
    annotations: list[dict[str, Any]] = []
    for t, labels in enumerate(masks):
        for number in numbers:
            mask = labels == number
            if not mask.any():
                continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            left, top = int(columns[0]), int(rows[0])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": t,
                    "category_id": number,
                    "track_id": number,
                    "segmentation": {"size": [height, width], "counts": encode_runs(mask)},
                    "area": int(mask.sum()),
                    "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": f"{name}, segmented with ivos"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": str(number)} for number in numbers],
    }
