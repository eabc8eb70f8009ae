"""Cache of synthetic data sets in DAVIS layout, in folders named by a hash of all parameters."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout

from ivos.data.datasets.davis import DavisFolder
from ivos.data.synthetic.config import SyntheticSpec
from ivos.data.synthetic.davis_writer import write_davis
from ivos.data.synthetic.sprites import picture_files, sprite_files
from ivos.runtime.options import MAX_WORKERS, NULL, options_go_to, whole
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.video.files import DataError
from ivos.video.index import Index, user_cache

VERSION = 3  # version of the generator; it changes whenever the same parameters give different clips
SPLITS = ("train", "val")
_WORKERS = NULL | whole(1, MAX_WORKERS)
_LOCKS = ".locks"  # folder of the lock files of processes that create a set


@accept_former_keywords(subset="split")
@options_go_to(SyntheticSpec)
def open_synthetic(
    split: str = "val",
    sequences: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    num_workers: Annotated[int | None, _WORKERS] = None,
    index: Index = True,
    clips: Mapping[str, Any] | None = None,
    **spec: Any,
) -> DavisFolder:
    """Open a set of synthetic clips; the clips are created unless they are in the cache.

    Args:
        split: ``train`` or ``val``, which have different clips.
        sequences: See :class:`ivos.data.datasets.davis.DavisFolder`.
        cache_dir: See :func:`synthetic_davis`.
        num_workers: See :func:`write_davis`.
        index: See :class:`ivos.data.datasets.davis.DavisFolder`.
        clips: Settings that several sets share: values of :class:`SyntheticSpec`, ``cache_dir`` and
            ``num_workers``. The other arguments override them.
        spec: Values of :class:`SyntheticSpec`.

    Raises:
        DataError: A setting is invalid, or the cache folder cannot be used.
    """
    spec = {**(clips or {}), **spec}
    shared_dir, shared_workers = spec.pop("cache_dir", None), spec.pop("num_workers", None)
    cache_dir = shared_dir if cache_dir is None else cache_dir
    num_workers = shared_workers if num_workers is None else num_workers
    if split not in SPLITS:
        raise DataError(f"synthetic video has no split {split!r}; it has: {', '.join(SPLITS)}")
    if not _WORKERS.holds(num_workers):
        raise DataError(f"synthetic video: num_workers: must be {_WORKERS.words}, got {num_workers!r}")
    try:
        described = SyntheticSpec(**spec, stream=split)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    return DavisFolder(
        synthetic_davis(cache_dir, {split: described}, num_workers), split, sequences, index=index
    )


def synthetic_davis(
    cache_dir: str | Path | None, specs: Mapping[str, SyntheticSpec], num_workers: int | None = None
) -> Path:
    """Return a folder in DAVIS layout with synthetic clips; it is created unless it is in the cache.

    The set is written to a temporary folder, which is renamed when it is complete, so that a killed process
    leaves no incomplete set. If several processes request the same set, one creates it and the others wait.
    Temporary folders of killed processes are deleted.

    Args:
        cache_dir: Folder of the cache; None uses the folder ``ivos`` in the user's cache folder.
        specs: Settings of the clips of each split.
        num_workers: See :func:`write_davis`.

    Returns:
        The folder, which also contains ``parameters.json``.

    Raises:
        DataError: A folder of sprites or backgrounds, or ``cache_dir``, cannot be used.
    """
    text = json.dumps(_parameters(specs), indent=2, sort_keys=True)
    home = Path(cache_dir) if cache_dir is not None else user_cache()
    root = home / f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if root.is_dir():
        return root
    try:
        (home / _LOCKS).mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_of(root)):
            if not root.is_dir():
                _make(root, specs, text, num_workers)
        _sweep(home)
    except OSError as error:
        raise DataError(
            f"{home}: synthetic clips cannot be stored here ({error.strerror or error}); "
            "name another folder by data.cache_dir=FOLDER"
        ) from error
    return root


def _make(root: Path, specs: Mapping[str, SyntheticSpec], text: str, num_workers: int | None) -> None:
    """Create a set; the caller must hold its lock."""
    with _aside(root) as aside:
        for split, spec in specs.items():
            write_davis(spec, aside, split, num_workers)
        (aside / "parameters.json").write_text(text + "\n")
        aside.rename(root)


@contextlib.contextmanager
def _aside(root: Path) -> Iterator[Path]:
    """Return a context with an empty temporary folder for a set; the folder is deleted at the end."""
    aside = root.with_name(f".{root.name}.making")
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed process, because this one holds the lock
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Delete the temporary folders of killed processes, whose locks are free."""
    for aside in home.glob(".synthetic-*"):
        with contextlib.suppress(Timeout), FileLock(_lock_of(aside), timeout=0):
            shutil.rmtree(aside, ignore_errors=True)


def _lock_of(folder: Path) -> Path:
    """Return the lock file of a set, for its folder or its temporary folder."""
    name = folder.name.removeprefix(".").removesuffix(".making")
    return folder.with_name(_LOCKS) / f"{name}.lock"


def _parameters(specs: Mapping[str, SyntheticSpec]) -> dict[str, Any]:
    """Return all parameters of the clips, including names, sizes and modification times of used pictures."""
    found: dict[str, Any] = {"version": VERSION}
    for split, spec in specs.items():
        found[split] = dataclasses.asdict(spec)
        files: list[Path] = []
        if spec.backgrounds is not None:
            files += picture_files(Path(spec.backgrounds))
        if spec.sprites is not None:
            files += [path for pair in sprite_files(spec.sprites) for path in pair]
        found[f"{split} pictures"] = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return found
