"""Correction of p-values for many tests at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["q_values"]

Floats = npt.NDArray[np.float64]


def q_values(p: npt.ArrayLike) -> Floats:
    """Return the q-value of each test: the smallest false discovery rate at which it is among the discoveries.

    Parameters
    ----------
    p : array
        p-values, (test,). Not-a-number stands for no test: it stays, and does not count.

    Returns
    -------
    numpy.ndarray
        (test,).

    Raises
    ------
    InputError
        If a p-value is not between 0 and 1.

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate: a practical and powerful approach to multiple
    testing", Journal of the Royal Statistical Society B 57, 1995.

    Examples
    --------
    >>> q_values([0.01, 0.04, float("nan"), 0.03])
    array([0.03, 0.04,  nan, 0.04])
    """
    values = np.asarray(p, np.float64)
    tests = np.flatnonzero(~np.isnan(values))
    tested = values[tests]
    if ((tested < 0) | (tested > 1)).any():
        raise InputError("p-values are between 0 and 1")
    falling = np.argsort(-tested, kind="stable")
    rank = np.arange(len(tested), 0, -1)
    q = np.full(len(values), np.nan)
    q[tests[falling]] = np.minimum.accumulate(np.minimum(tested[falling] * (len(tested) / rank), 1))
    return q
