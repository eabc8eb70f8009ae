"""Which frames a round touches, and how much of the new result each of them takes over."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """The frames ``start..end`` around the annotated frame, and the blending weight of each new result."""

    annotated: int
    start: int
    end: int
    weights: dict[int, float]

    @property
    def backward(self) -> range:
        """Frames before the annotated one, in the order of propagation."""
        return range(self.annotated - 1, self.start - 1, -1)

    @property
    def forward(self) -> range:
        """Frames after the annotated one, in the order of propagation."""
        return range(self.annotated + 1, self.end + 1)

    def blend(self, frame: int, old: Tensor, new: Tensor) -> None:
        """Blend a frame's new probabilities into its old ones, in place; of any shape, on any device."""
        weight = self.weights[frame]
        old.mul_(1 - weight).add_(new.to(old), alpha=weight)


def plan_round(annotated: int, earlier: Collection[int], num_frames: int) -> Plan:
    """Plan the propagation from a frame.

    It goes as far as the nearest frames annotated in other rounds (or the ends of the video), pulled in by a
    hundredth of the way. The nearer a frame is to such a neighbour, the more of its old result it keeps.

    Args:
        annotated: the frame annotated in this round, 0..T-1.
        earlier: frames annotated in earlier rounds (``annotated`` itself among them changes nothing).
        num_frames: T.
    """
    before = max((frame for frame in earlier if frame < annotated), default=None)
    after = min((frame for frame in earlier if frame > annotated), default=None)
    start, end = 0, num_frames - 1
    if before is not None:
        start = annotated - int((annotated - (before + 1)) * 0.99 + 0.5)
    if after is not None:
        end = annotated + int((after - 1 - annotated) * 0.99 + 0.5)
    weights = {}
    for frame in range(start, end + 1):
        neighbour = before if frame < annotated else after
        if frame == annotated or neighbour is None:
            weights[frame] = 1.0
        else:
            weights[frame] = 0.5 + 0.5 * abs(frame - neighbour) / abs(annotated - neighbour)
    return Plan(annotated, start, end, weights)
