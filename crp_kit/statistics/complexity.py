"""Complexity of explanations: over how many concepts the relevance of a sample is spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .shifted_columns import check_finite

__all__ = ["RowComplexity", "row_complexity"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_SHARE = 0.9
_ROUNDING = 1e-12
"""Of a sum: so much may be missing to the share, so that nine of ten equal concepts hold 90 %."""
_VALUES_AT_ONCE = 1 << 17
"""Few enough for the processor's cache."""


@dataclass(frozen=True, eq=False)
class RowComplexity:
    """Complexity of each sample, all (sample,).

    Parameters
    ----------
    gini : numpy.ndarray
        Gini index of the magnitudes: 0 where all concepts count the same, 1 - 1/C where a single one of C counts. NaN
        where all are zero.
    hoyer : numpy.ndarray
        Hoyer's sparseness, from 0 to 1 for the same two. NaN also for a single concept.
    n90 : numpy.ndarray
        The smallest number of concepts that hold 90 % of the magnitudes; 0 where all are zero.
    """

    gini: Floats
    hoyer: Floats
    n90: npt.NDArray[np.int64]


def row_complexity(values: Array) -> RowComplexity:
    """Return the complexity of the scores of each sample; signs do not matter.

    Parameters
    ----------
    values : numpy.ndarray
        (sample, concept).

    Raises
    ------
    InputError
        If a value is not finite.

    References
    ----------
    - Hurley and Rickard, "Comparing measures of sparsity", IEEE Transactions on Information Theory 55, 2009: the Gini
      index.
    - Chalasani et al., "Concise explanations of neural networks using adversarial training", ICML 2020: the Gini index
      of attributions.
    - Hoyer, "Non-negative matrix factorization with sparseness constraints", Journal of Machine Learning Research 5,
      2004.

    Examples
    --------
    >>> complexity = row_complexity(np.array([[0.25, -0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]]))
    >>> complexity.gini.tolist(), complexity.hoyer.tolist(), complexity.n90.tolist()
    ([0.0, 0.75], [0.0, 1.0], [4, 1])
    """
    check_finite(values)
    samples, concepts = values.shape
    result = RowComplexity(np.empty(samples), np.empty(samples), np.empty(samples, np.int64))
    step = max(1, _VALUES_AT_ONCE // max(concepts, 1))
    for start in range(0, samples, step):
        part = slice(start, start + step)
        result.gini[part], result.hoyer[part], result.n90[part] = _complexity(values[part])
    return result


def _complexity(values: Array) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return Gini index, Hoyer's sparseness and the number of concepts that hold 90 %, of some samples."""
    sizes = np.abs(values)
    sizes.sort(axis=1)  # ascending
    count = sizes.shape[1]
    largest = sizes[:, -1:].astype("f8")
    sizes = sizes / np.where(largest > 0, largest, np.nan)  # squares of the smallest floats would vanish
    total = sizes.sum(1)
    ratio = total / np.sqrt(np.einsum("sc,sc->s", sizes, sizes))
    root = np.sqrt(count)
    hoyer = np.clip((root - ratio) / (root - 1), 0, 1) if count > 1 else np.full(len(sizes), np.nan)
    held = np.cumsum(sizes[:, ::-1], axis=1)
    missing = np.count_nonzero(held < (_SHARE * (1 - _ROUNDING)) * total[:, None], axis=1)
    n90 = np.where(largest[:, 0] > 0, missing + 1, 0)
    sizes -= sizes[:, :1].copy()  # which changes nothing, as the weights sum to 0: equal sizes give 0 exactly
    gini = sizes @ (2 * np.arange(1, count + 1) - count - 1.0) / (count * total)
    return gini, hoyer, n90
