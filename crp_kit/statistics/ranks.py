"""Ranks of values; equal ones share the mean of their ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Floats

__all__ = ["mid_ranks"]


def mid_ranks(values: Any, axis: int = 0) -> Floats:
    """Return the rank of each value along an axis, from 1.

    Parameters
    ----------
    values : array
        (row, concept), without NaN.
    axis : int, optional
        By default a value is ranked among those of its column.

    Examples
    --------
    >>> mid_ranks(np.array([[0.5], [0.1], [0.5]])).ravel().tolist()
    [2.5, 1.0, 2.5]
    """
    from scipy.stats import rankdata

    ranks: Floats = rankdata(values, axis=axis)
    return ranks.astype(np.float64, copy=False)
