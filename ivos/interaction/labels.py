"""What can be told from labels: 0 the background, 1..N the objects, 255 void."""

import numpy as np
from numpy.typing import NDArray

VOID = 255


def areas(labels: NDArray[np.integer], num_objects: int) -> NDArray[np.int64]:
    """Pixels of each object on each frame [T, N], of labels [T, h, w]."""
    counts = [np.bincount(frame.ravel(), minlength=VOID + 1) for frame in labels]
    return np.stack(counts)[:, 1 : num_objects + 1]


def most_telling_frames(labels: NDArray[np.integer], num_objects: int) -> list[int]:
    """The frames of a video in the order in which a user would think of annotating one.

    First those that show most of the objects, of these those whose smallest object is largest, of these the
    earliest.
    """
    shown = areas(labels, num_objects)
    smallest = np.where(shown > 0, shown, shown.max(initial=0) + 1).min(axis=1, initial=labels[0].size + 1)
    return sorted(range(len(labels)), key=lambda i: (-(shown[i] > 0).sum(), -smallest[i], i))
