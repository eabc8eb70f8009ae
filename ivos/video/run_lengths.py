"""COCO's run lengths of masks, as in the JSON of COCO, YouTube-VIS and SA-V."""

from collections.abc import Mapping
from typing import Any

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


def decode_runs(code: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Decode a mask of COCO's run lengths.

    Runs go down the columns and begin with background.

    Args:
        code: ``size`` (height, width) and ``counts``, as they are in COCO's and SA-V's JSON; see
            :func:`lengths`.

    Returns:
        uint8 [h, w] of 0 and 1.

    Raises:
        ValueError: The run lengths are not of that form, or do not fill the mask.
    """
    height, width = (int(side) for side in code["size"])
    runs = lengths(code)
    values = np.arange(len(runs), dtype=np.uint8) % 2
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def lengths(code: Mapping[str, Any]) -> list[int]:
    """Return the lengths of the runs of a mask, of background and object by turns.

    Each is a number in base 32, its lowest digit first, in characters from ``0`` up; a digit with the bit 32
    is not the last, and 16 in the last is the sign. From the third on, they are differences from the run
    before the previous one. COCO's uncompressed form is a list of the lengths.

    Raises:
        ValueError: The run lengths are not of that form, or do not fill the mask.
    """
    height, width = (int(side) for side in code["size"])
    counts = code["counts"]
    runs = [int(run) for run in counts] if isinstance(counts, list) else _decompressed(counts)
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"run lengths of {sum(runs)} pixels for a mask of {width}x{height}")
    return runs


def _decompressed(counts: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise ValueError(f"a character {character!r} in run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (digit & 16 and 1) << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("run lengths that end within a number")
    return runs
