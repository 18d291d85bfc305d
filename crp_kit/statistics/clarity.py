"""Clarity and polysemanticity of a concept, from embeddings of its reference samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from .arrays import Floats, Integers, finite_rows
from .libraries import scikit_learn
from .spectral import clusters

__all__ = ["clarity", "polysemanticity", "silhouette", "unit_clusters"]


def clarity(embeddings: Any) -> float:
    """Return the mean cosine of all pairs of embeddings: 1 if all point the same way; NaN for fewer than two.

    Parameters
    ----------
    embeddings : array
        (sample, feature), none of them zero.

    Raises
    ------
    InputError
        If it has another shape, a value is NaN or infinite, or an embedding is zero.

    References
    ----------
    Dreyer et al., "Mechanistic understanding and validation of large AI models with SemanticLens", Nature Machine
    Intelligence 7, 2025.

    Examples
    --------
    >>> clarity([[1, 0], [0, 2]]), round(clarity([[1, 0], [0, 1], [3, 0]]), 4)
    (0.0, 0.3333)
    """
    directions = _directions(embeddings)
    count = len(directions)
    if count < 2:
        return float("nan")
    total = directions.sum(0)
    return float((total @ total - count) / (count * (count - 1)))


def polysemanticity(embeddings: Any, *, seed: int = 0) -> float:
    """Return 1 minus the clarity of the centres of two k-means clusters of embeddings: from 0 to 2.

    It is 1 minus the cosine of the two centres, so that centres that point away from each other give more than 1. NaN
    for fewer than two embeddings that differ.

    Parameters
    ----------
    embeddings : array
        (sample, feature), none of them zero.
    seed : int, optional
        Of k-means.

    Raises
    ------
    InputError
        If it has another shape, a value is NaN or infinite, or an embedding or a centre is zero.

    References
    ----------
    Dreyer et al., "Mechanistic understanding and validation of large AI models with SemanticLens", Nature Machine
    Intelligence 7, 2025.

    Examples
    --------
    >>> round(polysemanticity([[1.0, 0], [1.1, 0], [0, 1.0], [0, 1.2]]), 4)
    1.0
    """
    rows = finite_rows("embeddings", embeddings)
    _directions(rows)
    if len(np.unique(rows, axis=0)) < 2:
        return float("nan")
    label = clusters(rows, 2, seed=seed)
    return 1 - clarity(np.stack([rows[label == number].mean(0) for number in (0, 1)]))


def unit_clusters(vectors: Any, count: int, *, seed: int = 0) -> Integers:
    """Return the cluster of each row by k-means, from 0: the largest first, of equal ones that of the first row.

    Parameters
    ----------
    vectors : array
        (row, concept).
    count : int
        At most as many as rows that differ.
    seed : int, optional

    Raises
    ------
    InputError
        If fewer rows differ, or a value is NaN or infinite.
    """
    rows = finite_rows("vectors", vectors)
    distinct = len(np.unique(rows, axis=0))
    if distinct < count:
        raise InputError(f"{count} clusters need as many vectors that differ; there are {distinct}")
    label = clusters(rows, count, seed=seed)
    _, first, sizes = np.unique(label, return_index=True, return_counts=True)
    number = np.empty(len(sizes), np.int64)
    number[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return number[label]


def silhouette(vectors: Any, label: Any) -> float:
    """Return the mean silhouette of clusters, from -1 to 1; NaN for one cluster, or one for each row.

    Parameters
    ----------
    vectors : array
        (row, concept).
    label : array of int
        (row,).
    """
    rows, count = finite_rows("vectors", vectors), len(np.unique(label))
    if not 1 < count < len(rows):
        return float("nan")
    return float(scikit_learn("metrics").silhouette_score(rows, label))


def _directions(embeddings: Any) -> Floats:
    """Return embeddings of length 1."""
    rows = finite_rows("embeddings", embeddings)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = np.flatnonzero(length == 0)
    if len(zero):
        raise InputError(f"an embedding that is zero has no direction; row {zero[0]} is")
    directions: Floats = rows / length
    return directions
