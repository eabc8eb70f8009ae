"""Functions for masks of labels: 0 is the background, 1..N are the objects, 255 is void."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

VOID = 255


def areas(labels: NDArray[np.integer], num_objects: int) -> NDArray[np.int64]:
    """Count the pixels of each object on each frame, int64 [T, N], in labels [T, h, w]."""
    counts = [np.bincount(frame.ravel(), minlength=VOID + 1) for frame in labels]
    return np.stack(counts)[:, 1 : num_objects + 1]


def object_labels(found: Iterable[int]) -> tuple[int, ...]:
    """Return the labels of a video's objects, in order.

    Masks whose only values are 0 and 255 are binary masks, in which 255 is the label of an object, not void.

    Args:
        found: All values in the mask files of one video.
    """
    values = set(found)
    return tuple(sorted(values - {0, VOID})) or tuple(values & {VOID})


def renumber(labels: NDArray[np.uint8], file_labels: Sequence[int]) -> NDArray[np.uint8]:
    """Replace the labels of files by object numbers: the k-th label becomes k (from 1), any other label 0.

    Void stays void unless it is the label of an object; see :func:`object_labels`.
    """
    numbers = np.zeros(VOID + 1, np.uint8)
    numbers[VOID] = VOID
    numbers[list(file_labels)] = np.arange(1, len(file_labels) + 1)
    return numbers[labels]


def known_pairs(begins: Sequence[int], num_frames: int, num_objects: int) -> NDArray[np.bool_]:
    """Return which objects are annotated on which frames, bool [T, N].

    Args:
        begins: The first annotated frame of each object. On earlier frames the object's position is not
            annotated, and its mask cannot be scored. Empty if all objects are annotated from frame 0.
        num_frames: Number of frames T.
        num_objects: Number of objects N.
    """
    first = np.array(begins or (0,) * num_objects, np.int64)
    known: NDArray[np.bool_] = np.arange(num_frames)[:, None] >= first
    return known


def most_telling_frames(labels: NDArray[np.integer], num_objects: int) -> list[int]:
    """Sort the frames of a video by how useful their annotation is, the most useful first.

    The order is by the number of visible objects, then by the area of the smallest visible object, then by
    time.
    """
    shown = areas(labels, num_objects)
    smallest = np.where(shown > 0, shown, shown.max(initial=0) + 1).min(axis=1, initial=labels[0].size + 1)
    return sorted(range(len(labels)), key=lambda i: (-(shown[i] > 0).sum(), -smallest[i], i))
