"""Confidence intervals of a mean, a fraction, an area under a ROC curve, and a correlation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ..errors import InputError

__all__ = [
    "MeanWithInterval",
    "auc_interval",
    "check_confidence",
    "correlation_interval",
    "mean_interval",
    "mean_of_known",
    "percentile_interval",
    "t_quantile",
    "wilson_interval",
]

Floats = npt.NDArray[np.float64]

_HALVINGS = 60
"""Of an interval of length 1, to its rounding."""


def check_confidence(confidence: float) -> float:
    """Return a confidence level, a number between 0 and 1.

    Raises
    ------
    InputError
        If it is none.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float, np.floating)) or not 0 < confidence < 1:
        raise InputError(f"confidence is between 0 and 1, such as 0.95; got {confidence!r}")
    return float(confidence)


def t_quantile(df: npt.ArrayLike, confidence: float) -> Floats:
    """Return how many standard errors the two-sided interval reaches to either side; not-a-number for no df > 0."""
    freedom = np.asarray(df, np.float64)
    upper = (1 + check_confidence(confidence)) / 2
    reach: Floats = special.stdtrit(np.where(freedom > 0, freedom, np.nan), upper)
    return reach


def mean_interval(
    count: npt.ArrayLike, mean: npt.ArrayLike, std: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the interval of a mean by Student's t.

    Parameters
    ----------
    count : array
        Samples.
    mean, std : array
        Of a shape that fits. `std` is the population's: divided by the count.
    confidence : float, optional
        Between 0 and 1.

    Returns
    -------
    low, high : numpy.ndarray
        Not-a-number for fewer than two samples.

    Examples
    --------
    >>> low, high = mean_interval([4, 1], [2.5, 7.0], [1.118034, 0.0])
    >>> low.round(3), high.round(3)
    (array([0.446,   nan]), array([4.554,   nan]))
    """
    size = np.asarray(count, np.float64)
    freedom = np.where(size > 1, size - 1, np.nan)
    values, reach = np.unique(freedom, return_inverse=True)  # one quantile for each size, not for each concept
    error = t_quantile(values, confidence)[reach].reshape(size.shape) * np.asarray(std) / np.sqrt(freedom)
    middle = np.asarray(mean, np.float64)
    return middle - error, middle + error


class MeanWithInterval(NamedTuple):
    """Mean of some values, and its interval."""

    n: int
    mean: float
    low: float
    high: float


def mean_of_known(values: npt.ArrayLike, *, confidence: float = 0.95) -> MeanWithInterval:
    """Return the mean of the values that are not NaN, with Student's interval and how many there are.

    Parameters
    ----------
    values : array
        (sample,).
    confidence : float, optional
        Between 0 and 1.

    Examples
    --------
    >>> mean_of_known([1.0, 2.0, float("nan"), 3.0]).n
    3
    """
    array = np.asarray(values, np.float64)
    known = array[~np.isnan(array)]
    if not len(known):
        return MeanWithInterval(0, math.nan, math.nan, math.nan)
    low, high = mean_interval(len(known), known.mean(), known.std(), confidence=confidence)
    return MeanWithInterval(len(known), float(known.mean()), float(low), float(high))


def wilson_interval(
    successes: npt.ArrayLike, count: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return Wilson's score interval of a fraction.

    Parameters
    ----------
    successes, count : array
        How many of how many, of shapes that fit.
    confidence : float, optional
        Between 0 and 1.

    Returns
    -------
    low, high : numpy.ndarray
        Between 0 and 1; not-a-number where the count is 0.

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American Statistical
    Association 22, 1927.

    Examples
    --------
    >>> low, high = wilson_interval([0, 5], 10)
    >>> low.round(4), high.round(4)
    (array([0.    , 0.2366]), array([0.2775, 0.7634]))
    """
    hits, size = np.asarray(successes, np.float64), np.asarray(count, np.float64)
    if (hits < 0).any() or (hits > size).any():
        raise InputError("successes are from 0 to count")
    size = np.where(size > 0, size, np.nan)
    z = _normal_quantile(confidence)
    fraction = hits / size
    middle = (fraction + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * np.sqrt(fraction * (1 - fraction) / size + (z / (2 * size)) ** 2)
    # The ends of all and of none are exact, whatever rounding makes of them.
    return np.where(fraction == 0, 0.0, middle - reach), np.where(fraction == 1, 1.0, middle + reach)


def percentile_interval(
    percentile: npt.ArrayLike, count: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the interval of the percentile that more samples would give (Wilson), between 0 and 100.

    Parameters
    ----------
    percentile : array
        Percentage of samples that are below.
    count : array
        Those samples.
    confidence : float, optional
        Between 0 and 1.

    Examples
    --------
    >>> low, high = percentile_interval(93.75, 8)
    >>> float(low.round(1)), float(high.round(1))
    (59.8, 99.3)
    """
    size = np.asarray(count, np.float64)
    low, high = wilson_interval(np.asarray(percentile, np.float64) / 100 * size, size, confidence=confidence)
    return 100 * low, 100 * high


def auc_interval(
    auc: npt.ArrayLike, n_a: npt.ArrayLike, n_b: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return Newcombe's score interval of an AUC (his method 5), from the sizes of both groups alone.

    It holds the values of which the AUC is at most so many standard errors away, whose variance is Hanley and McNeil's
    at the value itself. Unlike Wald intervals, by DeLong's variance too, it has a length where the AUC is 0 or 1.

    Parameters
    ----------
    auc : array
        From 0 to 1; NaN stays.
    n_a, n_b : array
        Samples of each group, at least one, of shapes that fit.
    confidence : float, optional
        Between 0 and 1.

    Returns
    -------
    low, high : numpy.ndarray
        Between 0 and 1.

    References
    ----------
    - Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2: asymptotic
      methods and evaluation", Statistics in Medicine 25, 2006.
    - Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
      Radiology 143, 1982.

    Examples
    --------
    >>> low, high = auc_interval([0.5, 1.0], 20, 30)
    >>> low.round(4), high.round(4)
    (array([0.3448, 0.9159]), array([0.6552, 1.    ]))
    """
    first, second = np.asarray(n_a, np.float64), np.asarray(n_b, np.float64)
    area, _ = np.broadcast_arrays(np.asarray(auc, np.float64), first * second)
    squares = _normal_quantile(confidence) ** 2 / (first * second)
    more = (first + second) / 2 - 1

    def beyond(value: Floats) -> npt.NDArray[np.bool_]:
        spread = value * (1 - value) * (1 + more * ((1 - value) / (2 - value) + value / (1 + value)))
        outside: npt.NDArray[np.bool_] = (area - value) ** 2 > squares * spread
        return outside

    ends = []
    for limit in (0.0, 1.0):
        outer, inner = np.full(area.shape, limit), np.array(area)
        for _ in range(_HALVINGS):
            middle = (outer + inner) / 2
            outside = beyond(middle)
            outer, inner = np.where(outside, middle, outer), np.where(outside, inner, middle)
        ends.append(np.where(area == limit, limit, np.where(np.isnan(area), np.nan, inner)))
    return ends[0], ends[1]


def correlation_interval(
    correlation: npt.ArrayLike, count: npt.ArrayLike, *, ranks: bool = False, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the interval of a correlation by Fisher's transformation.

    Parameters
    ----------
    correlation : array
        From -1 to 1; NaN stays.
    count : array
        Values that it is of. Within groups, so many less as there are groups beyond the first.
    ranks : bool, optional
        Whether it is Spearman's, with the variance of Bonett and Wright; by default it is Pearson's.
    confidence : float, optional
        Between 0 and 1.

    Returns
    -------
    low, high : numpy.ndarray
        Not-a-number for a count below 4.

    References
    ----------
    - Fisher, "Frequency distribution of the values of the correlation coefficient in samples from an indefinitely large
      population", Biometrika 10, 1915.
    - Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
      Psychometrika 65, 2000.

    Examples
    --------
    >>> low, high = correlation_interval([0.5, 0.0], 28)
    >>> low.round(4), high.round(4)
    (array([ 0.156 , -0.3731]), array([0.7358, 0.3731]))
    """
    values, size = np.asarray(correlation, np.float64), np.asarray(count, np.float64)
    freedom = np.where(size > 3, size - 3, np.nan)
    with np.errstate(divide="ignore"):
        middle = np.arctanh(np.clip(values, -1, 1))
    reach = _normal_quantile(confidence) * np.sqrt((1 + ranks * values**2 / 2) / freedom)
    return np.tanh(middle - reach), np.tanh(middle + reach)


def _normal_quantile(confidence: float) -> float:
    """Return how many standard deviations a two-sided interval of a normal distribution reaches to either side."""
    return math.sqrt(2) * float(special.erfinv(check_confidence(confidence)))
