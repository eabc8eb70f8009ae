"""What is opened where it depends on ``data.root``: the folder that it names, or something else."""

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
        why = "only a folder in DAVIS layout has it; name one by data.root=FOLDER, or leave it out"
        return dict.fromkeys(("year", "resolution"), why)
    why = f"it is for synthetic clips, but data.root={options['root']} names a folder; leave one of them out"
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
    """Open the folder in DAVIS layout that is named, or synthetic clips (``conf/data/default.yaml``).

    Args:
        root: the folder; None for synthetic clips.
        split: see :class:`ivos.data.datasets.davis.DavisFolder`; synthetic clips have ``train`` and ``val``.
        sequences: see there.
        year: see there; of no matter to synthetic clips, as the next.
        resolution: see there.
        index: see there.
        synthetic: see :func:`ivos.data.synthetic.open_synthetic`; of no matter to a folder.

    Raises:
        DataError: what is wrong with the folder, or with a parameter.
    """
    if root is None:
        return open_synthetic(split, sequences, index=index, **synthetic)
    return DavisFolder(root, split, sequences, year, resolution, index)


def _unused_beside_folder(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that :func:`folder_or_mixture` ignores; see :func:`ignores`."""
    if options.get("root") is None:
        return {"folder": "it is for the folder that data.root=FOLDER names; name one, or leave it out"}
    why = f"it is for a mixture, but data.root={options['root']} names a folder; leave one of them out"
    return dict.fromkeys(("sets", "weights"), why)


@ignores(_unused_beside_folder)
def folder_or_mixture(
    root: str | Path | None,
    folder: Callable[..., DavisFolder],
    sets: Mapping[str, partial[VideoSet]],
    weights: Mapping[str, float],
) -> DavisFolder | Mixture:
    """Open the folder in DAVIS layout that is named, or a mixture (``conf/data/anet.yaml``).

    Args:
        root: the folder; None for the mixture.
        folder: opens it.
        sets: see :class:`ivos.data.datasets.mixture.Mixture`; each knows its ``root``.
        weights: see there.

    Raises:
        DataError: what is wrong with the folder or the sets, or both are named.
    """
    if root is None:
        return Mixture(sets, weights)
    named = [name for name, each in sets.items() if each.keywords.get("root") not in (None, root)]
    if named:
        raise DataError(
            f"data.root={root} takes the place of all training data, but a folder is named for "
            f"{listing(named)} too; name DAVIS by data.davis_root=FOLDER instead"
        )
    return folder(root=root)
