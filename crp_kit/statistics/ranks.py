"""Ranks of values, of which equal ones share the mean of their ranks, and areas under ROC curves from their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr

from .arrays import Floats

__all__ = ["auc_deviations", "auc_of_sums", "mid_ranks", "rank_sum_p"]


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


def auc_deviations(areas: Floats, ranks: Floats, count: Any) -> Floats:
    """Return by how many standard deviations an AUC is above 0.5: the test of Mann and Whitney.

    Deviations are those of groups that do not differ, by the normal approximation, with the correction for ties. NaN
    where there is no AUC, or all values are equal.

    Parameters
    ----------
    areas : array
        (concept,).
    ranks : array
        (row, concept), as `mid_ranks` returns them.
    count : array
        Rows of the group, (concept,) or one for all.

    References
    ----------
    Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other",
    Annals of Mathematical Statistics 18, 1947.

    Examples
    --------
    >>> ranks = mid_ranks(np.arange(8.0)[:, None])
    >>> auc_deviations(np.array([1.0]), ranks, 4).round(4).tolist()
    [2.3094]
    """
    rows = len(ranks)
    pairs = np.asarray(count, np.float64) * (rows - np.asarray(count))
    # The variance of the ranks themselves holds the correction for ties.
    variance = ranks.var(0, ddof=1) / np.where(pairs > 0, rows * pairs, np.nan)
    deviations: Floats = (areas - 0.5) / np.sqrt(np.where(variance > 0, variance, np.nan))
    return deviations


def rank_sum_p(areas: Floats, ranks: Floats, count: Any) -> Floats:
    """Return the two-sided p-value of an AUC of 0.5: (concept,); parameters as of `auc_deviations`.

    Examples
    --------
    >>> ranks = mid_ranks(np.arange(8.0)[:, None])
    >>> rank_sum_p(np.array([1.0]), ranks, 4).round(4).tolist()
    [0.0209]
    """
    p: Floats = 2 * ndtr(-np.abs(auc_deviations(areas, ranks, count)))
    return p
