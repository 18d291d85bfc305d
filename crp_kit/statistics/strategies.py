"""Strategies of a model within a class: spectral clusters of the concepts that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_integer
from ..errors import InputError
from .arrays import Floats, Integers, finite_rows
from .spectral import clusters, eigengap, eigenvectors, neighbour_graph

__all__ = ["SpectralClusters", "spectral_clusters"]

_MOST = 8
"""Clusters that the eigengap may suggest, unless the graph falls into more parts."""
_LEAST = 3


@dataclass(frozen=True, eq=False)
class SpectralClusters:
    """Clusters of rows.

    Parameters
    ----------
    labels : array of int
        (row,), the cluster of each row, from 0; the largest cluster is the first.
    coordinates : array
        (row, 2), the eigenvectors behind the trivial one; zeros where there are fewer.
    eigenvalues : array
        The lowest ones of the normalised Laplacian, ascending, the trivial 0 included.
    """

    labels: Integers
    coordinates: Floats
    eigenvalues: Floats


def spectral_clusters(values: Any, n: int | None = None, *, neighbours: int = 10, seed: int = 0) -> SpectralClusters:
    """Return spectral clusters of rows, from the graph that joins each row with its nearest ones.

    Parameters
    ----------
    values : array
        (row, concept), at least 3 rows.
    n : int, optional
        Number of clusters; by default as many as there are eigenvalues before the widest gap among the first nine.
    neighbours : int, optional
        Nearest rows that a row is joined with; fewer where there are not as many rows.
    seed : int, optional
        Of k-means and of ARPACK.

    Raises
    ------
    InputError
        If there are fewer than 3 rows or fewer rows than clusters, or values are not finite.

    References
    ----------
    Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really learn", Nature
    Communications 10, 2019.
    Ng, Jordan and Weiss, "On spectral clustering: analysis and an algorithm", NeurIPS 2001.

    Examples
    --------
    >>> values = np.repeat(np.eye(3), 20, axis=0) + np.random.default_rng(0).normal(0, 0.1, (60, 3))
    >>> np.bincount(spectral_clusters(values).labels).tolist()
    [20, 20, 20]
    """
    from scipy.sparse.csgraph import connected_components

    rows = finite_rows("values", values)
    if len(rows) < _LEAST:
        raise InputError(f"clusters need at least {_LEAST} rows; got {len(rows)}")
    neighbours = min(check_integer("neighbours", neighbours, low=1), len(rows) - 1)
    if n is not None:
        n = check_integer("n", n, low=1, high=len(rows))
    graph = neighbour_graph(rows, neighbours)
    parts, _ = connected_components(graph, directed=False)
    vectors, eigenvalues = eigenvectors(graph, min(max(_MOST, parts, n or 0) + 1, len(rows)), seed=seed)
    count = n or (parts if parts > _MOST else eigengap(eigenvalues))
    directions = vectors[:, :count] / np.maximum(np.linalg.norm(vectors[:, :count], axis=1, keepdims=True), 1e-12)
    coordinates = np.zeros((len(rows), 2))
    coordinates[:, : vectors.shape[1] - 1] = vectors[:, 1:3]
    return SpectralClusters(_largest_first(clusters(directions, count, seed=seed)), coordinates, eigenvalues)


def _largest_first(labels: Integers) -> Integers:
    """Return labels numbered by falling size, those of one size by their first row."""
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    number = np.empty(len(sizes), np.int64)
    number[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return number[inverse]
