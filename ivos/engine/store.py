"""Features of a video's frames, each computed once."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class FeatureStore(Generic[T]):
    """Keeps what ``compute(frame)`` gives, for as long as the video is worked on.

    Args:
        compute: from a frame's index to its features.
    """

    def __init__(self, compute: Callable[[int], T]) -> None:
        self._compute = compute
        self._kept: dict[int, T] = {}

    def __getitem__(self, frame: int) -> T:
        if frame not in self._kept:
            self._kept[frame] = self._compute(frame)
        return self._kept[frame]
