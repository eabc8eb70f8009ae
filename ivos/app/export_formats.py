"""Exports in the formats of other annotation and training programs."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivos.runtime.files import replacing, write_text
from ivos.video.palette import PALETTE
from ivos.video.run_lengths import encode_runs

if TYPE_CHECKING:
    from ivos.app.export import Export

Progress = Callable[[int, int], None]
Mask = NDArray[np.bool_]
_OUTLINES = "Outlines cannot represent holes; if holes matter, export COCO JSON or PNGs"


def masks(job: "Export", progress: Progress) -> tuple[Path, str]:
    """Write palette PNGs with the names of the source's frames and the labels of the imported masks."""
    table = np.zeros(256, np.uint8)
    for one in job.objects:
        table[one.number] = one.label or one.number
    with _archive(job, "masks") as (path, archive):
        for name, labels in _named(job, progress):
            content = io.BytesIO()
            image = Image.fromarray(table[labels])
            image.putpalette(PALETTE.tobytes())
            image.save(content, "PNG")
            archive.writestr(f"{job.workspace.name}/{name}.png", content.getvalue())
    return path, ""


def single(job: "Export", progress: Progress) -> tuple[Path, str]:
    """Write binary PNGs (0 and 255) of one object, with the names of the source's frames."""
    one = next((each for each in job.objects if each.number == job.chosen), job.objects[0])
    with _archive(job, f"object{one.number}") as (path, archive):
        for name, labels in _named(job, progress):
            content = cv2.imencode(".png", np.where(labels == one.number, 255, 0).astype(np.uint8))[1]
            archive.writestr(f"{name}.png", content.tobytes())
    return path, ""


def youtube_vis(job: "Export", progress: Progress) -> tuple[Path, str]:
    """Write YouTube-VIS JSON: one annotation for each object, with the run lengths of all frames."""
    workspace = job.workspace
    width, height = workspace.size
    found: dict[int, dict[str, list[Any]]] = {
        one.number: {"segmentations": [], "bboxes": [], "areas": []} for one in job.objects
    }
    for _, labels in _named(job, progress):
        for number, lists in found.items():
            mask = labels == number
            is_visible = bool(mask.any())
            runs = {"size": [height, width], "counts": encode_runs(mask)}
            lists["segmentations"].append(runs if is_visible else None)
            lists["bboxes"].append(_box(mask) if is_visible else None)
            lists["areas"].append(int(mask.sum()) if is_visible else None)
    names = [f"{workspace.name}/{name}.jpg" for name in job.names]
    video = {"id": 1, "file_names": names, "width": width, "height": height, "length": len(names)}
    annotations = [
        {"id": index, "video_id": 1, "category_id": one.number, "iscrowd": 0, "width": width}
        | {"height": height, **found[one.number]}
        for index, one in enumerate(job.objects, start=1)
    ]
    content = {
        "info": {"description": f"{workspace.name}, annotated with ivos"},
        "videos": [video],
        "annotations": annotations,
        "categories": [{"id": one.number, "name": one.name} for one in job.objects],
    }
    path = workspace.folder / "exports" / f"{workspace.name}-youtube-vis.json"
    write_text(path, json.dumps(content, separators=(",", ":")))
    return path, ""


def yolo(job: "Export", progress: Progress) -> tuple[Path, str]:
    """Write YOLO segmentation labels: a text file for each frame, with an outline for each object in a line.

    The parts of an object are joined into one outline by lines of zero width, as in Ultralytics' converter.
    """
    width, height = job.workspace.size
    with _archive(job, "yolo") as (path, archive):
        for name, labels in _named(job, progress):
            lines = []
            for index, one in enumerate(job.objects):
                parts = outlines(labels == one.number)
                if parts:
                    points = _joined(parts) / (width, height)
                    lines.append(f"{index} " + " ".join(f"{value:.6f}" for value in points.ravel()))
            archive.writestr(f"labels/{name}.txt", "".join(line + "\n" for line in lines))
        names = "".join(f"  {index}: {json.dumps(one.name)}\n" for index, one in enumerate(job.objects))
        archive.writestr("data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")
        for frame, name in enumerate(job.names):
            archive.write(job.workspace.frame_file(frame), f"images/{name}.jpg")
    return path, _OUTLINES


def cvat(job: "Export", progress: Progress) -> tuple[Path, str]:
    """Write "CVAT for images 1.1" XML with exact masks."""
    width, height = job.workspace.size
    labels_xml = "".join(
        f"<label><name>{_text(one.name)}</name><color>{one.colour}</color><type>mask</type></label>"
        for one in job.objects
    )
    meta = f"<meta><task><name>{_text(job.workspace.name)}</name><labels>{labels_xml}</labels></task></meta>"
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>", meta]
    for frame, (name, labels) in enumerate(_named(job, progress)):
        file = quoteattr(f"{name}.jpg")
        lines.append(f'<image id="{frame}" name={file} width="{width}" height="{height}">')
        for one in job.objects:
            mask = labels == one.number
            if mask.any():
                left, top, wide, high = _box(mask)
                runs = _row_runs(mask[top : top + high, left : left + wide])
                lines.append(
                    f'<mask label={quoteattr(one.name)} source="manual" occluded="0" z_order="0" '
                    f'rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" width="{wide}" '
                    f'height="{high}"/>'
                )
        lines.append("</image>")
    path = job.workspace.folder / "exports" / f"{job.workspace.name}-cvat.xml"
    write_text(path, "\n".join([*lines, "</annotations>", ""]))
    return path, ""


def label_studio(job: "Export", progress: Progress) -> tuple[Path, str]:
    """Write Label Studio JSON: a task for each frame, with outlines in percent of the frame's size."""
    width, height = job.workspace.size
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    tasks = []
    for name, labels in _named(job, progress):
        results = []
        for one in job.objects:
            for index, part in enumerate(outlines(labels == one.number)):
                points = (part * 100 / (width, height)).round(4).tolist()
                value = {"points": points, "closed": True, "polygonlabels": [one.name]}
                tags = {"from_name": "label", "to_name": "image", "type": "polygonlabels"}
                results.append({"id": f"{name}-{one.number}-{index}", **tags, **size, "value": value})
        image = f"{job.workspace.name}/{name}.jpg"
        tasks.append({"data": {"image": image}, "annotations": [{"result": results}]})
    path = job.workspace.folder / "exports" / f"{job.workspace.name}-label-studio.json"
    write_text(path, json.dumps(tasks, separators=(",", ":")))
    return path, _OUTLINES


def outlines(mask: Mask) -> list[NDArray[np.float64]]:
    """Return the outer outlines [P, 2] of a mask's parts, in pixels, along the edges of its pixels.

    The pixels whose centres are inside an outline are exactly the pixels of its part, with holes filled.
    """
    # In the mask enlarged four times, the centres of the outermost subpixels are 1/8 pixel inside the edge.
    scale = 4
    large = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(part[:, 0].astype(np.float64) + 0.5) / scale for part in found if len(part) > 2]


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return one outline that goes around the first part and from its first point around each other part."""
    points = list(parts[0])
    for part in parts[1:]:
        points += [parts[0][0], *part, part[0], parts[0][0]]
    return np.array(points)


def _row_runs(mask: Mask) -> list[int]:
    """Return alternating numbers of pixels outside and inside a mask, row by row, starting with outside."""
    flat = np.concatenate([[False], mask.reshape(-1), [not mask.reshape(-1)[-1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(changes, prepend=0).tolist()


def _box(mask: Mask) -> list[int]:
    """Return left, top, width and height of the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _named(job: "Export", progress: Progress) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the labels of each frame, and report the progress."""
    for frame, (name, labels) in enumerate(zip(job.names, job.labels(), strict=True), start=1):
        yield name, labels
        progress(frame, len(job.shown))


@contextmanager
def _archive(job: "Export", kind: str) -> Iterator[tuple[Path, zipfile.ZipFile]]:
    """Open a temporary ZIP file, which replaces the file of the export when the ``with`` block ends."""
    path = job.workspace.folder / "exports" / f"{job.workspace.name}-{kind}.zip"
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        yield path, archive


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
