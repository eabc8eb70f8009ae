"""COCO's run-length encoding of masks, as in the JSON files of COCO, YouTube-VIS and SA-V."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """Encode a mask [h, w] as COCO's compressed run lengths (column by column, beginning with zeros).

    From the fourth run on, the difference to the run before the previous one is written. A number is written
    in characters of five bits, lowest bits first. A sixth bit of a character is set if another character of
    the same number follows. Adding 48 makes the characters printable.

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
    """Decode a mask from COCO's run lengths, which go down the columns and begin with background.

    Args:
        code: A dictionary with ``size`` (height, width) and ``counts``, as in the JSON files of COCO and
            SA-V; see :func:`lengths`.

    Returns:
        uint8 [h, w] of 0 and 1.

    Raises:
        ValueError: The run lengths are malformed, or do not fill the mask.
    """
    height, width = (int(side) for side in code["size"])
    runs = lengths(code)
    values = np.arange(len(runs), dtype=np.uint8) % 2
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def lengths(code: Mapping[str, Any]) -> list[int]:
    """Return the lengths of the runs of a mask, alternately of background and object.

    In COCO's compressed form, each number is written in base 32, lowest digit first, in characters from ``0``
    up. Bit 32 of a character is set if more digits of the number follow; bit 16 of the last digit is the
    sign. From the fourth number on, a number is the difference from the run before the previous one. COCO's
    uncompressed form is a list of the lengths.

    Raises:
        ValueError: The run lengths are malformed, or do not fill the mask.
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
            raise ValueError(f"the character {character!r} is not possible in run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (digit & 16 and 1) << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the run lengths end within a number")
    return runs
