"""Principal components of samples by the concepts that they use, and numbers of clusters; needs scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from ...errors import CrpKitError

__all__ = ["check_scikit_learn", "cluster_counts", "principal"]

Floats = npt.NDArray[np.float64]

_COUNTS = (2, 3, 5, 8)


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


def cluster_counts(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of clusters that groups of these sizes are all larger than."""
    return tuple(count for count in _COUNTS if count < min(sizes))
