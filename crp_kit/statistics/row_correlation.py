"""Correlation of two arrays, row by row: Pearson's, or Spearman's of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from .arrays import Floats, finite_rows
from .ranks import mid_ranks

__all__ = ["row_correlation"]


def row_correlation(a: Any, b: Any, *, ranks: bool = False) -> Floats:
    """Return the correlation of each row of two arrays: (row,). NaN where a row of either has one value only.

    Parameters
    ----------
    a, b : array
        (row, concept).
    ranks : bool, optional
        Of ranks within a row (Spearman), where equal values share the mean of theirs, instead of values (Pearson).

    Raises
    ------
    InputError
        If shapes differ, or a value is NaN or infinite.

    Examples
    --------
    >>> row_correlation([[1, 2, 9], [1, 1, 1]], [[0, 1, 2], [0, 1, 2]], ranks=True)
    array([ 1., nan])
    """
    first = finite_rows("the first array", a)
    second = finite_rows("the second array", b, columns=first.shape[1])
    if len(first) != len(second):
        raise InputError(f"two arrays are correlated row by row; they have {len(first)} and {len(second)} rows")
    if ranks:
        first, second = mid_ranks(first, axis=1), mid_ranks(second, axis=1)
    constant = (np.ptp(first, axis=1) == 0) | (np.ptp(second, axis=1) == 0)
    first, second = first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True)
    norms = np.where(constant, np.nan, np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    correlation: Floats = np.clip(np.einsum("rc,rc->r", first, second) / norms, -1, 1)
    return correlation
