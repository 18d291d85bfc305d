"""Two groups of samples compared in each concept: Welch's t test and Hedges' g from moments, AUC from values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ..errors import InputError
from .moments import GroupMoments
from .threads import on_threads

__all__ = ["WelchTest", "auc", "squared_error", "welch_test"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_COLUMNS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class WelchTest:
    """Difference of the means of two groups in each concept, all (concept,).

    Parameters
    ----------
    difference : numpy.ndarray
        Mean of the first group minus that of the second.
    error : numpy.ndarray
        Standard error of the difference.
    t, df : numpy.ndarray
        Welch's t, and degrees of freedom by Satterthwaite.
    g : numpy.ndarray
        Hedges' g: the difference in units of the pooled standard deviation, corrected for the sizes of the groups.
    """

    difference: Floats
    error: Floats
    t: Floats
    df: Floats
    g: Floats

    @cached_property
    def p(self) -> Floats:
        """The two-sided p-value. It takes longer than all else, and is computed when it is first asked for."""
        values: Floats = 2 * special.stdtr(self.df, -np.abs(self.t))
        return values


def welch_test(a: GroupMoments, b: GroupMoments) -> WelchTest:
    """Return Welch's test of two groups, each with its own variance, from their moments alone.

    Where no value varies in either group, t and g are infinite, p is 0 and df is 1; they are not-a-number where the
    means are equal too. That is how `scipy.stats.ttest_ind` has it. All but the difference are not-a-number where a
    group has fewer than two samples.

    Parameters
    ----------
    a, b : GroupMoments
        One group each.

    Raises
    ------
    InputError
        If a group is empty.

    References
    ----------
    - Welch, "The generalization of 'Student's' problem when several different population variances are involved",
      Biometrika 34, 1947.
    - Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.
    - Hedges, "Distribution theory for Glass's estimator of effect size and related estimators", Journal of Educational
      Statistics 6, 1981: the correction, by gamma functions.

    Examples
    --------
    >>> a = GroupMoments(np.array(4), np.array([2.5]), np.array([1.25**0.5]))
    >>> b = GroupMoments(np.array(4), np.array([5.0]), np.array([5.0**0.5]))
    >>> test = welch_test(a, b)
    >>> [value.round(3).item() for value in (test.difference, test.t, test.df, test.p, test.g)]
    [-2.5, -1.732, 4.412, 0.152, -1.064]
    """
    n_a, n_b = int(a.count), int(b.count)
    if not n_a or not n_b:
        raise InputError(f"each of two groups has at least one sample; they have {n_a} and {n_b}")
    difference = a.mean - b.mean
    if min(n_a, n_b) < 2:
        blank = np.full((4, len(difference)), np.nan)
        return WelchTest(difference, *blank)
    part_a, part_b = squared_error(a), squared_error(b)
    error = np.sqrt(part_a + part_b)
    freedom = n_a + n_b - 2
    spread = np.sqrt((n_a * a.std**2 + n_b * b.std**2) / freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / error
        share = part_a / (part_a + part_b)
        df = 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))
        df = np.where(np.isnan(df), 1.0, df)
        g = difference / spread * _small_sample_correction(freedom)
    return WelchTest(difference, error, t, df, g)


def squared_error(group: GroupMoments) -> Floats:
    """Return the squared standard error of the mean of a group of at least two samples: (concept,)."""
    errors: Floats = group.std**2 / (group.count - 1)
    return errors


def _small_sample_correction(freedom: int) -> float:
    """Return by how much the difference in units of the pooled standard deviation is too large on average."""
    half = freedom / 2
    return float(np.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / np.sqrt(half))


def auc(a: Array, b: Array) -> Floats:
    """Return how probable it is that a value of the first group is higher than one of the second, ties counting half.

    That is U / (n_a · n_b) with U by Mann and Whitney and mid-ranks for ties.

    Parameters
    ----------
    a, b : numpy.ndarray
        Values of each group: (sample, concept).

    Returns
    -------
    numpy.ndarray
        (concept,): 0.5 for no difference, 1 if every value of the first group is the higher one.

    Raises
    ------
    InputError
        If a group is empty, the concepts are not as many, or a value is not-a-number.

    References
    ----------
    Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other",
    Annals of Mathematical Statistics 18, 1947.

    Examples
    --------
    >>> auc(np.array([[3.0, 1.0], [2.0, 1.0]]), np.array([[1.0, 1.0], [2.0, 4.0]]))
    array([0.875, 0.25 ])
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"two groups are (sample, concept), of the same concepts; got {a.shape} and {b.shape}")
    if not len(a) or not len(b):
        raise InputError(f"each of two groups has at least one sample; they have {len(a)} and {len(b)}")

    def areas(start: int) -> list[float]:
        part = slice(start, start + _COLUMNS_AT_ONCE)
        return [_auc_of_sorted(*columns) for columns in zip(_sorted(a[:, part]), _sorted(b[:, part]), strict=True)]

    return np.fromiter(chain.from_iterable(on_threads(areas, range(0, a.shape[1], _COLUMNS_AT_ONCE))), np.float64)


def _sorted(values: Array) -> Array:
    """Return the values of each concept ascending: (concept, sample)."""
    columns = np.array(values.T, order="C")
    columns.sort(axis=1)
    if np.isnan(columns[:, -1]).any():  # they are sorted to the end
        raise InputError("ranks are of values that are numbers; some are not-a-number")
    return columns


def _auc_of_sorted(a: Array, b: Array) -> float:
    """Return the AUC of one concept from ascending values."""
    few, many = (a, b) if len(a) <= len(b) else (b, a)
    lower = np.searchsorted(many, few)
    tied = many[np.minimum(lower, len(many) - 1)] == few
    # Twice U of the smaller group, a whole number.
    higher = 2 * int(lower.sum()) + int((np.searchsorted(many, few[tied], "right") - lower[tied]).sum())
    pairs = len(a) * len(b)
    return (higher if few is a else 2 * pairs - higher) / (2 * pairs)
