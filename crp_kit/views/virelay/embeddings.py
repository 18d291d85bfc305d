"""Embeddings of samples by the concepts that they use, in few dimensions, and clusters; needs scikit-learn.

Principal components, distances and k-means are scikit-learn's. The spectral embedding takes the normalised Laplacian
and its eigenvectors from scipy, which scikit-learn brings: `sklearn.manifold.spectral_embedding` returns no
eigenvalues, which ViRelAy draws, and warns of few rows and of graphs that are not connected, which both occur here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from ...errors import CrpKitError

__all__ = ["check_scikit_learn", "cluster_counts", "clusters", "principal", "spectral"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

_COUNTS = (2, 3, 5, 8)
_EIGENVECTORS = 8
_NEIGHBOUR = 7


def check_scikit_learn() -> None:
    """Make sure that scikit-learn is there, before any work is done.

    Raises
    ------
    CrpKitError
        If it is not installed.
    """
    if find_spec("sklearn") is None:
        raise CrpKitError("the export to ViRelAy needs scikit-learn: pip install 'crp-kit[virelay]'")


def principal(values: Floats) -> Floats:
    """Return the two principal components of rows, (row, 2); zeros for directions in which they do not vary.

    Parameters
    ----------
    values : array
        (row, feature).

    Examples
    --------
    >>> principal(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))[:, 0].round(6).tolist()
    [-5.0, 0.0, 5.0]
    """
    from sklearn.decomposition import PCA

    components = np.zeros((len(values), 2))
    if (values == values[:1]).all():  # a variance of 0, by which scikit-learn would divide
        return components
    used = min(2, *values.shape)
    components[:, :used] = PCA(used, svd_solver="full").fit_transform(values)
    return components


def spectral(values: Floats) -> tuple[Floats, Floats]:
    """Return a spectral embedding of rows, (row, dimension), and the eigenvalue of each dimension, ascending.

    The affinity of two rows falls with their distance, in units of the distances to their seventh neighbours; the
    dimensions are eigenvectors of the normalised Laplacian of the affinities, without the first one. Small
    eigenvalues, followed by a gap, indicate clusters, as in spectral relevance analysis.

    Parameters
    ----------
    values : array
        (row, feature).

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
    # An eigenvector is only known up to its sign: its largest entry counts as positive.
    largest = vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1, 1), np.maximum(eigenvalues, 0)


def _affinity(values: Floats) -> Floats:
    """Return the affinities of rows, in [0, 1]: (row, row)."""
    from sklearn.metrics import pairwise_distances

    distance = pairwise_distances(values)
    nth = min(_NEIGHBOUR, len(values) - 1)
    reach = np.partition(distance, nth, axis=1)[:, nth]
    reach = np.maximum(reach, 1e-9 + 1e-3 * float(distance.max()))  # equal rows are at a distance of 0
    affinity: Floats = np.exp(-(distance**2) / (reach[:, None] * reach))
    np.fill_diagonal(affinity, 0)
    return affinity


def cluster_counts(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of clusters that groups of these sizes are all larger than."""
    return tuple(count for count in _COUNTS if count < min(sizes))


def clusters(values: Floats, count: int) -> Labels:
    """Return the cluster of each row by k-means, always the same for the same rows: (row,)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        labels: Labels = KMeans(count, n_init=10, random_state=0).fit_predict(values)
    return labels.astype(np.int64)
