"""Drift of mean scores between two groups of samples: total variation and its permutation null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["VariationTest", "largest_of_all", "total_variation", "variation_test"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_VALUES_AT_ONCE = 1 << 23
_ROUNDING = 1e-12
"""Of the mean magnitudes: means of equal values differ by rounding, which is no variation."""


@dataclass(frozen=True, eq=False)
class VariationTest:
    """Total variation of two groups, and what random divisions of their samples give.

    Parameters
    ----------
    value : float
    null : numpy.ndarray
        (permutation,).
    """

    value: float
    null: Floats

    @property
    def p(self) -> float:
        """How often a division gives as much, the observed one included; equal values differ by rounding."""
        reached = self.null >= self.value * (1 - 1e-9)
        return float((1 + reached.sum()) / (1 + len(self.null)))

    @property
    def expected(self) -> float:
        """Mean of the random divisions."""
        return float(self.null.mean())


def total_variation(a: Array, b: Array) -> float:
    """Return half the sum of the differences of the means of two groups in all concepts.

    Of shares, which sum to 1, it is how much of the mean share has moved to other concepts.

    Parameters
    ----------
    a, b : numpy.ndarray
        (sample, concept).

    Examples
    --------
    >>> total_variation(np.array([[0.5, 0.5]]), np.array([[0.25, 0.75], [0.25, 0.75]]))
    0.25
    """
    return float(np.abs(a.mean(0, dtype="f8") - b.mean(0, dtype="f8")).sum() / 2)


def variation_test(a: Array, b: Array, *, permutations: int, rng: np.random.Generator) -> VariationTest:
    """Return the total variation of two groups, and those of random divisions of their samples.

    Parameters
    ----------
    a, b : numpy.ndarray
        (sample, concept).
    permutations : int
        How many random divisions.
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If a group is empty, or the concepts are not as many.
    """
    if a.shape[1:] != b.shape[1:] or not len(a) or not len(b):
        raise InputError(f"two groups are (sample, concept), with at least one sample; got {a.shape} and {b.shape}")
    count, whole = len(a), len(a) + len(b)
    values = np.concatenate([a, b]).astype("f8")
    values -= values.mean(0)  # then the mean of the second group follows from that of the first
    factor = whole / (2 * count * len(b))
    null, step = np.empty(permutations), max(1, _VALUES_AT_ONCE // max(whole, values.shape[1]))
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        first = np.argsort(rng.random((size, whole)), axis=1)[:, :count]
        member = np.zeros((size, whole))
        np.put_along_axis(member, first, 1, axis=1)
        null[start : start + size] = np.abs(member @ values).sum(1) * factor
    value, noise = total_variation(a, b), _ROUNDING * float(np.abs(a).mean(0).sum() + np.abs(b).mean(0).sum())
    return VariationTest(value if value > noise else 0.0, np.where(null > noise, null, 0))


def largest_of_all(tests: list[VariationTest]) -> float:
    """Return the p-value of the largest total variation of several pairs of groups, each in units of its own null.

    The divisions of one number are taken together, so that the chance of a largest one this large is counted as it is,
    however many pairs there are. A pair that no division changes does not count.

    Parameters
    ----------
    tests : list of VariationTest
        With as many permutations each.

    References
    ----------
    Westfall and Young, "Resampling-based multiple testing", Wiley, 1993: the maximum of standardised statistics.
    """
    if not tests:
        return 1.0
    values = np.array([np.append(test.value, test.null) for test in tests])  # the first one is as good as the others
    spread = values.std(1, keepdims=True)
    moved = spread[:, 0] > 1e-9 * np.abs(values).max(1)
    if not moved.any():
        return 1.0
    scaled = (values[moved] - values[moved].mean(1, keepdims=True)) / spread[moved]
    largest = scaled.max(0)
    return float((largest >= largest[0] - 1e-9).mean())
