"""Data that depend on ``data.root``: a folder in DAVIS layout, or else synthetic clips or a mixture."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.mixture import Mixture
from ivos.data.synthetic import open_synthetic
from ivos.runtime.errors import listing
from ivos.runtime.options import options_go_to
from ivos.runtime.renamed_options import accept_former_keywords
from ivos.runtime.unused_options import ignores
from ivos.video.files import DataError
from ivos.video.index import Index
from ivos.video.video import VideoSet


def _unused_beside_root(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that :func:`folder_or_synthetic` ignores; see :func:`ignores`."""
    if options.get("root") is None:
        why = "it applies to a folder in DAVIS layout; name one by data.root=FOLDER, or omit it"
        return dict.fromkeys(("year", "resolution"), why)
    why = f"it applies to synthetic clips, but data.root={options['root']} names a folder; omit one of them"
    return {name: why for name in options if name not in inspect.signature(DavisFolder).parameters}


@ignores(_unused_beside_root)
@accept_former_keywords(subset="split")
@options_go_to(open_synthetic)
def folder_or_synthetic(
    root: str | Path | None = None,
    split: str = "val",
    sequences: Sequence[str] | None = None,
    year: str = "2017",
    resolution: str = "480p",
    index: Index = True,
    **synthetic: Any,
) -> DavisFolder:
    """Open a folder in DAVIS layout, or synthetic clips if no folder is named (``conf/data/default.yaml``).

    Args:
        root: Folder in DAVIS layout; None for synthetic clips.
        split: See :class:`ivos.data.datasets.davis.DavisFolder`; synthetic clips have ``train`` and ``val``.
        sequences: See :class:`ivos.data.datasets.davis.DavisFolder`.
        year: See :class:`ivos.data.datasets.davis.DavisFolder`; ignored for synthetic clips.
        resolution: See :class:`ivos.data.datasets.davis.DavisFolder`; ignored for synthetic clips.
        index: See :class:`ivos.data.datasets.davis.DavisFolder`.
        synthetic: Options of :func:`ivos.data.synthetic.open_synthetic`; ignored for a folder.

    Raises:
        DataError: The folder cannot be used, or an option is invalid.
    """
    if root is None:
        return open_synthetic(split, sequences, index=index, **synthetic)
    return DavisFolder(root, split, sequences, year, resolution, index)


def _unused_beside_folder(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that :func:`folder_or_mixture` ignores; see :func:`ignores`."""
    if options.get("root") is None:
        return {"folder": "it applies to the folder of data.root=FOLDER; name a folder, or omit it"}
    why = f"it applies to a mixture, but data.root={options['root']} names a folder; omit one of them"
    return dict.fromkeys(("sets", "weights"), why)


@ignores(_unused_beside_folder)
def folder_or_mixture(
    root: str | Path | None,
    folder: Callable[..., DavisFolder],
    sets: Mapping[str, partial[VideoSet]],
    weights: Mapping[str, float],
) -> DavisFolder | Mixture:
    """Open a folder in DAVIS layout, or a mixture if no folder is named (``conf/data/anet.yaml``).

    Args:
        root: Folder in DAVIS layout; None for the mixture.
        folder: Function that opens the folder.
        sets: See :class:`ivos.data.datasets.mixture.Mixture`; the keyword ``root`` of each names its folder.
        weights: See :class:`ivos.data.datasets.mixture.Mixture`.

    Raises:
        DataError: The folder or the data sets cannot be used, or both are named.
    """
    if root is None:
        return Mixture(sets, weights)
    named = [name for name, each in sets.items() if each.keywords.get("root") not in (None, root)]
    if named:
        raise DataError(
            f"data.root={root} replaces all training data, but folders are also named for "
            f"{listing(named)}; name DAVIS by data.davis_root=FOLDER instead"
        )
    return folder(root=root)
