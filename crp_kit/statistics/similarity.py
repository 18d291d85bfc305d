"""Similarity of concepts over samples: correlation, correlation within groups, cosine, rank correlation."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .ranks import mean_ranks
from .row_blocks import check_finite, group_sums, row_blocks, row_numbers

__all__ = [
    "Metric",
    "check_metric",
    "correlation",
    "cosine",
    "gram_similarity",
    "matrix_similarity",
    "rank_correlation",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Metric = Literal["pearson-within", "pearson", "cosine", "spearman"]

_LEFT = 1e-9
"""Of the sum of squares, what has to be left when means are removed from a Gram matrix; below that it is rounding."""
_COLUMNS_BYTES = 1 << 27


def check_metric(metric: str) -> None:
    """Make sure that there is such a metric.

    Raises
    ------
    InputError
        If there is none.
    """
    if metric not in get_args(Metric):
        raise InputError(f"metric is one of {', '.join(map(repr, get_args(Metric)))}; got {metric!r}")


def matrix_similarity(
    matrix: Any, metric: Metric, *, rows: Mask | None = None, groups: Integers | None = None
) -> Floats:
    """Return the similarity of the columns of a matrix: (concept, concept), symmetric.

    A concept that is constant, or zero for the cosine, is similar to none: its row and column are NaN.

    Parameters
    ----------
    matrix : array
        Scores (sample, concept), in memory or read when it is cut.
    metric : {"pearson-within", "pearson", "cosine", "spearman"}
    rows : numpy.ndarray, optional
        Mask (sample,) of those that count; all by default.
    groups : numpy.ndarray, optional
        (sample,), the group of each; for "pearson-within".

    Raises
    ------
    InputError
        If the metric is unknown, shapes do not fit, there are no groups, or a score is not finite.

    Examples
    --------
    >>> matrix_similarity(np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]]), "pearson")[0].tolist()
    [1.0, -1.0, nan]
    """
    check_metric(metric)
    if metric == "cosine":
        return cosine(matrix, rows)
    if metric == "spearman":
        return rank_correlation(matrix, rows)
    if metric == "pearson-within" and groups is None:
        raise InputError("a correlation within groups needs the group of each sample: groups is (sample,)")
    return correlation(matrix, rows, groups if metric == "pearson-within" else None)


def correlation(matrix: Any, rows: Mask | None = None, groups: Integers | None = None) -> Floats:
    """Return Pearson's correlation of columns, (concept, concept); with `groups` around the mean of each group.

    One pass: each row is taken relative to the first row of its group, so that sums of squares lose at most a factor
    of the size of a group when the means are removed, whatever the level of a column. A column counts as constant where
    its standard deviation is at most the rounding of its values: the spacing of floats at the first row of a group.
    """
    numbers = row_numbers(matrix, rows)
    if groups is None:
        names, index = np.zeros(1, int), np.zeros(len(numbers), int)
    else:
        names, index = np.unique(_per_sample(groups, matrix)[numbers], return_inverse=True)
    sums = _ShiftedSums(len(names), matrix.shape[1])
    for part, stored in row_blocks(matrix, rows):
        sums.add(stored, index[part])
    return _normalised(*sums.products(np.bincount(index, minlength=1)))


class _ShiftedSums:
    """Sums of rows and of their products, each row relative to the first one of its group.

    Memory for a block is taken once: the system takes longer to hand out new pages than NumPy to fill them.
    """

    def __init__(self, groups: int, concepts: int) -> None:
        self.first, self.sums = np.full((groups, concepts), np.nan), np.zeros((groups, concepts))
        self._started = np.zeros(groups, bool)
        self._products, self._block = np.zeros((concepts, concepts)), np.empty((concepts, concepts))
        self._rows, self._rounding = np.empty((0, concepts)), 0.0

    def add(self, stored: npt.NDArray[Any], group: Integers) -> None:
        """Add a block of rows."""
        self._rounding = float(np.finfo(stored.dtype).eps) if stored.dtype.kind == "f" else 0.0
        self._start_groups(stored, group)
        if len(self._rows) < len(stored):
            self._rows = np.empty(stored.shape)
        values = self._rows[: len(stored)]
        np.take(self.first, group, axis=0, out=values, mode="clip")
        np.subtract(stored, values, out=values)
        self.sums += group_sums(values, group, len(self.sums))
        self._products += np.matmul(values.T, values, out=self._block)

    def _start_groups(self, stored: npt.NDArray[Any], group: Integers) -> None:
        """Note the first row of each group that has none yet."""
        present, row = np.unique(group, return_index=True)
        new = ~self._started[present]
        self.first[present[new]] = stored[row[new]]
        self._started[present] = True

    def products(self, count: Integers) -> tuple[Floats, Mask]:
        """Return the sums of products around the means of groups, and which concepts vary around them."""
        mean = self.sums[self._started] / np.sqrt(count[self._started])[:, None]
        products = self._products - mean.T @ mean
        level = np.abs(self.first[self._started]).max(0, initial=0)
        return products, np.diag(products) > count.sum() * (self._rounding * level) ** 2


def cosine(matrix: Any, rows: Mask | None = None) -> Floats:
    """Return the cosine of the angle between columns: (concept, concept)."""
    concepts = matrix.shape[1]
    products = np.zeros((concepts, concepts))
    for _, stored in row_blocks(matrix, rows):
        values = stored.astype("f8")
        products += values.T @ values
    return _normalised(products, np.diag(products) > 0)


def rank_correlation(matrix: Any, rows: Mask | None = None) -> Floats:
    """Return Spearman's rank correlation of columns, equal values sharing their mean rank: (concept, concept).

    The ranks are kept in float32, which holds them exactly for up to 8 million samples.
    """
    numbers = row_numbers(matrix, rows)
    samples, concepts = len(numbers), matrix.shape[1]
    ranks = np.empty((samples, concepts), "f4" if samples < 1 << 23 else "f8")
    step = max(64, _COLUMNS_BYTES // (8 * max(matrix.shape[0], 1)) // 64 * 64)
    for start in range(0, concepts, step):
        values = np.asarray(matrix[:, start : start + step])[numbers]
        check_finite(values)
        ranks[:, start : start + step] = mean_ranks(np.ascontiguousarray(values.T)).T
    return correlation(ranks)


def gram_similarity(gram: Floats, count: Floats, total: Floats, metric: Metric) -> Floats:
    """Return the similarity of concepts from sums over samples: (concept, concept).

    As `matrix_similarity`, but where a concept varies so little around its means that they cannot be removed from a sum
    of squares in float64, it is NaN too.

    Parameters
    ----------
    gram : numpy.ndarray
        Sum of the products of two concepts over all samples: (concept, concept).
    count : numpy.ndarray
        Samples of each group: (group,).
    total : numpy.ndarray
        Sum of the scores of each group: (group, concept).
    metric : {"pearson-within", "pearson", "cosine"}

    Raises
    ------
    InputError
        If the metric is another one: ranks cannot be had from sums.

    Examples
    --------
    >>> scores = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, 0.0]])
    >>> total = scores.sum(0, keepdims=True)
    >>> gram_similarity(scores.T @ scores, np.array([3.0]), total, "pearson")[0].round(12).tolist()
    [1.0, -1.0]
    """
    check_metric(metric)
    if metric == "spearman":
        raise InputError("a rank correlation needs the matrix of scores; a Gram matrix has no ranks")
    square = np.diag(gram)
    if metric == "cosine":
        return _normalised(gram, square > 0)
    sums, held = np.asarray(total, "f8"), np.asarray(count, "f8")
    if metric == "pearson":
        sums, held = sums.sum(0, keepdims=True), held.sum(keepdims=True)
    mean = sums[held > 0] / np.sqrt(held[held > 0])[:, None]
    products = gram - mean.T @ mean
    return _normalised(products, np.diag(products) > _LEFT * square)


def _normalised(products: Floats, varies: Mask) -> Floats:
    """Divide products by the lengths of both columns; NaN where a column does not vary."""
    scale = np.full(len(products), np.nan)
    scale[varies] = 1 / np.sqrt(np.diag(products)[varies])
    values: Floats = np.clip(products * np.outer(scale, scale), -1, 1)
    np.fill_diagonal(values, np.where(varies, 1, np.nan))
    return values


def _per_sample(groups: Any, matrix: Any) -> Integers:
    """Check the groups of samples."""
    array = np.asarray(groups)
    if array.shape != (matrix.shape[0],):
        raise InputError(f"groups has one entry for each of the {matrix.shape[0]} samples; got shape {array.shape}")
    return array
