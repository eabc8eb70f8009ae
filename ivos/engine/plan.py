"""The plan of a round: the frames that it changes, and the weights that blend new results into old ones."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """The range ``start..end`` of frames that a round changes, and the weight of each frame's new result."""

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
        """Blend a frame's new probabilities into its old ones, in place; shapes and devices are arbitrary."""
        weight = self.weights[frame]
        old.mul_(1 - weight).add_(new.to(old), alpha=weight)


def plan_round(annotated: int, earlier: Collection[int], num_frames: int) -> Plan:
    """Plan the propagation from an annotated frame.

    In each direction the propagation ends before the nearest frame annotated in an earlier round, at 99 % of
    the distance, or else at the end of the video. The closer a frame is to that earlier annotated frame, the
    more of its old result it keeps.

    Args:
        annotated: Index of the frame annotated in this round, 0..T-1.
        earlier: Indices of the frames annotated in earlier rounds; ``annotated`` itself is ignored.
        num_frames: Number of frames T.
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
