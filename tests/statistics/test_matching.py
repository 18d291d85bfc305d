"""Matching of concepts against scipy and brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from crp_kit.statistics.matching import one_to_one, reference_overlap

RNG = np.random.default_rng(0)


def test_the_matching_has_the_largest_sum_of_all() -> None:
    similarity = RNG.uniform(-1, 1, size=(5, 6))
    concepts, others = one_to_one(similarity, -1)
    best = max(sum(similarity[range(5), list(chosen)]) for chosen in permutations(range(6), 5))
    assert similarity[concepts, others].sum() == pytest.approx(best)
    assert sorted(zip(concepts, others, strict=True)) == list(zip(*linear_sum_assignment(-similarity), strict=True))
    assert (np.diff(similarity[concepts, others]) <= 0).all()


def test_a_permutation_is_found() -> None:
    order = RNG.permutation(30)
    concepts, others = one_to_one(np.eye(30)[order], 0.5)
    assert others.tolist() == order[concepts].tolist()


def test_pairs_below_the_threshold_and_unknown_ones_are_not_matched() -> None:
    similarity = np.array([[0.9, 0.0, np.nan], [0.0, 0.4, np.nan], [0.0, 0.0, np.nan]])
    assert one_to_one(similarity, 0.5)[0].tolist() == [0]
    assert one_to_one(similarity, 0.4)[0].tolist() == [0, 1]
    assert len(one_to_one(np.full((2, 3), np.nan), -5)[0]) == 0
    assert len(one_to_one(np.empty((0, 3)), 0.5)[0]) == 0


def largest_sum(similarity: np.ndarray) -> float:
    """The largest sum of a one-to-one matching in which each concept may stay alone where its similarity is unknown."""
    known = np.nan_to_num(similarity)
    rows, columns = known.shape
    return max(sum(known[range(rows), list(chosen)]) for chosen in permutations(range(columns), rows))


@pytest.mark.parametrize("seed", range(12))
def test_unknown_similarities_and_ties_leave_the_largest_sum_to_the_others(seed: int) -> None:
    generator = np.random.default_rng(seed)
    similarity = generator.integers(-4, 5, size=(4, 5)) / 4
    similarity[generator.random((4, 5)) < 0.3] = np.nan
    similarity[seed % 4] = np.nan  # a concept that is constant
    concepts, others = one_to_one(similarity, -1)
    assert similarity[concepts, others].sum() == pytest.approx(largest_sum(similarity))
    assert len({*concepts.tolist()}) == len({*others.tolist()}) == len(concepts)


def test_concepts_without_any_references_take_no_match_away_from_others() -> None:
    overlap = reference_overlap([np.array([[0, 1], [-1, -1]]), np.array([[0, 1], [-1, -1]])], 2)
    concepts, others = one_to_one(overlap, 0.5)
    assert (concepts.tolist(), others.tolist()) == ([0], [0])


def test_the_overlap_is_the_jaccard_index_of_sets() -> None:
    lists = [np.stack([RNG.permutation(12)[:5] for _ in range(count)]) for count in (4, 6)]
    lists[0][0, 2:] = -1
    sets = [[set(line[line >= 0].tolist()) for line in layer] for layer in lists]
    expected = [[len(one & other) / len(one | other) for other in sets[1]] for one in sets[0]]
    np.testing.assert_allclose(reference_overlap(lists, 12), expected)


def test_concepts_without_references_overlap_with_none() -> None:
    overlap = reference_overlap([np.array([[-1], [0]]), np.array([[-1], [0]])], 1)
    assert np.isnan(overlap[0, 0])
    assert overlap[1].tolist() == [0, 1]
