"""Ranks of the values of each column; equal values share the mean of their ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["mean_ranks"]


def mean_ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the rank of each value in its row, from 1: (row, value).

    Parameters
    ----------
    values : numpy.ndarray
        (row, value), finite.

    Examples
    --------
    >>> mean_ranks(np.array([[0.5, 0.1, 0.5, 2.0]])).tolist()
    [[2.5, 1.0, 2.5, 4.0]]
    """
    ranks = np.empty(values.shape)
    length = values.shape[1]
    for row, line in zip(ranks, values, strict=True):
        order = np.argsort(line)
        ordered = line[order]
        first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        last = np.append(first[1:], length)
        row[order] = np.repeat((first + last + 1) / 2, last - first)
    return ranks
