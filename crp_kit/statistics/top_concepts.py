"""Concepts that are among the strongest of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["among_top"]

_VALUES_AT_ONCE = 1 << 18
"""Few enough for the processor's cache."""


def among_top(values: npt.NDArray[Any], m: int) -> npt.NDArray[np.bool_]:
    """Return which concepts are among the `m` strongest of each sample, (sample, concept).

    A concept is if its value is positive and fewer than `m` concepts have a higher one: equal values are all in or all
    out, and a sample with fewer positive values has fewer concepts.

    Parameters
    ----------
    values : numpy.ndarray
        (sample, concept).
    m : int
        From 1 to the number of concepts.

    Examples
    --------
    >>> among_top(np.array([[0.5, 0.2, 0.2, -1.0], [0.0, 0.3, 0.0, 0.0]]), 2).astype(int)
    array([[1, 1, 1, 0],
           [0, 1, 0, 0]])
    """
    strongest = np.empty(values.shape, np.bool_)
    step = max(1, _VALUES_AT_ONCE // max(values.shape[1], 1))
    for start in range(0, len(values), step):
        part = values[start : start + step]
        # Sorting whole rows takes less time than np.partition, which is not vectorised for every type.
        least = np.sort(part, axis=1)[:, -m, None]
        strongest[start : start + step] = (part >= least) & (part > 0)
    return strongest
