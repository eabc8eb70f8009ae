"""Exports of a session in DAVIS layout, as COCO JSON, as an overlay video and as strokes."""

import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivos.app import export_formats as formats
from ivos.app.masks import draw_chain
from ivos.app.prompts import expanded
from ivos.app.session import Edit, Object, Round, Session, Shown
from ivos.app.workspace import Workspace
from ivos.runtime.files import replacing, write_text
from ivos.video.files import read_frame
from ivos.video.overlay import overlay
from ivos.video.palette import write_labels
from ivos.video.run_lengths import encode_runs
from ivos.video.writer import write_video

Labels = NDArray[np.uint8]
Progress = Callable[[int, int], None]

YEAR, SUBSET, RESOLUTION = "2017", "val", "480p"  # names of folders and files that tools of DAVIS expect


@dataclass(frozen=True)
class Export:
    """A snapshot of a session for an export.

    Mask files never change after they were written, so that the snapshot stays valid.
    """

    workspace: Workspace
    shown: tuple[Shown, ...]  # the round or the latest edit that each frame shows
    edits: dict[int, list[Edit]]  # edits that are drawn over the round of a frame, by frame
    display: NDArray[np.uint8]  # [256], the exported label for each label on disk
    objects: tuple[Object, ...]  # objects that were not removed
    rounds: tuple[Round, ...]
    strokes: dict[str, dict[str, Any]]
    chosen: int = 0  # number of the object for exports of a single object; 0 for the first object

    @classmethod
    def of(cls, workspace: Workspace, session: Session, chosen: int = 0) -> "Export":
        """Take a snapshot of a session."""
        kept = tuple(one for one in session.objects.values() if not one.removed)
        edits = {frame: session.chain(frame) for frame in session.edited_frames}
        table = np.array([session.display_label(number) for number in range(256)], np.uint8)
        table[[number for number in range(1, 256) if number not in session.objects]] = 0
        rounds = tuple(one for one in session.active if one.kind == "propagation")
        shown = tuple(session.shown())
        return cls(workspace, shown, edits, table, kept, rounds, dict(session.strokes), chosen)

    def labels(self) -> Iterator[Labels]:
        """Yield the labels uint8 [h, w] of every frame, with removed objects as background."""
        for frame, shown in enumerate(self.shown):
            if isinstance(shown, int):
                yield self.display[self.workspace.read_mask(shown, frame)]
            else:
                yield self.display[draw_chain(self.workspace, self.edits[frame])]

    @property
    def names(self) -> list[str]:
        """The names of the frames without suffixes: names of the source's files, or numbers.

        Numbers are used if the source is a video file, or if alphabetical order would change the order of the
        frames.
        """
        numbers = [f"{frame:05d}" for frame in range(len(self.shown))]
        found = self.workspace.frame_names
        return found if found == sorted(set(found)) and len(found) == len(numbers) else numbers

    def drawn(self, one: Round) -> list[dict[str, Any]]:
        """Return the strokes of a round in the DAVIS format, without the strokes of removed objects.

        A box is converted to the strokes that replace it for networks that do not accept boxes.
        """
        known = {0, *(each.number for each in self.objects)}
        strokes = expanded([self.strokes[key] for key in one.strokes])
        names = ("path", "object_id", "start_time", "end_time")
        return [
            {name: stroke.get(name, 0) for name in names}
            for stroke in strokes
            if stroke["object_id"] in known
        ]


def davis(job: Export, progress: Progress) -> tuple[Path, str]:
    """Write a folder in DAVIS layout, which ``evaluate.py data.root=`` can read, and a ZIP file of it.

    Objects are numbered 1..N without gaps. Only the strokes of the first round are exported.
    """
    workspace, name = job.workspace, job.workspace.name
    target = workspace.folder / "exports" / "davis"
    temporary = target.with_name(f".davis-{secrets.token_hex(4)}.tmp")
    numbers = np.zeros(256, np.uint8)
    for index, one in enumerate(job.objects, start=1):
        numbers[one.number] = index
    frames, masks = (temporary / part / RESOLUTION / name for part in ("JPEGImages", "Annotations"))
    try:
        for folder in (frames, masks, temporary / "ImageSets" / YEAR, temporary / "Scribbles" / name):
            folder.mkdir(parents=True)
        first: set[int] = set()
        names = job.names
        for t, labels in enumerate(job.labels()):
            shutil.copyfile(workspace.frame_file(t), frames / f"{names[t]}.jpg")
            write_labels(masks / f"{names[t]}.png", numbers[labels])
            if t == 0:
                first = set(np.unique(numbers[labels]).tolist()) - {0}
            progress(t + 1, len(job.shown))
        (temporary / "ImageSets" / YEAR / f"{SUBSET}.txt").write_text(f"{name}\n")
        if job.rounds:
            strokes = [
                {**stroke, "object_id": int(numbers[stroke["object_id"]])}
                for stroke in job.drawn(job.rounds[0])
            ]
            by_frame: list[list[dict[str, Any]]] = [[] for _ in job.shown]
            by_frame[job.rounds[0].frame] = strokes
            content = {"sequence": name, "scribbles": by_frame}
            (temporary / "Scribbles" / name / "001.json").write_text(json.dumps(content))
        packed = workspace.folder / "exports" / f"{name}-davis.zip"
        with replacing(packed) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
            for path in sorted(temporary.rglob("*")):
                archive.write(path, path.relative_to(temporary))
        old = target.with_name(f".davis-{secrets.token_hex(4)}.old")
        if target.exists():
            os.rename(target, old)
        os.rename(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    missing = [one.name for index, one in enumerate(job.objects, start=1) if index not in first]
    warning = ""
    if missing:
        warning = (
            f"{', '.join(missing)}: not on the first frame, where tools of DAVIS expect every object; "
            "evaluate.py will report this, too"
        )
    return packed, warning


def coco(job: Export, progress: Progress) -> tuple[Path, str]:
    """Write COCO JSON: an image for each frame, and a run-length annotation for each object on a frame."""
    workspace = job.workspace
    width, height = workspace.size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = job.names
    for t, labels in enumerate(job.labels()):
        images.append({"id": t, "file_name": f"{names[t]}.jpg", "width": width, "height": height})
        for one in job.objects:
            mask = labels == one.number
            if not mask.any():
                continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            left, top = int(columns[0]), int(rows[0])
            box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": t,
                    "category_id": one.number,
                    "track_id": one.number,
                    "segmentation": {"size": [height, width], "counts": encode_runs(mask)},
                    "area": int(mask.sum()),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
        progress(t + 1, len(job.shown))
    content = {
        "info": {"description": f"{workspace.name}, annotated with ivos"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": one.number, "name": one.name} for one in job.objects],
    }
    path = workspace.folder / "exports" / f"{workspace.name}-coco.json"
    write_text(path, json.dumps(content, separators=(",", ":")))
    return path, ""


def video(job: Export, progress: Progress) -> tuple[Path, str]:
    """Write a video of the frames with their masks in the objects' colours, with the source's timestamps.

    The video is H.264 in MP4 if PyAV has that encoder, otherwise VP8 in WebM.
    """
    workspace = job.workspace
    palette = np.zeros((256, 3), np.uint8)
    for one in job.objects:
        palette[one.number] = [int(one.colour[i : i + 2], 16) for i in (1, 3, 5)]
    hidden = [one.number for one in job.objects if one.hidden]

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for t, labels in enumerate(job.labels()):
            labels[np.isin(labels, hidden)] = 0
            yield overlay(read_frame(workspace.frame_file(t)), labels, palette=palette)
            progress(t + 1, len(job.shown))

    import av

    suffix = ".mp4" if "libx264" in av.codecs_available else ".webm"
    path = workspace.folder / "exports" / f"{workspace.name}-overlay{suffix}"
    write_video(path, pictures(), workspace.metadata.rate, workspace.metadata.times)
    return path, ""


def strokes(job: Export, progress: Progress) -> tuple[Path, str]:
    """Write all strokes in the DAVIS format, with additional lists of the rounds and of the objects."""
    by_frame: list[list[dict[str, Any]]] = [[] for _ in job.shown]
    rounds = []
    for one in job.rounds:
        drawn = job.drawn(one)
        by_frame[one.frame] += drawn
        rounds.append({"frame": one.frame, "reach": one.reach, "status": one.status, "strokes": drawn})
    content = {
        "sequence": job.workspace.name,
        "scribbles": by_frame,
        "rounds": rounds,
        "objects": [{"number": one.number, "name": one.name, "colour": one.colour} for one in job.objects],
    }
    path = job.workspace.folder / "exports" / f"{job.workspace.name}-scribbles.json"
    write_text(path, json.dumps(content))
    progress(1, 1)
    return path, ""


FORMATS = {
    "davis": davis,
    "masks": formats.masks,
    "coco": coco,
    "youtube_vis": formats.youtube_vis,
    "yolo": formats.yolo,
    "cvat": formats.cvat,
    "label_studio": formats.label_studio,
    "single": formats.single,
    "video": video,
    "scribbles": strokes,
}
"""Export functions by the name of the format; each returns the path of its file and a warning or ""."""


def export(kind: str, job: Export, progress: Progress) -> tuple[Path, str]:
    """Write an export of a format; its file is written atomically.

    Args:
        kind: Name of the format, a key of :data:`FORMATS`.
        job: Snapshot of the session.
        progress: Function that is called with the numbers of finished and of all frames.

    Returns:
        The path of the file, and a warning or an empty string.
    """
    return FORMATS[kind](job, progress)


def archive(kind: str, jobs: Sequence[Export], path: Path) -> Path:
    """Write the exports of several videos into one ZIP file, with a folder for each video."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for job in jobs:
            file, _ = export(kind, job, lambda done, total: None)
            packed.write(file, f"{job.workspace.name}/{file.name}")
    return path
