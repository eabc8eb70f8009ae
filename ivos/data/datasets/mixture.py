"""Several data sets in one, drawn from by weight."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ivos.runtime.errors import listing
from ivos.video.files import DataError
from ivos.video.video import VideoSet


class Part(NamedTuple):
    """A set of a mixture, and the share of the mini-sequences that come from it, before normalisation."""

    videos: VideoSet
    weight: float


class Mixture:
    """Data sets that are drawn from by weight.

    Args:
        sets: what opens each of the sets, by name.
        weights: of the mini-sequences of each set; they need not sum to 1. A set of weight 0 is not opened.

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
