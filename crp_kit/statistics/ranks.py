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
    lines = np.moveaxis(np.asarray(values), axis, -1)
    ranks = np.empty(lines.shape)
    each = lines.shape[-1]
    count, plain = lines.size // max(each, 1), np.arange(1.0, each + 1)
    # Not by SciPy, whose statistics take a second to import, and which sorts all at once, beyond the processor's cache.
    for line, rank in zip(lines.reshape(count, each), ranks.reshape(count, each), strict=True):
        order = np.argsort(line)
        ordered = line[order]
        differs = ordered[1:] != ordered[:-1]
        if differs.all():
            rank[order] = plain
            continue
        last = np.append(np.flatnonzero(differs) + 1, each)
        size = np.diff(last, prepend=0)
        rank[order] = np.repeat(last - (size - 1) / 2, size)
    return np.moveaxis(ranks, -1, axis)


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
