"""Agglomerative clusters of concepts by their similarity, and the order of the dendrogram."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["average_linkage", "cut_by_number", "cut_by_similarity", "leaf_order"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_OPTIMAL = 1000
"""Up to this many concepts, neighbours in the order of the dendrogram are as similar as they can be."""

_FEWEST = 2
"""Concepts that a tree joins."""


def average_linkage(similarity: Floats) -> Floats:
    """Return scipy's linkage of concepts by average linkage on 1 - similarity: (concept - 1, 4).

    A similarity that is NaN counts as 0. The tree of a single concept has no rows, which scipy knows nothing of.
    """
    from scipy.cluster.hierarchy import linkage

    if len(similarity) < _FEWEST:
        return np.zeros((0, 4))
    return np.asarray(linkage(_distances(similarity), "average"))


def cut_by_number(tree: Floats, clusters: int) -> Integers:
    """Return the cluster of each concept where the tree has so many branches, or fewer where heights are equal."""
    from scipy.cluster.hierarchy import fcluster

    return _by_size(fcluster(tree, clusters, "maxclust")) if len(tree) else np.zeros(1, np.int64)


def cut_by_similarity(tree: Floats, threshold: float) -> Integers:
    """Return the cluster of each concept when those are joined whose mean similarity is at least `threshold`."""
    from scipy.cluster.hierarchy import fcluster

    # The heights are 1 - similarity, rounded: a pair at the threshold itself is joined.
    return _by_size(fcluster(tree, 1 - threshold + 1e-12, "distance")) if len(tree) else np.zeros(1, np.int64)


def leaf_order(tree: Floats, similarity: Floats) -> Integers:
    """Return the concepts in the order of the leaves: (concept,).

    Up to 1,000 concepts, branches are swapped such that the similarities of neighbours have the largest sum.

    References
    ----------
    Bar-Joseph, Gifford and Jaakkola, "Fast optimal leaf ordering for hierarchical clustering", Bioinformatics 17, 2001.
    """
    from scipy.cluster.hierarchy import leaves_list, optimal_leaf_ordering

    if not len(tree):
        return np.zeros(1, np.int64)
    if len(similarity) <= _OPTIMAL:
        tree = optimal_leaf_ordering(tree, _distances(similarity))
    return np.asarray(leaves_list(tree)).astype(np.int64)


def _distances(similarity: Floats) -> Floats:
    """Return 1 - similarity of each pair, (pair,), as scipy has them."""
    above = np.triu_indices(len(similarity), 1)
    return np.maximum(1 - np.nan_to_num(similarity[above]), 0)


def _by_size(labels: npt.NDArray[Any]) -> Integers:
    """Number clusters from 0: the largest first, those of equal size by their first concept."""
    _, first, index, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return position[index]
