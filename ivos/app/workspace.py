"""The folder of a session on disk: its metadata, frames, masks and journal."""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ivos.app.journal import Journal
from ivos.app.session import Event, Session, interrupted
from ivos.runtime.errors import UserError, listing
from ivos.runtime.files import clear, read_json, replacing, write_picture, write_text
from ivos.runtime.machine import lock
from ivos.video.files import DataError, read_frame, read_mask
from ivos.video.palette import write_labels
from ivos.video.reader import Source, extract, faulty_pictures

VERSION = 1
IN_MEMORY = 512 << 20  # most bytes of frames that are kept in memory; more are kept in a memory-mapped file
WHOLE = 5000 * 854 * 480 * 3  # most bytes of frames of a video that the network processes as a whole
PART = 256 << 20  # most bytes of frames of a part; a longer video is processed in such parts
NAME = re.compile(r"[A-Za-z0-9._-]+")


class WorkspaceError(UserError):
    """The error for a workspace that cannot be used; the message names the folder and the remedy."""


class UnreadablePictures(DataError):
    """The error for pictures of a video that cannot be read.

    Args:
        message: Message with the names of the pictures.
        can_go_on: Whether other pictures are readable, so that the user can continue without these.
    """

    def __init__(self, message: str, can_go_on: bool) -> None:
        super().__init__(message)
        self.can_go_on = can_go_on


@dataclass
class WorkspaceMetadata:
    """The content of ``workspace.json`` besides its version."""

    id: str  # random, so that browsers never show cached masks of another workspace
    source: dict[str, Any]  # path, kind, fingerprint
    size: tuple[int, int]
    rate: float
    num_frames: int = 0  # 0 until all frames are decoded
    times: tuple[float, ...] = ()  # times of the frames in seconds; empty if they are evenly spaced
    files: tuple[str, ...] = ()  # paths of frames that are used in place; empty for frames/00000.jpg, ...
    notice: str = ""  # a message about the video that the page shows
    left_out: tuple[str, ...] = ()  # names of pictures that are left out because they could not be read
    network: dict[str, Any] | None = None  # the checkpoint's sha256 and the segmenter's options


class Workspace:
    """The folder of one session, which one server at a time can use.

    Args:
        folder: Path of the folder, which is created if it does not exist. Its name consists of letters,
            digits, dots, dashes and underscores.
        source: The video of the session.

    Raises:
        WorkspaceError: The folder belongs to another version of ivos or to another video, is in use by
            another server, or cannot be written.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder, self.source, self.name = folder, source, folder.name
        if not NAME.fullmatch(self.name) or set(self.name) == {"."}:
            raise WorkspaceError(
                f"{folder}: the name of a workspace can have only letters, digits and the characters ._-"
            )
        try:
            for name in ("frames", "rounds", "exports", "bases"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._lock = self._lock_folder()
            self._remove_unfinished()
            self.metadata = self._open(fingerprint(source))
            self.source = source.without(self.metadata.left_out)
            self.notice = self.metadata.notice
            self.journal = Journal(folder / "journal.jsonl")
        except OSError as error:
            raise WorkspaceError(
                f"{folder}: {error.strerror}; name a writable folder with workspace=FOLDER"
            ) from error

    # Opening

    def _lock_folder(self) -> int:
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock(handle)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise WorkspaceError(
                f"{self.folder}: in use by another server (process {holder}); end it, or name another "
                "folder with workspace=FOLDER"
            ) from error
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        return handle

    def _remove_unfinished(self) -> None:
        """Remove the files and folders that a killed server had not finished writing."""
        clear(self.folder)
        clear(self.folder / "bases")
        for path in (self.folder / "exports").glob(".*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _open(self, print_of_source: str) -> WorkspaceMetadata:
        path = self.folder / "workspace.json"
        if not path.exists():
            source = self.source
            metadata = WorkspaceMetadata(
                secrets.token_hex(6),
                {"path": str(source.path.resolve()), "kind": source.kind, "fingerprint": print_of_source},
                source.size,
                float(source.rate),
            )
            self._write(metadata)
            return metadata
        metadata = _read_metadata(path)
        if metadata.source.get("fingerprint") != print_of_source:
            raise WorkspaceError(
                f"{self.folder}: belongs to another video, or to an earlier version of "
                f"{metadata.source.get('path')}; name another folder with workspace=FOLDER"
            )
        return metadata

    def _write(self, metadata: WorkspaceMetadata) -> None:
        content = {"version": VERSION, "name": self.name, **vars(metadata)}
        write_text(self.folder / "workspace.json", json.dumps(content, indent=1))

    def prepare(self, done: Callable[[int], None] | None = None, leave_out: bool = False) -> None:
        """Decode the video if needed.

        Args:
            done: Function that is called with the number of frames that are ready.
            leave_out: Whether to continue without pictures that cannot be read.

        Raises:
            UnreadablePictures: Some pictures of a folder cannot be read.
            DataError: The video cannot be decoded.
            OSError: The frames cannot be written.
        """
        if self.metadata.num_frames:
            return
        if self.source.in_place or leave_out:
            self._check_pictures(leave_out)
        source, metadata = self.source, self.metadata
        if source.in_place:
            metadata.files = tuple(str(path.resolve()) for path in source.files)
            metadata.num_frames = len(metadata.files)
        else:
            written, times = self._extract(done)
            sync_all()
            if len(written) < source.num_frames:
                metadata.notice = (
                    f"{source.path.name}: the header gives {source.num_frames} frames, but only "
                    f"{len(written)} could be read. You can annotate these; if you need the others, "
                    "re-encode the file (ffmpeg -i IN OUT) and open the result"
                )
            gaps = np.diff(times)
            even = not len(gaps) or float(np.ptp(gaps)) < 0.002
            metadata.num_frames = len(written)
            metadata.times = () if even else tuple(round(time, 6) for time in times)
        self.notice = metadata.notice
        self._write(metadata)

    def _extract(self, done: Callable[[int], None] | None) -> tuple[list[Path], list[float]]:
        """Write the frames as JPEG files; if a picture cannot be read, report all unreadable pictures."""
        try:
            return extract(self.source, self.folder / "frames", done)
        except DataError:
            if self.source.files:
                self._check_pictures(leave_out=False)
            raise

    def _check_pictures(self, leave_out: bool) -> None:
        """Find the pictures that cannot be read.

        Args:
            leave_out: Whether to leave the unreadable pictures out instead of raising an error.

        Raises:
            UnreadablePictures: Some pictures cannot be read, and `leave_out` is false or all are unreadable.
        """
        faulty = {path.name: problem for path, problem in faulty_pictures(self.source.files)}
        if not faulty:
            return
        total = len(self.source.files)
        names = listing([f"{name} ({problem})" for name, problem in faulty.items()])
        if not leave_out or len(faulty) == total:
            raise UnreadablePictures(
                f"{self.source.path}: {total - len(faulty)} of {total} pictures can be read; these cannot: "
                f"{names}. Replace them and try again, or continue without them",
                can_go_on=len(faulty) < total,
            )
        self.metadata.left_out = tuple(faulty)
        self.metadata.notice = (
            f"{self.source.path.name}: {len(faulty)} of {total} pictures could not be read and are left out: "
            f"{names}"
        )
        self.source = self.source.without(self.metadata.left_out)

    def count_frames(self) -> int:
        """Return the number of frames of the video, which is an estimate until the video is decoded."""
        return self.metadata.num_frames or self.source.count_frames()

    def remember_network(self, network: dict[str, Any]) -> None:
        """Save the checkpoint and the segmenter's options with which the masks are computed."""
        if self.metadata.network != network:
            self.metadata.network = network
            self._write(self.metadata)

    def recover(self, num_frames: int = 0) -> Session:
        """Restore the session from the journal, and record the end of a round that was left open.

        Args:
            num_frames: Expected number of frames of a video that is still being decoded.
        """
        session = Session(num_frames or self.metadata.num_frames)
        for number, line in enumerate(self.journal.lines, start=1):
            try:
                session.apply(line)
            except (UserError, KeyError, TypeError, AttributeError) as error:
                raise WorkspaceError(
                    f"{self.journal.path}: line {number} does not fit the session ({error}); restore it or "
                    "move the folder away"
                ) from error
        self.record(session, *interrupted(session, self.masks_of))
        return session

    def record(self, session: Session, *events: Event) -> None:
        """Write events to the journal, then apply each to the session."""
        for event in events:
            session.check(event)
            self.journal.append(event)
            session.apply(event)

    def close(self) -> None:
        """Release the folder."""
        self.journal.close()
        os.close(self._lock)

    # Frames and masks

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.metadata.size

    def frame_file(self, frame: int) -> Path:
        """Return the path of a frame's JPEG, which need not exist yet."""
        if self.metadata.files:
            return Path(self.metadata.files[frame])
        if not self.metadata.num_frames and self.source.in_place:
            return self.source.files[frame]
        return self.folder / "frames" / f"{frame:05d}.jpg"

    def thumbnail(self) -> Path:
        """Return the path of a small picture of the first readable frame, which is created if needed.

        Raises:
            DataError: The video cannot be decoded.
        """
        path = self.folder / "thumbnail.jpg"
        if not path.exists():
            first = self.source.first_frame()
            height = max(1, round(first.shape[0] * 320 / first.shape[1]))
            small = cv2.resize(first[..., ::-1], (320, height), interpolation=cv2.INTER_AREA)
            write_picture(path, small.astype(np.uint8))
        return path

    @property
    def frame_names(self) -> list[str]:
        """The names of the frames without suffixes: names of the source's files, or numbers."""
        numbers = [f"{frame:05d}" for frame in range(self.metadata.num_frames)]
        found = [path.stem for path in self.source.files]
        return found if len(found) == len(numbers) else numbers

    def part(self, frame: int) -> tuple[int, int]:
        """Return the first and the last frame of the part of the video that the network processes at once.

        The part is the whole video unless the video is very long; a very long video is divided into parts of
        about equal length.

        Args:
            frame: A frame in the part.
        """
        count, (width, height) = self.metadata.num_frames, self.size
        each = width * height * 3
        if count * each <= WHOLE:
            return 0, count - 1
        parts = math.ceil(count / max(1, PART // each))
        number = min(parts - 1, frame * parts // count)
        while number and math.ceil(number * count / parts) > frame:
            number -= 1
        return math.ceil(number * count / parts), math.ceil((number + 1) * count / parts) - 1

    def read_frames(self, part: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return the frames of a part, or all frames, uint8 RGB [T, h, w, 3].

        An array above ``IN_MEMORY`` bytes is mapped from a temporary file.

        Raises:
            WorkspaceError: The size of a frame has changed, or the disk has too little space for the frames.
        """
        width, height = self.size
        low, high = part or (0, self.metadata.num_frames - 1)
        shape = (high - low + 1, height, width, 3)
        stack: NDArray[np.uint8]
        if math.prod(shape) <= IN_MEMORY:
            stack = np.empty(shape, np.uint8)
        else:
            stack = self._frames_on_disk(shape)
        for frame, target in enumerate(stack, start=low):
            target[:] = self.read_frame(frame)
        return stack

    def read_frame(self, frame: int) -> NDArray[np.uint8]:
        """Return a decoded frame, uint8 RGB [h, w, 3].

        Raises:
            WorkspaceError: The size of the frame has changed.
        """
        picture = read_frame(self.frame_file(frame))
        if picture.shape[1::-1] != self.size:
            raise WorkspaceError(f"{self.frame_file(frame)}: the size of this frame has changed")
        return picture

    def _frames_on_disk(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array that is mapped from an unnamed temporary file, which is deleted with the array."""
        needed, free = math.prod(shape), shutil.disk_usage(self.folder).free
        if needed > free:
            raise WorkspaceError(
                f"{self.folder}: {shape[0]} frames of {shape[2]}x{shape[1]} need {needed / 1e9:.1f} GB while "
                f"the network works on them, and {free / 1e9:.1f} GB are free; free disk space, or cut the "
                "video"
            )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.truncate(needed)
            return np.memmap(file, np.uint8, "r+", shape=shape)  # type: ignore[call-overload,no-any-return]

    def mask_file(self, round: int, frame: int) -> Path:
        """Return the path of a frame's palette PNG in a round."""
        return self.folder / "rounds" / f"{round:04d}" / f"{frame:05d}.png"

    def write_mask(self, round: int, frame: int, labels: NDArray[np.uint8]) -> None:
        """Write a frame's labels [h, w]; the file is replaced atomically."""
        path = self.mask_file(round, frame)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as aside:
            write_labels(aside, labels)

    def read_mask(self, round: int, frame: int) -> NDArray[np.uint8]:
        """Return the labels [h, w] of a frame in a round; round 0 stands for no round, with labels 0."""
        if not round:
            return np.zeros(self.size[::-1], np.uint8)
        return read_mask(self.mask_file(round, frame))

    def write_masks(self, round: int, masks: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
        """Write the masks of many frames as a new round, and flush them to disk together."""
        self.remove_masks(round)
        for frame, labels in masks:
            path = self.mask_file(round, frame)
            path.parent.mkdir(exist_ok=True)
            write_labels(path, labels)
        sync_all()

    def remove_masks(self, round: int) -> None:
        """Remove the masks that a failed, unrecorded round may have left under the number of a new round."""
        shutil.rmtree(self.folder / "rounds" / f"{round:04d}", ignore_errors=True)

    def write_base(self, edit: str, labels: NDArray[np.uint8]) -> None:
        """Write the labels [h, w] of the preview over which an edit was drawn."""
        with replacing(self.folder / "bases" / f"{edit}.png") as aside:
            write_labels(aside, labels)

    def read_base(self, edit: str) -> NDArray[np.uint8]:
        """Return the labels [h, w] that :meth:`write_base` saved for an edit."""
        return read_mask(self.folder / "bases" / f"{edit}.png")

    def masks_of(self, round: int) -> set[int]:
        """Return the frames that have a mask of a round on disk."""
        folder = self.folder / "rounds" / f"{round:04d}"
        if not folder.is_dir():
            return set()
        return {int(path.stem) for path in folder.glob("[0-9]*.png")}

    def differing(self, labels: NDArray[np.uint8], round: int, frame: int) -> int:
        """Count the pixels in which labels differ from the mask on disk; if there is none, write it."""
        try:
            return int(np.count_nonzero(self.read_mask(round, frame) != labels))
        except DataError:
            self.write_mask(round, frame, labels)
            return 0


def sync_all() -> None:
    """Flush all files to disk, if the operating system supports it."""
    if hasattr(os, "sync"):
        os.sync()


def fingerprint(source: Source) -> str:
    """Return a digest of the names and sizes of a video's files and of parts of their content."""
    digest = hashlib.sha256()
    files = source.files or (source.path,)
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    for path in (files[0], files[-1]):
        size = path.stat().st_size
        with open(path, "rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read(1 << 20))
    return digest.hexdigest()


def _read_metadata(path: Path) -> WorkspaceMetadata:
    try:
        content = read_json(path)
        version = content.pop("version")
        if version != VERSION:
            raise WorkspaceError(
                f"{path.parent}: a workspace of version {version}, but this ivos reads version {VERSION}; "
                "use the version of ivos that created it, or another folder with workspace=FOLDER"
            )
        content.pop("name")
        metadata = WorkspaceMetadata(**content)
        metadata.size = (metadata.size[0], metadata.size[1])
        metadata.times, metadata.files = tuple(metadata.times), tuple(metadata.files)
        metadata.left_out = tuple(metadata.left_out)
        return metadata
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, WorkspaceError):
            raise
        raise WorkspaceError(
            f"{path}: not the metadata of a workspace ({error}); name another folder with workspace=FOLDER"
        ) from error
