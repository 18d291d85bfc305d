"""Areas under ROC curves by mid-ranks, against scikit-learn's; ties, constant scores, empty groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, rankdata
from sklearn.metrics import roc_auc_score

from crp_kit.errors import InputError
from crp_kit.statistics.arrays import finite_rows, truth_columns
from crp_kit.statistics.ranks import auc_of_sums, mid_ranks, rank_sum_p


@pytest.mark.parametrize("levels", [2, 5, 100000])
def test_the_area_of_every_concept_and_group_is_that_of_scikit_learn(levels: int) -> None:
    generator = np.random.default_rng(levels)
    values = generator.integers(0, levels, (80, 7)) / levels
    groups = generator.random((80, 4)) < [0.1, 0.3, 0.5, 0.9]
    expected = [[roc_auc_score(group, column) for group in groups.T] for column in values.T]
    sums = mid_ranks(values).T @ groups
    assert np.allclose(auc_of_sums(sums, groups.sum(0).astype(float), len(values)), expected, atol=1e-12)


def test_a_constant_score_has_an_area_of_a_half_and_an_empty_group_none() -> None:
    ranks = mid_ranks(np.ones((2, 1)))
    sums = np.array([ranks[0, 0], 0, ranks.sum()])
    areas = auc_of_sums(sums, np.array([1.0, 0, 2]), 2)
    assert areas[0] == 0.5
    assert np.isnan(areas[1:]).all()


def test_arrays_that_are_no_rows_of_finite_numbers_or_truths_are_refused() -> None:
    for values in ("text", [[1, 2], [3]], np.zeros((2, 0)), np.zeros(3), [[np.inf]], [[None]]):
        with pytest.raises(InputError, match=r"^a matrix (is|has)"):
            finite_rows("a matrix", values)
    with pytest.raises(InputError, match=r"\(row, 3 concepts\); got the shape \(2, 2\)"):
        finite_rows("a matrix", np.zeros((2, 2)), columns=3)
    for truth in (np.zeros((2, 1)), np.zeros(2, bool), np.zeros((3, 1), bool), np.zeros((2, 0), bool)):
        with pytest.raises(InputError, match="attributes is an array of booleans"):
            truth_columns("attributes", truth, rows=2)


@pytest.mark.parametrize("shape", [(40, 6), (1, 3), (0, 3), (3, 1), (5, 0)])
@pytest.mark.parametrize("axis", [0, 1])
def test_ranks_are_those_of_scipy_with_ties_along_either_axis(shape: tuple[int, int], axis: int) -> None:
    generator = np.random.default_rng(shape[0])
    for values in (generator.integers(-2, 3, shape) / 3, generator.normal(size=shape).astype("f4"), np.zeros(shape)):
        ranks = mid_ranks(values, axis=axis)
        assert ranks.dtype == np.float64
        np.testing.assert_array_equal(ranks, rankdata(values, axis=axis).reshape(shape))
    zeros = np.array([[0.0], [-0.0], [1.0]])
    assert mid_ranks(zeros).ravel().tolist() == [1.5, 1.5, 3]


@pytest.mark.parametrize("levels", [2, 5, 100000])
def test_the_p_value_of_an_area_is_that_of_mann_and_whitney(levels: int) -> None:
    generator = np.random.default_rng(levels)
    values = generator.integers(0, levels, (40, 6)) / levels
    group = np.arange(40) < 12
    ranks = mid_ranks(values)
    areas = auc_of_sums(ranks[group].sum(0), np.array(12.0), 40)
    expected = mannwhitneyu(values[group], values[~group], method="asymptotic", use_continuity=False).pvalue
    np.testing.assert_allclose(rank_sum_p(areas, ranks, 12), expected, rtol=1e-10)
    assert np.isnan(rank_sum_p(np.array([0.5]), np.full((40, 1), 20.5), 12)).all()
