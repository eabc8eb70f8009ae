"""Locks: frames, and objects on frames, whose masks may not be changed by rounds and edits."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass
class Locks:
    """The locked frames by object number; number 0 stands for the whole frame ("reviewed")."""

    locked: dict[int, set[int]] = field(default_factory=dict)

    def change(self, low: int, high: int, number: int, locked: bool) -> frozenset[int]:
        """Lock or unlock an object on the frames from `low` to `high`.

        Returns:
            The frames on which the object was locked before, for :meth:`restore`.
        """
        frames = self.locked.setdefault(number, set())
        before = frozenset(frames)
        if locked:
            frames.update(range(low, high + 1))
        else:
            frames.difference_update(range(low, high + 1))
        if not frames:
            del self.locked[number]
        return before

    def restore(self, number: int, frames: Collection[int]) -> None:
        """Lock an object on the given frames, and unlock it on all others."""
        if frames:
            self.locked[number] = set(frames)
        else:
            self.locked.pop(number, None)

    def frames(self, number: int) -> frozenset[int]:
        """Return the frames on which an object is locked; number 0 stands for the whole frame."""
        return frozenset(self.locked.get(number, ()))

    def is_locked(self, frame: int, number: int) -> bool:
        """Return whether a frame, or an object on it, is locked."""
        return frame in self.locked.get(0, ()) or frame in self.locked.get(number, ())

    def objects_on(self, frame: int) -> list[int]:
        """Return the objects that are locked individually on a frame."""
        return sorted(number for number, frames in self.locked.items() if number and frame in frames)

    def frames_with_objects(self) -> list[int]:
        """Return the frames on which objects are locked individually."""
        found: set[int] = set()
        for number, frames in self.locked.items():
            found |= frames if number else set()
        return sorted(found)

    def ranges(self) -> dict[str, list[list[int]]]:
        """Return the locked ranges [[first, last], ...] of every object, with the numbers as JSON keys."""
        return {str(number): ranges(frames) for number, frames in sorted(self.locked.items())}


def ranges(frames: Iterable[int]) -> list[list[int]]:
    """Return the sorted ranges [[first, last], ...] of consecutive frames.

    >>> ranges({5, 1, 2, 3, 7})
    [[1, 3], [5, 5], [7, 7]]
    """
    found: list[list[int]] = []
    for frame in sorted(frames):
        if found and frame == found[-1][1] + 1:
            found[-1][1] = frame
        else:
            found.append([frame, frame])
    return found
