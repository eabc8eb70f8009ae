"""What was found out about a data set's files, kept on disk, so that each file is looked into once."""

import contextlib
import glob
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import track

from ivos.runtime.files import clear, read_json, write_text
from ivos.runtime.machine import cores
from ivos.runtime.subprocesses import be_a_worker
from ivos.video.files import FileInfo, inspect_file

log = logging.getLogger(__name__)
VERSION = 2  # of the index; a new one whenever a look finds out something else
_MANY = 2000  # files that are worth processes, and a word to the user

Index = bool | str | Path
_Stamp = tuple[int, int]  # size in bytes and time of change in nanoseconds


def user_cache() -> Path:
    """Where ivos keeps what can be made again."""
    return user_cache_path("ivos", appauthor=False)


def inspect_files(
    files: Sequence[Path], root: Path, index: Index = True, cutouts: bool = False
) -> dict[Path, FileInfo]:
    """What there is to know of these files under a root, from the index where they have not changed.

    A file has changed if its size or its time of change has. Files with a fault are always looked into again.
    Of several processes that ask at once, one looks and the others wait for its index.

    Args:
        files: pictures (``.jpg``), masks (``.png``), instances (``.mat``).
        root: of the data set.
        index: where the index is kept: True for the user's cache folder, or a folder. False: nowhere, and
            every file is looked into.
        cutouts: how masks are read, see :func:`ivos.video.files.inspect_file`.
    """
    if index is False:
        return _look(files, root, cutouts)
    store = index_file(root, index)
    with _locked(store):
        known = _load(store)
        stamps = _stamps(files)
        reading = " (cutout)" if cutouts else ""
        names = {path: f"{path.relative_to(root)}{reading}" for path in files}
        found: dict[Path, FileInfo] = {}
        for path, name in names.items():
            if name in known and known[name][0] == stamps[path]:
                found[path] = known[name][1]
        new = _look([path for path in files if path not in found], root, cutouts)
        if new:
            for path, info in new.items():
                stamp = stamps[path]
                if stamp and not info.problem:
                    known[names[path]] = (stamp, info)
            _store(store, root, known)
        found |= new
    return found


def index_file(root: Path, index: Index = True) -> Path:
    """The file that the index of a root is kept in."""
    folder = user_cache() / "index" if isinstance(index, bool) else Path(index)
    root = root.resolve()
    return folder / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def _look(files: Sequence[Path], root: Path, cutouts: bool) -> dict[Path, FileInfo]:
    many = len(files) >= _MANY
    workers = cores()
    pool: Executor
    if many and workers > 1 and sys.platform == "linux":
        # Forked, as loaders' workers are: spawned ones would import the whole program again.
        pool = ProcessPoolExecutor(workers, get_context("fork"), be_a_worker)
    else:
        pool = ThreadPoolExecutor(workers)  # decoding lets go of the interpreter lock
    console = Console(highlight=False)
    what = f"Looking into {len(files)} files of {root}"
    if many and not console.is_terminal:
        console.print(what, soft_wrap=True)
    with pool:
        found = pool.map(partial(inspect_file, cutouts=cutouts), files, chunksize=64)
        hidden = not (many and console.is_terminal)
        return dict(zip(files, track(found, what, len(files), console=console, disable=hidden), strict=True))


def _stamps(files: Sequence[Path]) -> dict[Path, _Stamp | None]:
    """Size and time of change; None for a file that cannot be asked."""

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
        log.warning("%s: no usable index (%s); it is made anew", store, error)
        return {}


def _store(store: Path, root: Path, known: dict[str, tuple[_Stamp, FileInfo]]) -> None:
    files = {name: [*stamp, *info.size, info.areas] for name, (stamp, info) in sorted(known.items())}
    content = {"version": VERSION, "root": str(root.resolve()), "files": files}
    try:
        write_text(store, json.dumps(content, separators=(",", ":")))
    except OSError as error:
        log.warning("%s: the index cannot be kept (%s); the files are looked into each time", store, error)


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Alone with the index among all processes (of other machines, where the file system tells them)."""
    with contextlib.ExitStack() as stack:
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(store.with_suffix(".lock")))
            clear(store.parent, glob.escape(store.stem))
        except (OSError, NotImplementedError) as error:  # a read-only folder, a file system without locks
            log.warning("%s: not locked (%s)", store, error)
        yield
