"""Clusters of concepts against scipy and brute force."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from crp_kit.statistics.clusters import average_linkage, cut_by_number, cut_by_similarity, leaf_order

RNG = np.random.default_rng(1)
SIMILARITY = np.corrcoef(RNG.normal(size=(9, 4)) @ RNG.normal(size=(4, 30)) + RNG.normal(size=(9, 30)))


def same_partition(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return bool(((one[:, None] == one) == (other[:, None] == other)).all())


def test_the_linkage_and_its_cuts_are_those_of_scipy() -> None:
    reference = linkage(squareform(1 - SIMILARITY, checks=False), "average")
    tree = average_linkage(SIMILARITY)
    np.testing.assert_allclose(tree, reference)
    for count in (1, 3, 9):
        labels = cut_by_number(tree, count)
        assert same_partition(labels, fcluster(reference, count, "maxclust"))
        assert labels.max() + 1 == count
    assert same_partition(cut_by_similarity(tree, 0.3), fcluster(reference, 0.7, "distance"))


def test_clusters_are_numbered_by_size_then_by_their_first_concept() -> None:
    blocks = np.repeat([0, 1, 2, 3], [1, 2, 4, 2])
    labels = cut_by_similarity(average_linkage((blocks[:, None] == blocks).astype(float)), 0.5)
    assert labels.tolist() == [3, 1, 1, 0, 0, 0, 0, 2, 2]


def test_a_pair_at_the_threshold_is_joined() -> None:
    tree = average_linkage(np.array([[1, 0.7], [0.7, 1]]))
    assert cut_by_similarity(tree, 0.7).tolist() == [0, 0]
    assert cut_by_similarity(tree, 0.71).tolist() == [0, 1]


def test_a_concept_without_similarity_stays_alone() -> None:
    similarity = np.array([[1, 0.9, np.nan], [0.9, 1, np.nan], [np.nan, np.nan, np.nan]])
    assert cut_by_similarity(average_linkage(similarity), 0.5).tolist() == [0, 0, 1]


def test_the_order_of_leaves_is_the_best_that_the_tree_allows() -> None:
    part = SIMILARITY[:6, :6]
    tree = average_linkage(part)

    def length(order: Any) -> float:
        return float(sum(1 - part[one, other] for one, other in pairwise(order)))

    members = [{leaf} for leaf in range(6)]
    for one, other, *_ in tree:
        members.append(members[int(one)] | members[int(other)])

    def allowed(order: Any) -> bool:
        """Whether each branch is a run of neighbours."""
        return all(max(map(order.index, branch)) - min(map(order.index, branch)) < len(branch) for branch in members)

    best = min(length(order) for order in permutations(range(6)) if allowed(order))
    assert abs(length(leaf_order(tree, part)) - best) < 1e-12


def test_more_concepts_than_can_be_ordered_best_have_the_order_of_the_tree() -> None:
    similarity = np.corrcoef(RNG.normal(size=(1001, 8)))
    assert sorted(leaf_order(average_linkage(similarity), similarity)) == list(range(1001))


def test_a_single_concept_is_a_cluster_of_its_own() -> None:
    for similarity in (np.ones((1, 1)), np.full((1, 1), np.nan)):
        tree = average_linkage(similarity)
        assert tree.shape == (0, 4)
        assert cut_by_number(tree, 1).tolist() == cut_by_similarity(tree, 0.5).tolist() == [0]
        assert leaf_order(tree, similarity).tolist() == [0]
