"""Spectral embedding and clusters of rows, from the normalised Laplacian of a graph of neighbours.

Every pair of few rows has an affinity; of many rows each has only its nearest neighbours, so that the matrix is sparse.
`sklearn.manifold.spectral_embedding` returns no eigenvalues, whose gap says how many clusters there are, and warns of
few rows and of graphs that are not connected, which both occur here.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .arrays import Floats, Integers
from .libraries import scikit_learn

__all__ = ["clusters", "eigengap", "eigenvectors", "neighbour_graph", "spectral"]

_EIGENVECTORS = 8
_NEIGHBOUR = 7
_DENSE = 128
"""Up to so many rows a connected part of a graph is solved without ARPACK, which wants far fewer vectors than rows."""


def spectral(values: Floats) -> tuple[Floats, Floats]:
    """Return a spectral embedding of rows, (row, dimension), and the eigenvalue of each dimension, ascending.

    The affinity of two rows falls with their distance, in units of the distances to their seventh neighbours; the
    dimensions are eigenvectors of the normalised Laplacian of the affinities, without the first one. Small
    eigenvalues, followed by a gap, indicate clusters, as in spectral relevance analysis.

    Parameters
    ----------
    values : array
        (row, feature), few rows: the affinities are (row, row).

    References
    ----------
    Zelnik-Manor and Perona, "Self-tuning spectral clustering", NeurIPS 2004.
    Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really learn", Nature
    Communications 10, 2019.
    """
    from scipy.linalg import eigh
    from scipy.sparse.csgraph import laplacian

    if len(values) < 2:
        return np.zeros((len(values), 0)), np.zeros(0)
    matrix = laplacian(_affinity(values), normed=True)
    eigenvalues, vectors = eigh(matrix, subset_by_index=(1, min(_EIGENVECTORS, len(values) - 1)))
    return _signed(vectors), np.maximum(eigenvalues, 0)


def _affinity(values: Floats) -> Floats:
    """Return the affinities of rows, in [0, 1]: (row, row)."""
    distance = scikit_learn("metrics").pairwise_distances(values)
    nth = min(_NEIGHBOUR, len(values) - 1)
    reach = np.partition(distance, nth, axis=1)[:, nth]
    reach = np.maximum(reach, 1e-9 + 1e-3 * float(distance.max()))  # equal rows are at a distance of 0
    affinity: Floats = np.exp(-(distance**2) / (reach[:, None] * reach))
    np.fill_diagonal(affinity, 0)
    return affinity


def neighbour_graph(values: Floats, k: int) -> Any:
    """Return the graph that joins each row with its k nearest ones, in both directions: sparse (row, row) of 0 and 1.

    Parameters
    ----------
    values : array
        (row, feature), more rows than k.
    k : int
        At least 1.

    Examples
    --------
    >>> neighbour_graph(np.array([[0.0], [1.0], [3.0]]), 1).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    from scipy.sparse import csr_array

    graph = csr_array(scikit_learn("neighbors").kneighbors_graph(values, k))
    return graph.maximum(graph.T)


def eigenvectors(graph: Any, count: int, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Return the lowest eigenvectors of the normalised Laplacian of a graph, (row, vector), and their eigenvalues.

    Each connected part is solved by itself: an eigenvalue of 0 occurs once for each part, and iterative solvers may
    miss some of the vectors that share an eigenvalue. The first vector is the one that is known beforehand, the square
    roots of the numbers of neighbours.

    Parameters
    ----------
    graph : sparse array
        (row, row), symmetric, each row with a neighbour.
    count : int
        How many vectors; at most as many as there are rows.
    seed : int, optional
        Of the vector with which ARPACK starts.

    References
    ----------
    von Luxburg, "A tutorial on spectral clustering", Statistics and Computing 17, 2007.
    """
    from scipy.sparse.csgraph import connected_components

    total, part = connected_components(graph, directed=False)
    values, columns = [], []
    for number in range(total):
        rows = np.flatnonzero(part == number)
        eigenvalues, vectors = _connected(graph[rows][:, rows], count, seed)
        wide = np.zeros((graph.shape[0], len(eigenvalues)))
        wide[rows] = vectors
        values.append(eigenvalues)
        columns.append(wide)
    every, vectors = np.concatenate(values), np.concatenate(columns, 1)
    order = np.argsort(every, kind="stable")[:count]
    return _signed(_trivial_first(vectors[:, order], graph, min(total, count))), every[order]


def _connected(graph: Any, count: int, seed: int) -> tuple[Floats, Floats]:
    """Return the lowest eigenvalues and eigenvectors of a connected graph, whose eigenvalue 0 occurs once."""
    from scipy.linalg import eigh
    from scipy.sparse import diags
    from scipy.sparse.csgraph import laplacian
    from scipy.sparse.linalg import eigsh

    size = graph.shape[0]
    matrix, count = laplacian(graph, normed=True), min(count, size)
    if size <= max(_DENSE, 2 * count):
        values, vectors = eigh(matrix.toarray(), subset_by_index=(0, count - 1))
    else:
        start = np.random.default_rng(seed).uniform(0.5, 1.5, size)
        # The largest of 2 - L, which ARPACK converges to at once, are the smallest of L.
        values, vectors = eigsh(diags(np.full(size, 2.0)) - matrix, count, which="LA", v0=start)
        order = np.argsort(-values)
        values, vectors = 2 - values[order], vectors[:, order]
    values = np.maximum(values, 0)
    values[0] = 0
    return values, vectors


def _trivial_first(vectors: Floats, graph: Any, parts: int) -> Floats:
    """Return the vectors with those of the eigenvalue 0 turned so that the first is the trivial one."""
    trivial = np.sqrt(graph.sum(1))[:, None]
    inside = vectors[:, :parts] @ (vectors[:, :parts].T @ trivial)
    turned, _ = np.linalg.qr(np.concatenate([inside, vectors[:, :parts]], 1))
    return np.concatenate([turned[:, :parts], vectors[:, parts:]], 1)


def _signed(vectors: Floats) -> Floats:
    """Return eigenvectors, which are only known up to their sign, with the largest entry positive."""
    largest = vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1, 1)


def eigengap(eigenvalues: Floats) -> int:
    """Return the number of clusters: how many eigenvalues come before the widest gap.

    Parameters
    ----------
    eigenvalues : array
        Ascending, the trivial 0 included.

    Examples
    --------
    >>> eigengap(np.array([0, 0.01, 0.02, 0.5, 0.6]))
    3
    """
    return int(np.diff(eigenvalues).argmax()) + 1 if len(eigenvalues) > 1 else 1


def clusters(values: Floats, count: int, *, seed: int = 0) -> Integers:
    """Return the cluster of each row by k-means, always the same for the same rows: (row,)."""
    module, exceptions = scikit_learn("cluster"), scikit_learn("exceptions")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)  # fewer distinct rows than clusters
        labels: Integers = module.KMeans(count, n_init=10, random_state=seed).fit_predict(values)
    return labels.astype(np.int64)
