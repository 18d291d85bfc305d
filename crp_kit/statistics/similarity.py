"""Similarity of concepts over samples: correlation, correlation within groups, cosine, rank correlation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .ranks import mid_ranks
from .shifted_columns import ShiftedColumns, check_finite

__all__ = [
    "Metric",
    "check_metric",
    "correlation",
    "cosine",
    "cross_correlation",
    "gram_similarity",
    "rank_correlation",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Metric = Literal["pearson-within", "pearson", "cosine", "spearman"]

_LEFT = 1e-9
"""Of the sum of squares, what has to be left when means are removed from a Gram matrix; below that it is rounding."""
_ROWS = 4096


def check_metric(metric: str) -> None:
    """Make sure that there is such a metric.

    Raises
    ------
    InputError
        If there is none.
    """
    if metric not in get_args(Metric):
        raise InputError(f"metric is one of {', '.join(map(repr, get_args(Metric)))}; got {metric!r}")


def correlation(blocks: Iterable[tuple[Integers, Array]], groups: int, concepts: int) -> Floats:
    """Return Pearson's correlation of concepts around the mean of each group, in one pass: (concept, concept).

    A concept that is constant in each group is similar to none: its row and column are not-a-number. That is so where
    its standard deviation is at most the spacing of floats of its values' type.

    Parameters
    ----------
    blocks : iterable of (array, array)
        The group of each sample, (sample,), and its scores, (sample, concept).
    groups, concepts : int
        How many there are; one group for the plain correlation.

    Raises
    ------
    InputError
        If a score is not finite.

    Examples
    --------
    >>> scores = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]])
    >>> correlation([(np.zeros(2, int), scores)], 1, 3)[0].tolist()
    [1.0, -1.0, nan]
    """
    columns = ShiftedColumns(groups, concepts)
    products, block = np.zeros((concepts, concepts)), np.empty((concepts, concepts))
    for group, values in blocks:
        shifted = columns.add(values, group)
        products += np.matmul(shifted.T, shifted, out=block)
    mean = columns.scaled_means
    products -= np.matmul(mean.T, mean, out=block)
    return _normalised(products, columns.varies(np.diag(products)))


def cross_correlation(
    blocks: Iterable[tuple[Integers, Array, Array]], groups: int, concepts: tuple[int, int]
) -> Floats:
    """Return the correlation of the concepts of two layers over the same samples: (concept, other concept).

    Parameters
    ----------
    blocks : iterable of (array, array, array)
        The group of each sample, (sample,), and its scores in both layers, (sample, concept), (sample, other concept).
    groups : int
    concepts : (int, int)
        How many there are.

    Raises
    ------
    InputError
        If a score is not finite.
    """
    columns = [ShiftedColumns(groups, count) for count in concepts]
    squares = [np.zeros(count) for count in concepts]
    products = np.zeros(concepts)
    for group, *pair in blocks:
        shifted = [column.add(values, group) for column, values in zip(columns, pair, strict=True)]
        for layer, values in enumerate(shifted):
            squares[layer] += np.einsum("sc,sc->c", values, values)
        products += shifted[0].T @ shifted[1]
    means = [column.scaled_means for column in columns]
    products -= means[0].T @ means[1]
    left = [total - (mean**2).sum(0) for total, mean in zip(squares, means, strict=True)]
    scales = [_scale(total, column.varies(total)) for total, column in zip(left, columns, strict=True)]
    return np.clip(products * np.outer(*scales), -1, 1)


def cosine(blocks: Iterable[Array], concepts: int) -> Floats:
    """Return the cosine of the angle between concepts, (concept, concept); a concept that is zero has none.

    Parameters
    ----------
    blocks : iterable of array
        Scores of some samples: (sample, concept).
    concepts : int

    Raises
    ------
    InputError
        If a score is not finite.
    """
    products, block = np.zeros((concepts, concepts)), np.empty((concepts, concepts))
    for stored in blocks:
        check_finite(stored)
        values = stored.astype("f8")
        products += np.matmul(values.T, values, out=block)
    return _normalised(products, np.diag(products) > 0)


def rank_correlation(blocks: Iterable[tuple[slice, Array]], samples: int, concepts: int) -> Floats:
    """Return Spearman's rank correlation of concepts, equal scores sharing their mean rank: (concept, concept).

    The ranks are kept in float32, which holds them exactly for up to 8 million samples.

    Parameters
    ----------
    blocks : iterable of (slice, array)
        Some concepts, and their scores in all samples: (sample, concept).
    samples, concepts : int

    Raises
    ------
    InputError
        If a score is not finite.
    """
    ranks = np.empty((samples, concepts), "f4" if samples < 1 << 23 else "f8")
    for part, values in blocks:
        check_finite(values)
        ranks[:, part] = mid_ranks(values)
    parts = (ranks[start : start + _ROWS] for start in range(0, samples, _ROWS))
    return correlation(((np.zeros(len(part), int), part) for part in parts), 1, concepts)


def gram_similarity(
    gram: Floats, count: Array, total: Floats, metric: Metric, *, least: Floats | float = 0.0
) -> Floats:
    """Return the similarity of concepts from sums over samples: (concept, concept).

    A concept that varies so little around its means that they cannot be removed from a sum of squares in float64 is
    not-a-number, as a constant one is.

    Parameters
    ----------
    gram : numpy.ndarray
        Sum of the products of two concepts over all samples: (concept, concept).
    count : numpy.ndarray
        Samples of each group: (group,).
    total : numpy.ndarray
        Sum of the scores of each group: (group, concept).
    metric : {"pearson-within", "pearson", "cosine"}
    least : numpy.ndarray, optional
        Sum of squares up to which a concept counts as constant, where the products are less exact than float64:
        (concept,).

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
        return _normalised(gram, square > least)
    sums, held = np.asarray(total, "f8"), np.asarray(count, "f8")
    if metric == "pearson":
        sums, held = sums.sum(0, keepdims=True), held.sum(keepdims=True)
    mean = sums[held > 0] / np.sqrt(held[held > 0])[:, None]
    products = gram - mean.T @ mean
    return _normalised(products, np.diag(products) > np.maximum(_LEFT * square, least))


def _normalised(products: Floats, varies: Mask) -> Floats:
    """Divide products by the lengths of both columns; NaN where a column does not vary."""
    scale = _scale(np.diag(products), varies)
    values: Floats = np.clip(products * np.outer(scale, scale), -1, 1)
    np.fill_diagonal(values, np.where(varies, 1, np.nan))
    return values


def _scale(squares: Floats, varies: Mask) -> Floats:
    """Return one over the length of each column; NaN where it does not vary."""
    scale = np.full(len(squares), np.nan)
    scale[varies] = 1 / np.sqrt(squares[varies])
    return scale
