"""Import of masks from other programs: PNG files, ZIP archives of PNG files, and COCO JSON."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.app.session import Session
from ivos.runtime.errors import UserError
from ivos.video.labels import VOID
from ivos.video.run_lengths import decode_runs

Labels = NDArray[np.uint8]
MAX_BYTES = 256 << 20  # largest size of an imported file
_MAX_UNPACKED = 4 << 30  # largest size in bytes of the unpacked content of a ZIP archive
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Imported:
    """Masks that were read from a file, with the labels of the file.

    Attributes:
        masks: Labels uint8 [h, w] by frame.
        names: Names of labels, if the file has names.
    """

    masks: dict[int, Labels]
    names: dict[int, str]

    @property
    def labels(self) -> list[int]:
        """The sorted labels of the objects in the masks."""
        found: set[int] = set()
        for mask in self.masks.values():
            found |= set(np.unique(mask).tolist())
        return sorted(found - {0, VOID})


def read_masks(
    content: bytes, name: str, frames: list[str], size: tuple[int, int], shown: int = 0
) -> Imported:
    """Read the masks of a file.

    A PNG file belongs to the frame of the same name, or else of the same number. A single PNG file that fits
    no frame belongs to the frame `shown`. Label 255 (void) counts as background.

    Args:
        content: Content of a PNG file, of a ZIP archive of PNG files (as in DAVIS and MOSE), or of COCO JSON
            with run lengths or polygons.
        name: Name of the file.
        frames: Names of the video's frames, without suffixes.
        size: Width and height of the frames.
        shown: The frame that the page shows.

    Raises:
        UserError: The file cannot be read, has another size than the frames, or has no mask for any frame.
    """
    try:
        if content[:4] == b"PK\x03\x04":
            found = Imported(dict(_from_archive(content, name, frames, size)), {})
        elif content[:8] == b"\x89PNG\r\n\x1a\n":
            frame = _frame_of(name, frames)
            found = Imported({shown if frame is None else frame: _read_png(content, name, size)}, {})
        else:
            found = _from_coco(json.loads(content), frames, size)
    except UserError:
        raise
    except (*_UNREADABLE, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{name}: the masks cannot be read ({_short(error)}); import a PNG, a ZIP of PNGs or COCO JSON"
        ) from error
    if not found.masks:
        raise UserError(f"{name}: no mask belongs to a frame of this video ({frames[0]} to {frames[-1]})")
    return found


def _from_archive(
    content: bytes, name: str, frames: list[str], size: tuple[int, int]
) -> Iterator[tuple[int, Labels]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [one for one in archive.infolist() if one.filename.lower().endswith(".png")]
        if sum(one.file_size for one in entries) > _MAX_UNPACKED:
            raise UserError(f"{name}: more than {_MAX_UNPACKED >> 30} GiB when it is unpacked")
        for entry in entries:
            path = PurePosixPath(entry.filename)
            frame = _frame_of(path.name, frames)
            if frame is not None and not path.name.startswith("."):
                yield frame, _read_png(archive.read(entry), entry.filename, size)


def _frame_of(name: str, frames: list[str]) -> int | None:
    """Return the frame to which a mask file belongs by its name, or else by the number in its name."""
    stem = PurePosixPath(name).stem
    if stem in frames:
        return frames.index(stem)
    number = re.fullmatch(r"\D*(\d{1,9})", stem)
    if number is None:
        return None
    numbers = [re.search(r"(\d{1,9})\D*$", frame) for frame in frames]
    values = [int(one[1]) if one else -1 for one in numbers]
    return values.index(int(number[1])) if int(number[1]) in values else None


def _read_png(content: bytes, name: str, size: tuple[int, int]) -> Labels:
    with Image.open(io.BytesIO(content)) as image:
        if image.size != size:
            raise UserError(
                f"{name}: the mask has {image.size[0]}x{image.size[1]} pixels, the frames {size[0]}x{size[1]}"
            )
        if image.mode not in ("P", "L", "1", "I;16", "I"):
            raise UserError(f"{name}: a {image.mode} image; masks must be PNGs with a palette or grey levels")
        pixels = np.asarray(image)
    if pixels.max(initial=0) > VOID:
        raise UserError(f"{name}: label {int(pixels.max())} is too large; labels go up to 254")
    labels = pixels.astype(np.uint8)
    if set(np.unique(labels).tolist()) <= {0, VOID} and image.mode in ("L", "1"):
        return (labels > 0).astype(np.uint8)  # a binary mask, white on black, of one object
    labels[labels == VOID] = 0
    return labels


def _from_coco(content: Any, frames: list[str], size: tuple[int, int]) -> Imported:
    """Read the annotations of COCO JSON; each track is an object, or each category if there are no tracks."""
    images = {one["id"]: _frame_of(str(one["file_name"]), frames) for one in content["images"]}
    categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
    masks: dict[int, Labels] = {}
    names: dict[int, str] = {}
    for one in content["annotations"]:
        frame = images.get(one["image_id"])
        label = int(one.get("track_id", one["category_id"]))
        if frame is None:
            continue
        if not 1 <= label < VOID:
            raise UserError(
                f"annotation {one.get('id')}: label {label} is not possible; labels go from 1 to 254"
            )
        labels = masks.setdefault(frame, np.zeros(size[::-1], np.uint8))
        labels[_coco_mask(one["segmentation"], size)] = label
        names.setdefault(label, categories.get(one["category_id"], ""))
    return Imported(masks, names)


def _coco_mask(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if tuple(segmentation["size"]) != size[::-1]:
            raise UserError(
                f"a mask has the size {segmentation['size']}, but the frames have {list(size[::-1])}"
            )
        if isinstance(counts, str):
            return decode_runs(segmentation).astype(bool)
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return flat.reshape(size[::-1], order="F")
    canvas = np.zeros(size[::-1], np.uint8)
    for part in segmentation:
        points = np.asarray(part, np.float64).reshape(-1, 2) - 0.5
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1)
    return canvas.astype(bool)


def assign_objects(session: Session, imported: Imported) -> tuple[dict[int, int], list[dict[str, Any]]]:
    """Assign an object to each imported label.

    The object is the one that was imported with the same label before, or an object without any annotation,
    or a new object.

    Returns:
        The number of the object of each label, and the events that add and name objects.

    Raises:
        UserError: There would be more than 254 objects.
    """
    used = {one.label for one in session.objects.values() if one.label}
    drawn = {int(one["object_id"]) for one in session.strokes.values()}
    drawn |= {one.label for one in session.edits.values()}
    fresh = not session.rounds
    free = [
        one.number
        for one in session.objects.values()
        if fresh and not one.removed and not one.label and one.number not in drawn
    ]
    table: dict[int, int] = {}
    events: list[dict[str, Any]] = []
    added = session.num_objects
    for label in imported.labels:
        known = [one.number for one in session.objects.values() if one.label == label and not one.removed]
        if label in used and known:
            table[label] = known[0]
            continue
        if free:
            number = free.pop(0)
        else:
            added += 1
            number = added
            events.append({"type": "add_object", "number": number})
        event: dict[str, Any] = {"type": "object", "number": number, "label": label}
        if imported.names.get(label):
            event["name"] = imported.names[label][:80]
        events.append(event)
        table[label] = number
    if added > 254:
        raise UserError(f"{len(imported.labels)} labels: a video can have at most 254 objects")
    return table, events


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
