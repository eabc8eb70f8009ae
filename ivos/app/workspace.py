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
IN_MEMORY = 512 << 20  # bytes of frames; more of them are kept in a file that is mapped
WHOLE = 5000 * 854 * 480 * 3  # bytes of frames; of a longer video, the network has a part at a time
PART = 256 << 20  # bytes of the frames of such a part, at most
NAME = re.compile(r"[A-Za-z0-9._-]+")


class WorkspaceError(UserError):
    """A workspace that cannot be used; the message names it and the remedy."""


class UnreadablePictures(DataError):
    """Pictures of a video that cannot be read; the message names them.

    Args:
        message: says how many there are.
        can_go_on: whether there are others, so that the user can go on without these.
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
    num_frames: int = 0  # 0 until all frames are there
    times: tuple[float, ...] = ()  # of the frames in seconds; empty where they are evenly spaced
    files: tuple[str, ...] = ()  # of frames used in place; empty: frames/00000.jpg, ...
    notice: str = ""  # what the user has to know about the video
    left_out: tuple[str, ...] = ()  # names of pictures that could not be read
    network: dict[str, Any] | None = None  # the checkpoint's sha256 and the segmenter's options


class Workspace:
    """The folder of one session, held by one server at a time.

    Args:
        folder: it is created where it does not exist; its name has letters, digits, dots, dashes and
            underscores.
        source: the video.

    Raises:
        WorkspaceError: it is of another version or video, in use by another server, or cannot be written.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder, self.source, self.name = folder, source, folder.name
        if not NAME.fullmatch(self.name) or set(self.name) == {"."}:
            raise WorkspaceError(f"{folder}: a workspace's name has letters, digits and ._- only")
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
                f"{folder}: {error.strerror}; name a folder that can be written by workspace=FOLDER"
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
                "folder by workspace=FOLDER"
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
                f"{self.folder}: belongs to another video ({metadata.source.get('path')}, as it was then); "
                "name another folder by workspace=FOLDER"
            )
        return metadata

    def _write(self, metadata: WorkspaceMetadata) -> None:
        content = {"version": VERSION, "name": self.name, **vars(metadata)}
        write_text(self.folder / "workspace.json", json.dumps(content, indent=1))

    def prepare(self, done: Callable[[int], None] | None = None, leave_out: bool = False) -> None:
        """Decode the video if needed.

        Args:
            done: called with the number of frames that are ready.
            leave_out: whether to go on without pictures that cannot be read.

        Raises:
            UnreadablePictures: some pictures of a folder cannot be read.
            DataError: the video cannot be decoded.
            OSError: the frames cannot be written.
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
                    f"{source.path.name}: its header says {source.num_frames} frames, and {len(written)} "
                    "could be read. You can annotate these; if the others matter, re-encode the file "
                    "(ffmpeg -i IN OUT) and open the result"
                )
            gaps = np.diff(times)
            even = not len(gaps) or float(np.ptp(gaps)) < 0.002
            metadata.num_frames = len(written)
            metadata.times = () if even else tuple(round(time, 6) for time in times)
        self.notice = metadata.notice
        self._write(metadata)

    def _extract(self, done: Callable[[int], None] | None) -> tuple[list[Path], list[float]]:
        """Write the frames as JPEGs; where a picture cannot be read, look for all such pictures."""
        try:
            return extract(self.source, self.folder / "frames", done)
        except DataError:
            if self.source.files:
                self._check_pictures(leave_out=False)
            raise

    def _check_pictures(self, leave_out: bool) -> None:
        """Look for pictures that cannot be read, and leave them out where that is wanted."""
        faulty = {path.name: problem for path, problem in faulty_pictures(self.source.files)}
        if not faulty:
            return
        total = len(self.source.files)
        names = listing([f"{name} ({problem})" for name, problem in faulty.items()])
        if not leave_out or len(faulty) == total:
            raise UnreadablePictures(
                f"{self.source.path}: {total - len(faulty)} of {total} pictures can be read; these cannot: "
                f"{names}. Replace them and try again, or go on without them",
                can_go_on=len(faulty) < total,
            )
        self.metadata.left_out = tuple(faulty)
        self.metadata.notice = (
            f"{self.source.path.name}: {len(faulty)} of {total} pictures could not be read and are left out: "
            f"{names}"
        )
        self.source = self.source.without(self.metadata.left_out)

    def count_frames(self) -> int:
        """Return how many frames the video will have, as far as that can be said before it is decoded."""
        return self.metadata.num_frames or self.source.count_frames()

    def remember_network(self, network: dict[str, Any]) -> None:
        """Write down the network that the masks were made with."""
        if self.metadata.network != network:
            self.metadata.network = network
            self._write(self.metadata)

    def recover(self, num_frames: int = 0) -> Session:
        """Return the session of the journal; a round that was left open is closed there.

        Args:
            num_frames: of a video that is still being decoded, as many as it will have.
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
        """Return a small picture of the first frame that can be read, which is made where it does not exist.

        Raises:
            DataError: the video cannot be decoded.
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
        """The names of the frames without suffixes: those of the source's files, or numbers."""
        numbers = [f"{frame:05d}" for frame in range(self.metadata.num_frames)]
        found = [path.stem for path in self.source.files]
        return found if len(found) == len(numbers) else numbers

    def part(self, frame: int) -> tuple[int, int]:
        """Return the first and the last frame of the part of the video that the network works on at once.

        It is the whole video, except for a very long one, which is cut into parts of about equal length.
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
        """Return the frames of a part, or all frames, uint8 RGB [T, h, w, 3]; many frames stay on disk.

        Raises:
            WorkspaceError: a frame has changed its size, or the disk has no room for the frames.
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
        """Return a frame, uint8 RGB [h, w, 3], which has to be there.

        Raises:
            WorkspaceError: it has changed its size.
        """
        picture = read_frame(self.frame_file(frame))
        if picture.shape[1::-1] != self.size:
            raise WorkspaceError(f"{self.frame_file(frame)}: has changed its size")
        return picture

    def _frames_on_disk(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array in a file without a name, which the system frees with the array."""
        needed, free = math.prod(shape), shutil.disk_usage(self.folder).free
        if needed > free:
            raise WorkspaceError(
                f"{self.folder}: {shape[0]} frames of {shape[2]}x{shape[1]} need {needed / 1e9:.1f} GB while "
                f"the network works on them, and {free / 1e9:.1f} GB are free; make room, or cut the video"
            )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.truncate(needed)
            return np.memmap(file, np.uint8, "r+", shape=shape)  # type: ignore[call-overload,no-any-return]

    def mask_file(self, round: int, frame: int) -> Path:
        """Return the path of a frame's palette PNG in a round."""
        return self.folder / "rounds" / f"{round:04d}" / f"{frame:05d}.png"

    def write_mask(self, round: int, frame: int, labels: NDArray[np.uint8]) -> None:
        """Write a frame's labels [h, w]; the file is complete or absent."""
        path = self.mask_file(round, frame)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as aside:
            write_labels(aside, labels)

    def read_mask(self, round: int, frame: int) -> NDArray[np.uint8]:
        """Return the labels [h, w] of a frame in a round; they are 0 in round 0, before any round."""
        if not round:
            return np.zeros(self.size[::-1], np.uint8)
        return read_mask(self.mask_file(round, frame))

    def write_masks(self, round: int, masks: Iterable[tuple[int, NDArray[np.uint8]]]) -> None:
        """Write the masks of many frames as a new round, on disk together when this returns."""
        self.remove_masks(round)
        for frame, labels in masks:
            path = self.mask_file(round, frame)
            path.parent.mkdir(exist_ok=True)
            write_labels(path, labels)
        sync_all()

    def remove_masks(self, round: int) -> None:
        """Remove what is left under the number of a new round, of one that failed before it was recorded."""
        shutil.rmtree(self.folder / "rounds" / f"{round:04d}", ignore_errors=True)

    def write_base(self, edit: str, labels: NDArray[np.uint8]) -> None:
        """Write the labels [h, w] of a preview that an edit was drawn over."""
        with replacing(self.folder / "bases" / f"{edit}.png") as aside:
            write_labels(aside, labels)

    def read_base(self, edit: str) -> NDArray[np.uint8]:
        """Return the labels [h, w] of :meth:`write_base`."""
        return read_mask(self.folder / "bases" / f"{edit}.png")

    def masks_of(self, round: int) -> set[int]:
        """Return the frames whose masks of a round are on disk."""
        folder = self.folder / "rounds" / f"{round:04d}"
        if not folder.is_dir():
            return set()
        return {int(path.stem) for path in folder.glob("[0-9]*.png")}

    def differing(self, labels: NDArray[np.uint8], round: int, frame: int) -> int:
        """Count the pixels in which a mask differs from the file; a missing file is written."""
        try:
            return int(np.count_nonzero(self.read_mask(round, frame) != labels))
        except DataError:
            self.write_mask(round, frame, labels)
            return 0


def sync_all() -> None:
    """Have everything that was written on disk, where the system can do that."""
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
                f"{path.parent}: a workspace of version {version}; this ivos reads version {VERSION}: use "
                "the one that made it, or another folder by workspace=FOLDER"
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
            f"{path}: not a workspace's description ({error}); name another folder by workspace=FOLDER"
        ) from error
