"""Means of scores that leave out what is not known."""

import numpy as np
from numpy.typing import NDArray


def mean_over(values: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """The mean along an axis (None: of all) of the values that are no NaN; NaN where there are none.

    >>> mean_over(np.array([[0.5, np.nan], [np.nan, np.nan]]), axis=1).tolist()
    [0.5, nan]
    """
    unknown = np.isnan(values)
    if values.size and not unknown.any():  # NumPy's own order of adding up
        return np.asarray(values.mean(axis=axis))
    count = (~unknown).sum(axis=axis)
    total = np.where(unknown, 0, values).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
