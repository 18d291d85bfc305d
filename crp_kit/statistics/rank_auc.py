"""Areas under the ROC curve of many scores for many groups of rows at once, by mid-ranks."""

from __future__ import annotations

import numpy as np

from .arrays import Bools, Floats

__all__ = ["auc_of_sums", "rank_auc"]


def auc_of_sums(sums: Floats, count: Floats, rows: int) -> Floats:
    """Return the AUC of groups from the sums of their ranks: NaN where a group has no row, or all.

    Parameters
    ----------
    sums, count : array
        Sum of ranks, and number of rows, of each group; they broadcast.
    rows : int
        Rows of all.
    """
    pairs = count * (rows - count)
    area: Floats = (sums - count * (count + 1) / 2) / np.where(pairs > 0, pairs, np.nan)
    return area


def rank_auc(ranks: Floats, groups: Bools) -> Floats:
    """Return the AUC of each column for each group of rows: the chance that a row of the group has the higher value.

    Equal values count half.

    Parameters
    ----------
    ranks : array
        (row, concept), as `mid_ranks` returns them.
    groups : array of bool
        (row, group).

    Returns
    -------
    array
        (concept, group); NaN for a group without rows, or of all rows.

    References
    ----------
    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143, 1982.

    Examples
    --------
    >>> from crp_kit.statistics.ranks import mid_ranks
    >>> ranks = mid_ranks(np.array([[0.1], [0.2], [0.2], [0.9]]))
    >>> rank_auc(ranks, np.array([[False], [False], [True], [True]])).tolist()
    [[0.875]]
    """
    chosen = groups.astype(np.float64)
    return auc_of_sums(ranks.T @ chosen, chosen.sum(0), len(ranks))
