"""Prompts of a video: masks, strokes or clicks on some of its frames, from files or from memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.interaction import Prompt, check_strokes, read_scribbles
from ivos.interaction.clicks import check_clicks
from ivos.runtime.errors import UserError, listing
from ivos.runtime.files import read_json
from ivos.video.files import by, files_in, natural_order, read_cutout
from ivos.video.labels import VOID

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class VideoFrames:
    """Properties of a video's frames that are needed to assign prompts to frames.

    Attributes:
        name: Name of the video.
        names: Names of the T frames, without suffixes.
        size: Width and height in pixels.
    """

    name: str
    names: tuple[str, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class VideoPrompts:
    """The prompts of a video.

    Attributes:
        labels: Masks by frame, as labels uint8 [h, w] with objects numbered 1..N.
        prompts: Strokes or clicks by frame.
        numbers: The numbers that the N objects have in the files of prompts.
    """

    labels: dict[int, Labels] = field(default_factory=dict)
    prompts: dict[int, list[Prompt]] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()

    @property
    def num_objects(self) -> int:
        """The number of objects N."""
        return len(self.numbers)


def from_masks(masks: Mapping[int, Labels] | str | Path, video: VideoFrames) -> VideoPrompts:
    """Return prompts from masks.

    Object labels need not be consecutive. Label 255 of a mask with a palette is void and counts as
    background. A black-and-white picture is the mask of object 1.

    Args:
        masks: Labels by frame; or a PNG file, which belongs to the frame of the same name or else to the
            first frame; or a folder of PNG files named like the frames; or a folder that contains such a
            folder with the video's name, also in DAVIS layout.
        video: The video's frames.

    Raises:
        UserError: A mask is missing, has another size or no object; the message names the file.
    """
    if isinstance(masks, Mapping):
        read = {f"frame {frame}": (frame, labels) for frame, labels in masks.items()}
    else:
        files = _mask_files(Path(masks), video)
        read = {str(path): (frame, read_cutout(path)) for frame, path in sorted(files.items())}
    width, height = video.size
    given: dict[int, Labels] = {}
    for name, (frame, labels) in read.items():
        if not 0 <= frame < len(video.names):
            raise UserError(f"masks: {name}: {video.name} has frames 0 to {len(video.names) - 1}")
        if labels.shape != (height, width):
            raise UserError(
                f"masks: {name}: is {by(labels.shape[::-1])}, but the frames are {by(video.size)}"
            )
        given[frame] = np.where(labels == VOID, 0, labels).astype(np.uint8)
    numbers = tuple(sorted({int(n) for labels in given.values() for n in np.unique(labels)} - {0}))
    if not numbers:
        raise UserError(f"masks: there is no object in {listing(read)}")
    renumber = np.zeros(256, np.uint8)
    renumber[list(numbers)] = np.arange(1, len(numbers) + 1)
    return VideoPrompts({frame: renumber[labels] for frame, labels in given.items()}, {}, numbers)


def _mask_files(path: Path, video: VideoFrames) -> dict[int, Path]:
    """Return the mask files by frame."""
    if path.is_file():
        names = {name: frame for frame, name in enumerate(video.names)}
        return {names.get(path.stem, 0): path}
    if not path.is_dir():
        raise UserError(f"masks: {path}: no such file or folder")
    layouts = [path / video.name, *sorted(path.glob(f"Annotations/*/{video.name}"))]
    folder = next((one for one in layouts if one.is_dir()), path)
    found = {one.stem: one for one in files_in(folder, ".png")}
    paired = {frame: found.pop(name) for frame, name in enumerate(video.names) if name in found}
    if found:
        raise UserError(
            f"masks: {folder}: {listing(found)}: {video.name} has no frames of these names "
            f"({video.names[0]} to {video.names[-1]})"
        )
    if not paired:
        raise UserError(f"masks: {folder}: no masks (*.png)")
    return paired


def from_strokes(strokes: Mapping[int, Sequence[Any]] | str | Path, video: VideoFrames) -> VideoPrompts:
    """Return prompts from strokes.

    Args:
        strokes: Strokes by frame; or a DAVIS scribble file; or a folder with such a file for each video.
        video: The video's frames.

    Raises:
        UserError: The strokes cannot be used; the message gives the place and the reason.
    """
    if not isinstance(strokes, Mapping):
        scribbles = read_scribbles(_json_file(Path(strokes), video.name), num_frames=len(video.names))[
            "scribbles"
        ]
        strokes = {frame: drawn for frame, drawn in enumerate(scribbles) if drawn}
    for drawn in strokes.values():
        check_strokes(drawn)
    return _drawn(strokes, video, "strokes")


def from_clicks(clicks: Mapping[int, Sequence[Any]] | str | Path, video: VideoFrames) -> VideoPrompts:
    """Return prompts from clicks.

    A JSON file of clicks has a list ``clicks`` of objects with ``frame``, ``point`` (x and y in relative
    coordinates from 0 to 1), ``positive`` and ``object_id``.

    Args:
        clicks: Clicks by frame; or a JSON file; or a folder with a JSON file for each video.
        video: The video's frames.

    Raises:
        UserError: The clicks cannot be used; the message gives the place and the reason.
    """
    if not isinstance(clicks, Mapping):
        path = _json_file(Path(clicks), video.name)
        try:
            content = read_json(path)
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error})") from error
        listed = content.get("clicks") if isinstance(content, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise UserError(f"{path}: not a file of clicks (no list 'clicks' of objects)")
        if not all(type(one.get("frame")) is int for one in listed):
            raise UserError(f"{path}: each click needs a 'frame', a whole number from 0")
        by_frame: dict[int, list[Any]] = {}
        for one in listed:
            by_frame.setdefault(one["frame"], []).append({k: v for k, v in one.items() if k != "frame"})
        clicks = by_frame
    for points in clicks.values():
        check_clicks(points)
    return _drawn(clicks, video, "clicks")


def _drawn(prompts: Mapping[int, Sequence[Any]], video: VideoFrames, kind: str) -> VideoPrompts:
    beyond = [frame for frame in prompts if not 0 <= frame < len(video.names)]
    if beyond:
        raise UserError(f"{kind}: frame {beyond[0]}: {video.name} has frames 0 to {len(video.names) - 1}")
    used = {int(one["object_id"]) for drawn in prompts.values() for one in drawn} - {0}
    if not used:
        raise UserError(f"{kind}: there are none for an object of {video.name}")
    numbers = tuple(sorted(used))
    new = {number: index for index, number in enumerate((0, *numbers))}
    renumbered: dict[int, list[Any]] = {
        frame: [{**one, "object_id": new[int(one["object_id"])]} for one in drawn]
        for frame, drawn in sorted(prompts.items())
    }
    return VideoPrompts({}, renumbered, numbers)


def _json_file(path: Path, name: str) -> Path:
    """Return the JSON file of a video: `path` itself, or NAME.json or the first NAME/*.json in it."""
    if not path.is_dir():
        return path
    inside = sorted(files_in(path / name, ".json"), key=lambda one: natural_order(one.name))
    found = [one for one in (path / f"{name}.json", *inside) if one.is_file()]
    if not found:
        raise UserError(f"{path}: contains neither {name}.json nor a folder {name} with JSON files")
    return found[0]
