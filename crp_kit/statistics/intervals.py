"""Confidence intervals of a mean and of a fraction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ..errors import InputError

__all__ = ["MeanWithInterval", "check_confidence", "mean_interval", "mean_of_known", "t_quantile", "wilson_interval"]

Floats = npt.NDArray[np.float64]


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
    z = math.sqrt(2) * float(special.erfinv(check_confidence(confidence)))
    fraction = hits / size
    middle = (fraction + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * np.sqrt(fraction * (1 - fraction) / size + (z / (2 * size)) ** 2)
    # The ends of all and of none are exact, whatever rounding makes of them.
    return np.where(fraction == 0, 0.0, middle - reach), np.where(fraction == 1, 1.0, middle + reach)
