"""An index of inspected files on disk, so that each file of a data set is decoded and checked once."""

import contextlib
import glob
import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import track

from ivos.runtime.files import clear, read_json, write_text
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker
from ivos.video.files import FileInfo, Role, inspect_file

log = logging.getLogger(__name__)
VERSION = 2  # version of the index, to be increased whenever inspections report other properties
_MANY = 2000  # smallest number of files for which several processes and a progress bar are used

Index = bool | str | Path
_Stamp = tuple[int, int]  # size in bytes and time of the last modification in nanoseconds


def user_cache() -> Path:
    """Return the user's cache folder for files that ivos can create again."""
    return user_cache_path("ivos", appauthor=False)


def inspect_files(
    frames: Iterable[Path], masks: Iterable[Path], root: Path, index: Index = True, role: Role = "mask"
) -> dict[Path, FileInfo]:
    """Inspect files under a root folder; for unchanged files the properties are taken from the index.

    A file counts as changed if its size or its modification time has changed. Files with a fault are always
    inspected again. If several processes call this function at the same time, one of them inspects the files,
    and the others wait for its index.

    Args:
        frames: Pictures.
        masks: Masks (``.png``) or instances (``.mat``).
        root: The folder of the data set.
        index: Folder of the index, or True for the user's cache folder, or False to inspect every file
            without an index.
        role: The purpose of the masks; see :data:`ivos.video.files.Role`.
    """
    roles: dict[Path, Role] = dict.fromkeys(frames, "frame")
    roles |= dict.fromkeys(masks, role)
    if index is False:
        return _inspect(roles, root)
    store = index_file(root, index)
    with _locked(store):
        known = _load(store)
        stamps = _stamps(list(roles))
        names = {path: f"{path.relative_to(root)}{_mark(path, role)}" for path, role in roles.items()}
        found: dict[Path, FileInfo] = {}
        for path, name in names.items():
            if name in known and known[name][0] == stamps[path]:
                found[path] = known[name][1]
        new = _inspect({path: role for path, role in roles.items() if path not in found}, root)
        if new:
            for path, info in new.items():
                stamp = stamps[path]
                if stamp and not info.problem:
                    known[names[path]] = (stamp, info)
            _store(store, root, known)
        found |= new
    return found


def _mark(path: Path, role: Role) -> str:
    """Return the suffix of the name of a file's entry, so that each role of a file has its own entry."""
    if role in ("cutout", "segments"):
        return f" ({role})"
    return " (frame)" if role == "frame" and path.suffix == ".png" else ""


def index_file(root: Path, index: Index = True) -> Path:
    """Return the path of the index of a root folder."""
    folder = user_cache() / "index" if isinstance(index, bool) else Path(index)
    root = root.resolve()
    return folder / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _inspect(roles: Mapping[Path, Role], root: Path) -> dict[Path, FileInfo]:
    """Inspect files; for many files, use several processes and show a progress bar."""
    files = list(roles)
    many = len(files) >= _MANY
    workers = cores()
    pool: Executor
    if many and workers > 1 and sys.platform == "linux":
        # Processes are forked, like workers of data loaders: spawned ones would import the whole program
        # again.
        pool = ProcessPoolExecutor(workers, get_context("fork"), be_a_worker)
    else:
        pool = ThreadPoolExecutor(workers)  # decoding releases the global interpreter lock
    console = Console(highlight=False)
    what = f"Inspecting {len(files)} files of {root}"
    if many and not console.is_terminal:
        console.print(what, soft_wrap=True)
    with pool:
        found = pool.map(inspect_file, files, roles.values(), chunksize=64)
        hidden = not (many and console.is_terminal)
        return dict(zip(files, track(found, what, len(files), console=console, disable=hidden), strict=True))


def _stamps(files: Sequence[Path]) -> dict[Path, _Stamp | None]:
    """Return the size and the modification time of each file; None for a file that does not exist."""

    def stamp(path: Path) -> _Stamp | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    with ThreadPoolExecutor(16) as pool:  # many threads, because each waits for a possibly remote file system
        return dict(zip(files, pool.map(stamp, files), strict=True))


def _load(store: Path) -> dict[str, tuple[_Stamp, FileInfo]]:
    try:
        content = read_json(store)
        if content["version"] != VERSION:
            return {}
        return {
            name: (
                (size, changed),
                FileInfo((width, height), tuple((label, count) for label, count in areas)),
            )
            for name, (size, changed, width, height, areas) in content["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s: the index cannot be used (%s); it is created again", store, error)
        return {}


def _store(store: Path, root: Path, known: dict[str, tuple[_Stamp, FileInfo]]) -> None:
    files = {name: [*stamp, *info.size, info.areas] for name, (stamp, info) in sorted(known.items())}
    content = {"version": VERSION, "root": str(root.resolve()), "files": files}
    try:
        write_text(store, json.dumps(content, separators=(",", ":")))
    except OSError as error:
        log.warning("%s: the index cannot be saved (%s); the files are inspected each time", store, error)


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Hold the lock of an index against all other processes."""
    with contextlib.ExitStack() as stack:
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(store.with_suffix(".lock")))
            clear(store.parent, glob.escape(store.stem))
        except (OSError, NotImplementedError) as error:  # a read-only folder, or a file system without locks
            log.warning("%s: the index cannot be locked (%s)", store, error)
        yield
