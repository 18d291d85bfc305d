"""Stability of rankings against scipy and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import hypergeom, spearmanr, ttest_ind

from crp_kit.errors import InputError
from crp_kit.statistics.moments import moments_by_group
from crp_kit.statistics.stability import fold_numbers, marker_scores, rank_agreement, top_agreement

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
GROUP = RNG.permutation(np.repeat([0, 1, 2, 4], [9, 1, 4, 6]))
VALUES = RNG.normal(size=(20, 7)) + GROUP[:, None]


def test_folds_deal_out_each_group_evenly() -> None:
    fold = fold_numbers(GROUP, 3, seed=5)
    for group in np.unique(GROUP):
        sizes = np.bincount(fold[group == GROUP], minlength=3)
        assert sizes.max() - sizes.min() <= 1
    assert (fold == fold_numbers(GROUP, 3, seed=5)).all()
    assert (fold != fold_numbers(GROUP, 3, seed=6)).any()
    assert len(fold_numbers(GROUP[:0], 2, seed=0)) == 0


def test_marker_scores_are_welch_t_against_the_rest() -> None:
    scores = marker_scores(moments_by_group([(GROUP, VALUES)], 5, 7))
    for group in (0, 2, 4):
        expected = ttest_ind(VALUES[group == GROUP], VALUES[group != GROUP], equal_var=False).statistic
        np.testing.assert_allclose(scores[group], expected, rtol=1e-9)
    assert np.isnan(scores[[1, 3]]).all()


def test_a_concept_that_never_varies_marks_nothing() -> None:
    values = np.concatenate([VALUES, np.full((20, 1), 0.1)], axis=1)
    assert marker_scores(moments_by_group([(GROUP, values)], 5, 8))[0, -1] == 0


def test_rank_agreement_is_the_mean_of_spearman_over_pairs_of_folds() -> None:
    scores = RNG.integers(0, 6, size=(3, 4, 9)).astype("f8")
    scores[1, 3, 2] = np.nan
    expected = [
        np.mean([spearmanr(scores[a, group], scores[b, group]).statistic for a, b in ((0, 1), (0, 2), (1, 2))])
        for group in range(3)
    ]
    np.testing.assert_allclose(rank_agreement(scores), [*expected, np.nan], atol=1e-12)
    assert np.isnan(rank_agreement(np.zeros((2, 1, 4)))).all()


def test_top_agreement_is_the_overlap_of_sets() -> None:
    scores = RNG.normal(size=(2, 5, 9))
    tops = [[set(np.argsort(-line)[:3].tolist()) for line in fold] for fold in scores]
    expected = [len(one & other) / 3 for one, other in zip(*tops, strict=True)]
    np.testing.assert_allclose(top_agreement(scores, 3)[0], expected)
    np.testing.assert_array_equal(top_agreement(scores, 9), 1)
    scores[0, 2] = np.nan
    assert np.isnan(top_agreement(scores, 3)).tolist() == [[False, False, True, False, False]] * 2
    with pytest.raises(InputError, match="number of concepts, 9"):
        top_agreement(scores, 10)


@pytest.mark.parametrize(("k", "concepts"), [(3, 9), (7, 9), (1, 5), (9, 9), (40, 400)])
def test_the_p_value_of_an_overlap_of_two_folds_is_hypergeometric(k: int, concepts: int) -> None:
    scores = RNG.normal(size=(2, 60, concepts))
    scores[1, :30] += scores[0, :30]
    overlap, p = top_agreement(scores, k)
    expected = hypergeom.sf(np.round(overlap * k) - 1, concepts, k, k)
    np.testing.assert_allclose(p, expected, rtol=1e-9)


def test_the_p_value_of_more_folds_is_twice_the_mean_of_their_pairs_and_at_most_one() -> None:
    scores = RNG.normal(size=(3, 200, 12))
    pairs = [top_agreement(scores[list(pair)], 4)[1] for pair in ((0, 1), (0, 2), (1, 2))]
    p = top_agreement(scores, 4)[1]
    np.testing.assert_allclose(p, np.minimum(2 * np.mean(pairs, 0), 1), rtol=1e-12)
    assert p.max() == 1
    assert np.mean(p <= 0.05) <= 0.05


def test_random_rankings_agree_as_by_chance() -> None:
    scores = RNG.normal(size=(2, 3000, 20))
    overlap, p = top_agreement(scores, 5)
    assert abs(overlap.mean() - 5 / 20) < 0.01
    assert np.mean(p <= 0.05) <= 0.06
    assert abs(rank_agreement(scores).mean()) < 0.01
