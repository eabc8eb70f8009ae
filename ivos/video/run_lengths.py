"""Compressed run lengths of masks, as in COCO."""

import numpy as np
from numpy.typing import NDArray


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """Return a mask [h, w] as compressed run lengths of COCO (column by column, zeros first).

    A run is written as its difference to the run two before (from the fourth on), five bits a letter, lowest
    first, with a sixth that says whether another follows; 48 is added to make it printable.

    >>> encode_runs(np.array([[0, 1], [1, 1]], bool))
    '13'
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(changes, prepend=0).tolist()
    letters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr((bits | (32 if more else 0)) + 48))
            if not more:
                break
    return "".join(letters)


def decode_runs(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask [h, w] of compressed run lengths of COCO; size is (height, width)."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size, order="F")
