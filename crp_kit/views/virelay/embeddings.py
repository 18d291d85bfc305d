"""How samples lie together by the concepts that they use: embeddings in few dimensions, and clusters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["cluster_counts", "clusters", "principal", "spectral"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

_COUNTS = (2, 3, 5, 8)
_EIGENVECTORS = 8
_NEIGHBOUR = 7


def principal(values: Floats) -> Floats:
    """Return the two principal components of rows: (row, 2).

    Parameters
    ----------
    values : array
        (row, feature).

    Examples
    --------
    >>> principal(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))[:, 0].round(6).tolist()
    [-5.0, 0.0, 5.0]
    """
    centred = values - values.mean(0)
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(values), 2))
    used = min(2, len(size))
    # A direction is only known up to its sign: the feature that weighs most in it counts as positive.
    heaviest = right[np.arange(len(right)), np.abs(right).argmax(1)]
    found[:, :used] = (left * size * np.where(heaviest < 0, -1, 1))[:, :used]
    return found + 0.0


def spectral(values: Floats) -> tuple[Floats, Floats]:
    """Return a spectral embedding of rows, (row, dimension), and the eigenvalue of each dimension, ascending.

    Rows are linked the more the nearer they are, measured by the distance to their seventh neighbours (Zelnik-Manor and
    Perona, NeurIPS 2004); the dimensions are eigenvectors of the normalised Laplacian of these links, without the first
    one. Small eigenvalues, followed by a gap, tell of clusters, as in spectral relevance analysis (Lapuschkin et al.,
    Nature Communications 10, 2019).

    Parameters
    ----------
    values : array
        (row, feature), at least 2 rows.
    """
    count = len(values)
    distance = np.linalg.norm(values[:, None] - values[None], axis=-1)
    reach = np.sort(distance, axis=1)[:, min(_NEIGHBOUR, count - 1)]
    reach = np.maximum(reach, 1e-9 + 1e-3 * float(distance.max()))  # rows that are equal have no reach
    links = np.exp(-(distance**2) / (reach[:, None] * reach[None]))
    np.fill_diagonal(links, 0)
    scale = 1 / np.sqrt(links.sum(1) + 1e-12)
    eigenvalues, vectors = np.linalg.eigh(np.eye(count) - links * scale[:, None] * scale[None])
    chosen = slice(1, min(_EIGENVECTORS, count - 1) + 1)
    found = vectors[:, chosen]
    heaviest = found[np.abs(found).argmax(0), np.arange(found.shape[1])]
    return found * np.where(heaviest < 0, -1, 1), np.maximum(eigenvalues[chosen], 0)


def cluster_counts(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return into how many clusters groups of these sizes can be parted; none without scikit-learn."""
    try:
        import sklearn.cluster  # noqa: F401
    except ImportError:
        return ()
    return tuple(count for count in _COUNTS if count < min(sizes))


def clusters(values: Floats, count: int) -> Labels:
    """Return the cluster of each row by k-means, always the same for the same rows: (row,). Needs scikit-learn."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        found: Labels = KMeans(count, n_init=10, random_state=0).fit_predict(values)
    return found.astype(np.int64)
