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
VERSION = 2  # of the index; to be raised whenever an inspection finds other facts
_MANY = 2000  # from so many files on, several processes and a progress bar are used

Index = bool | str | Path
_Stamp = tuple[int, int]  # size in bytes and time of change in nanoseconds


def user_cache() -> Path:
    """Return the folder in which ivos keeps files that can be made again."""
    return user_cache_path("ivos", appauthor=False)


def inspect_files(
    frames: Iterable[Path], masks: Iterable[Path], root: Path, index: Index = True, role: Role = "mask"
) -> dict[Path, FileInfo]:
    """Inspect files under a root; facts of files that have not changed are taken from the index.

    A file has changed if its size or its time of change has. Files with a fault are always inspected again.
    If several processes ask at once, one inspects and the others wait for its index.

    Args:
        frames: Pictures.
        masks: Masks (``.png``) or instances (``.mat``).
        root: The folder of the data set.
        index: Where the index is kept: True for the user's cache folder, or a folder. False: nowhere, and
            every file is inspected.
        role: What the masks are for, see :data:`ivos.video.files.Role`.
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
    """Return what an entry's name ends in, so that a file inspected for another role has another entry."""
    if role in ("cutout", "segments"):
        return f" ({role})"
    return " (frame)" if role == "frame" and path.suffix == ".png" else ""


def index_file(root: Path, index: Index = True) -> Path:
    """Return the file in which the index of a root is kept."""
    folder = user_cache() / "index" if isinstance(index, bool) else Path(index)
    root = root.resolve()
    return folder / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _inspect(roles: Mapping[Path, Role], root: Path) -> dict[Path, FileInfo]:
    """Inspect files, many of them in several processes and with a progress bar."""
    files = list(roles)
    many = len(files) >= _MANY
    workers = cores()
    pool: Executor
    if many and workers > 1 and sys.platform == "linux":
        # Forked, as loaders' workers are: spawned ones would import the whole program again.
        pool = ProcessPoolExecutor(workers, get_context("fork"), be_a_worker)
    else:
        pool = ThreadPoolExecutor(workers)  # decoding lets go of the interpreter lock
    console = Console(highlight=False)
    what = f"Inspecting {len(files)} files of {root}"
    if many and not console.is_terminal:
        console.print(what, soft_wrap=True)
    with pool:
        found = pool.map(inspect_file, files, roles.values(), chunksize=64)
        hidden = not (many and console.is_terminal)
        return dict(zip(files, track(found, what, len(files), console=console, disable=hidden), strict=True))


def _stamps(files: Sequence[Path]) -> dict[Path, _Stamp | None]:
    """Return the size and the time of change of each file; None for a file without."""

    def stamp(path: Path) -> _Stamp | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    with ThreadPoolExecutor(16) as pool:  # mostly waiting, where the data is on another machine
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
        log.warning("%s: no usable index (%s); it is made again", store, error)
        return {}


def _store(store: Path, root: Path, known: dict[str, tuple[_Stamp, FileInfo]]) -> None:
    files = {name: [*stamp, *info.size, info.areas] for name, (stamp, info) in sorted(known.items())}
    content = {"version": VERSION, "root": str(root.resolve()), "files": files}
    try:
        write_text(store, json.dumps(content, separators=(",", ":")))
    except OSError as error:
        log.warning("%s: the index cannot be kept (%s); the files are inspected each time", store, error)


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Hold the lock of an index against all other processes."""
    with contextlib.ExitStack() as stack:
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(store.with_suffix(".lock")))
            clear(store.parent, glob.escape(store.stem))
        except (OSError, NotImplementedError) as error:  # a read-only folder, a file system without locks
            log.warning("%s: not locked (%s)", store, error)
        yield
