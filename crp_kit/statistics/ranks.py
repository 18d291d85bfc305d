"""Ranks of values, of which equal ones share the mean of their ranks, and areas under ROC curves from their sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Floats

__all__ = ["auc_of_sums", "mid_ranks"]


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


def auc_of_sums(sums: Floats, count: Floats, rows: int) -> Floats:
    """Return the AUC of groups of rows from the sums of their ranks: NaN where a group has no row, or all.

    It is the chance that a row of the group has the higher value; equal values count half.

    Parameters
    ----------
    sums, count : array
        Sum of ranks, as `mid_ranks` returns them, and number of rows, of each group; they broadcast.
    rows : int
        Rows of all.

    References
    ----------
    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143, 1982.

    Examples
    --------
    >>> ranks = mid_ranks(np.array([[0.1], [0.2], [0.2], [0.9]]))
    >>> auc_of_sums(ranks[2:].sum(0), np.array([2.0]), 4).tolist()
    [0.875]
    """
    pairs = count * (rows - count)
    area: Floats = (sums - count * (count + 1) / 2) / np.where(pairs > 0, pairs, np.nan)
    return area
