"""Matching of the concepts of two layers, one to one, by their similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["one_to_one", "reference_overlap"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def one_to_one(similarity: Floats, threshold: float) -> tuple[Integers, Integers]:
    """Return the pairs of concepts whose similarities have the largest sum, without those below a threshold.

    Parameters
    ----------
    similarity : numpy.ndarray
        (concept, other concept), from -1 to 1; NaN is never matched, and adds nothing to the sum.
    threshold : float

    Returns
    -------
    concepts, others : numpy.ndarray
        (pair,), the most similar pair first.

    References
    ----------
    Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 2, 1955.

    Examples
    --------
    >>> concepts, others = one_to_one(np.array([[0.9, 0.8], [0.8, 0.1]]), 0.5)
    >>> concepts.tolist(), others.tolist()
    ([0, 1], [1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    concepts, others = linear_sum_assignment(np.nan_to_num(similarity), maximize=True)
    matched = similarity[concepts, others]
    order = np.argsort(-matched, kind="stable")
    order = order[matched[order] >= threshold]
    return concepts[order].astype(np.int64), others[order].astype(np.int64)


def reference_overlap(lists: Sequence[Array], samples: int) -> Floats:
    """Return the Jaccard index of the reference samples of each two concepts: (concept, other concept).

    Parameters
    ----------
    lists : (array, array)
        Samples of each concept of two layers, (concept, k), from 0 to `samples` - 1; negative for none.
    samples : int

    Returns
    -------
    numpy.ndarray
        Number of common samples by that of all samples of both; NaN where neither has any.

    Examples
    --------
    >>> reference_overlap([np.array([[0, 1], [2, -1]]), np.array([[1, 2]])], 3).round(3).tolist()
    [[0.333], [0.5]]
    """
    from scipy.sparse import csr_array

    held = []
    for numbers in lists:
        concept, position = np.nonzero(numbers >= 0)
        shape = len(numbers), samples
        held.append(csr_array((np.ones(len(concept)), (concept, numbers[concept, position])), shape=shape))
    common = (held[0] @ held[1].T).toarray()
    sizes = [np.asarray(layer.sum(1)).ravel() for layer in held]
    union = sizes[0][:, None] + sizes[1] - common
    return np.asarray(np.divide(common, union, out=np.full(common.shape, np.nan), where=union > 0))
