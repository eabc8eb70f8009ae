"""Several data sets in one, drawn from by weight."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data.davis import DavisFolder
from data.files import DataError, listing
from data.index import Index
from data.videos import VideoSet


class Part(NamedTuple):
    """A set of a mixture, and the share of the samples that come from it, before normalisation."""

    videos: VideoSet
    weight: float


class Mixture:
    """Data sets that are drawn from by weight.

    Args:
        sets: what opens each of the sets, by name.
        weights: of the samples of each set; they need not sum to 1. A set of weight 0 is not opened.

    Raises:
        DataError: a weight is missing, unknown or negative; or all that is wrong with all of the sets.
    """

    def __init__(self, sets: Mapping[str, Callable[[], VideoSet]], weights: Mapping[str, float]) -> None:
        if set(sets) != set(weights):
            odd = set(sets) ^ set(weights)
            raise DataError(
                f"mixture: each set needs a weight, and each weight a set; one lacks: {listing(odd)}"
            )
        if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
            raise DataError(f"mixture: weights of 0 or more, not all of them 0, are needed: {dict(weights)}")
        self.parts: dict[str, Part] = {}
        faults: list[DataError] = []
        for name, weight in weights.items():
            try:
                if weight:
                    self.parts[name] = Part(sets[name](), weight)
            except DataError as error:
                faults.append(error)
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise DataError(
                "mixture: several sets cannot be used",
                [line for fault in faults for line in (fault.headline, *(f"  {p}" for p in fault.problems))],
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}: " + ", ".join(f"{p.weight} {p.videos!r}" for p in self.parts.values())


def open_mixture(
    sets: Mapping[str, partial[VideoSet]],
    weights: Mapping[str, float],
    root: str | Path | None = None,
    subset: str = "train",
    year: str = "2017",
    resolution: str = "480p",
    index: Index = True,
) -> Mixture | DavisFolder:
    """A mixture, or, if one is named, a single folder in DAVIS layout in its place.

    Args:
        sets: see :class:`Mixture`; each knows its ``root``.
        weights: see :class:`Mixture`.
        root: the folder that takes the mixture's place.
        subset: of that folder; see :class:`data.davis.DavisFolder`, as for the rest.
        year: see there.
        resolution: see there.
        index: see there.

    Raises:
        DataError: what is wrong with the sets or with the folder, or both are named.
    """
    if root is not None:
        named = [name for name, each in sets.items() if each.keywords.get("root") not in (None, root)]
        if named:
            raise DataError(
                f"data.root={root} takes the place of all training data, but a folder is named for "
                f"{listing(named)} too; name DAVIS by data.davis_root=FOLDER instead"
            )
        return DavisFolder(root, subset, None, year, resolution, index)
    return Mixture(sets, weights)
