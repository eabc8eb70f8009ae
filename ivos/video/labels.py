"""What can be told from labels: 0 the background, 1..N the objects, 255 void."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

VOID = 255


def areas(labels: NDArray[np.integer], num_objects: int) -> NDArray[np.int64]:
    """Pixels of each object on each frame [T, N], of labels [T, h, w]."""
    counts = [np.bincount(frame.ravel(), minlength=VOID + 1) for frame in labels]
    return np.stack(counts)[:, 1 : num_objects + 1]


def known_pairs(begins: Sequence[int], num_frames: int, num_objects: int) -> NDArray[np.bool_]:
    """Which objects the masks tell of on which frames, bool [T, N].

    Args:
        begins: the frame that the masks of each object begin on; before it, where the object is has not been
            annotated, and no mask there is right or wrong. Empty: all begin on frame 0.
        num_frames: T.
        num_objects: N.
    """
    first = np.array(begins or (0,) * num_objects, np.int64)
    known: NDArray[np.bool_] = np.arange(num_frames)[:, None] >= first
    return known


def most_telling_frames(labels: NDArray[np.integer], num_objects: int) -> list[int]:
    """The frames of a video in the order in which a user would think of annotating one.

    First those that show most of the objects, of these those whose smallest object is largest, of these the
    earliest.
    """
    shown = areas(labels, num_objects)
    smallest = np.where(shown > 0, shown, shown.max(initial=0) + 1).min(axis=1, initial=labels[0].size + 1)
    return sorted(range(len(labels)), key=lambda i: (-(shown[i] > 0).sum(), -smallest[i], i))
