"""Mixtures of data sets with weights for random sampling."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ivos.runtime.errors import listing
from ivos.video.files import DataError
from ivos.video.video import VideoSet


class Part(NamedTuple):
    """A data set of a mixture, and its unnormalised share of the mini-sequences."""

    videos: VideoSet
    weight: float


class Mixture:
    """Mixture of data sets, from which mini-sequences are sampled according to weights.

    Args:
        sets: Functions that open the data sets, by name.
        weights: Weights of the data sets, by name; the sum need not be 1. A set with weight 0 is not opened.

    Raises:
        DataError: A weight is missing, unknown or negative, or a data set cannot be used; the message lists
            the faults of all data sets.
    """

    def __init__(self, sets: Mapping[str, Callable[[], VideoSet]], weights: Mapping[str, float]) -> None:
        if set(sets) != set(weights):
            unpaired = set(sets) ^ set(weights)
            raise DataError(
                f"mixture: each set needs a weight, and each weight a set; unpaired: {listing(unpaired)}"
            )
        if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
            raise DataError(f"mixture: weights must be 0 or more, and not all 0, got {dict(weights)}")
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
