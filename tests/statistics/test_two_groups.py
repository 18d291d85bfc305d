"""Two groups compared: t, df, p, g and AUC, against scipy and brute force in float64."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crp_kit.errors import InputError
from crp_kit.statistics.moments import moments_of
from crp_kit.statistics.two_groups import WelchTest, auc, welch_test

Array = npt.NDArray[Any]
QUICK = settings(max_examples=30, derandomize=True, deadline=None)


def groups(n_a: int, n_b: int, concepts: int = 9) -> tuple[Array, Array]:
    draw = np.random.default_rng((n_a, n_b))
    scale = 10.0 ** np.arange(-concepts // 2, -concepts // 2 + concepts)
    a = draw.normal(0.3, 1, (n_a, concepts)) * scale
    return a, draw.normal(0, 2, (n_b, concepts)) * scale


def welch(a: Array, b: Array) -> WelchTest:
    return welch_test(moments_of(a), moments_of(b))


SIZES = [(2, 2), (2, 50), (5, 3), (40, 61), (1000, 2)]


@pytest.mark.parametrize(("n_a", "n_b"), SIZES)
def test_t_and_p_are_those_of_scipy_from_moments(n_a: int, n_b: int) -> None:
    a, b = groups(n_a, n_b)
    test = welch(a, b)
    moments = [value for group in (a, b) for value in (group.mean(0), group.std(0, ddof=1), len(group))]
    expected = stats.ttest_ind_from_stats(*moments, equal_var=False)
    np.testing.assert_allclose(test.t, expected.statistic, rtol=1e-12)
    np.testing.assert_allclose(test.p, expected.pvalue, rtol=1e-11)


@pytest.mark.parametrize(("n_a", "n_b"), SIZES)
def test_degrees_of_freedom_and_interval_are_those_of_scipy_from_values(n_a: int, n_b: int) -> None:
    a, b = groups(n_a, n_b)
    test, expected = welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    np.testing.assert_allclose(test.df, expected.df, rtol=1e-12)
    interval = expected.confidence_interval(0.9)
    reach = stats.t.ppf(0.95, test.df) * test.error
    np.testing.assert_allclose(test.difference - reach, interval.low, rtol=1e-10)
    np.testing.assert_allclose(test.difference + reach, interval.high, rtol=1e-10)


def test_very_small_p_values_keep_their_digits() -> None:
    a, b = groups(500, 500, 1)
    test = welch(a + 0.3, b)
    assert 0 < test.p[0] < 1e-100
    np.testing.assert_allclose(test.p, stats.ttest_ind(a + 0.3, b, equal_var=False).pvalue, rtol=1e-9)


@pytest.mark.parametrize(("n_a", "n_b"), SIZES)
def test_g_is_the_standardised_difference_with_the_correction_of_hedges(n_a: int, n_b: int) -> None:
    a, b = groups(n_a, n_b)
    freedom = n_a + n_b - 2
    pooled = np.sqrt((((a - a.mean(0)) ** 2).sum(0) + ((b - b.mean(0)) ** 2).sum(0)) / freedom)
    exact = stats.chi(freedom).expect(lambda x: 1 / x) * np.sqrt(freedom) if 1 < freedom < 50 else None
    g = welch(a, b).g
    if exact is not None:  # the mean of 1/s, of which the correction is the inverse
        np.testing.assert_allclose(g, (a.mean(0) - b.mean(0)) / pooled / exact, rtol=1e-7)
    np.testing.assert_allclose(g, (a.mean(0) - b.mean(0)) / pooled * (1 - 3 / (4 * freedom - 1)), rtol=0.03 / freedom)


def test_g_has_no_bias() -> None:
    draw = np.random.default_rng(0)
    assert welch(draw.normal(1, 1, (4, 40_000)), draw.normal(0, 1, (3, 40_000))).g.mean() == pytest.approx(1, abs=0.02)


def test_groups_without_variance_are_as_scipy_has_them() -> None:
    a, b = np.array([[1.0, 2.0, 2.0]] * 3), np.array([[2.0, 1.0, 2.0]] * 4)
    test = welch(a, b)
    np.testing.assert_array_equal(test.t, [-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(test.p, [0, 0, np.nan])
    np.testing.assert_array_equal(test.g, [-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(test.df, [1, 1, 1])
    np.testing.assert_array_equal(test.error, 0)
    with np.errstate(all="ignore"):
        expected = stats.ttest_ind_from_stats(a.mean(0), np.zeros(3), 3, b.mean(0), np.zeros(3), 4, equal_var=False)
    np.testing.assert_array_equal(test.t, expected.statistic)
    np.testing.assert_array_equal(test.p, expected.pvalue)


def test_one_group_without_variance_is_tested_against_the_other() -> None:
    a, b = np.full((4, 1), 0.5), groups(2, 7, 1)[1]
    expected = stats.ttest_ind_from_stats(0.5, 0, 4, b.mean(0), b.std(0, ddof=1), 7, equal_var=False)
    np.testing.assert_allclose(welch(a, b).t, expected.statistic, rtol=1e-13)
    np.testing.assert_allclose(welch(a, b).p, expected.pvalue, rtol=1e-12)


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 5), (5, 1), (1, 1)])
def test_a_group_of_one_sample_has_a_difference_alone(n_a: int, n_b: int) -> None:
    a, b = groups(n_a, n_b)
    test = welch(a, b)
    np.testing.assert_allclose(test.difference, a.mean(0) - b.mean(0), rtol=1e-14)
    for name in ("error", "t", "df", "p", "g"):
        assert np.isnan(getattr(test, name)).all(), name


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 5), (5, 0)])
def test_an_empty_group_is_refused(n_a: int, n_b: int) -> None:
    a, b = groups(n_a, n_b)
    for compare in (welch, auc):
        with pytest.raises(InputError, match=rf"at least one sample; they have {n_a} and {n_b}"):
            compare(a, b)


# ------------------------------------------------------------------------------------------------------------- AUC


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 40), (30, 1), (25, 60)])
def test_auc_is_u_of_mann_and_whitney_with_ties(n_a: int, n_b: int, dtype: str) -> None:
    draw = np.random.default_rng((n_a, n_b))
    a, b = (draw.integers(-3, 4, (count, 130)).astype(dtype) for count in (n_a, n_b))
    expected = stats.mannwhitneyu(a.astype("f8"), b.astype("f8"), method="asymptotic").statistic
    np.testing.assert_array_equal(auc(a, b), expected / (n_a * n_b))


@QUICK
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_auc_is_the_share_of_pairs(first: list[int], second: list[int]) -> None:
    pairs = [(x > y) + (x == y) / 2 for x in first for y in second]
    assert auc(np.array([first]).T / 1.0, np.array([second]).T / 1.0)[0] == pytest.approx(sum(pairs) / len(pairs))


def test_auc_of_scores_without_ties_and_of_swapped_groups() -> None:
    a, b = groups(70, 31)
    expected = stats.mannwhitneyu(a, b).statistic / (70 * 31)
    np.testing.assert_allclose(auc(a, b), expected, rtol=1e-14)
    np.testing.assert_allclose(auc(b, a), 1 - expected, rtol=1e-14)


def test_auc_takes_zeros_of_either_sign_and_infinite_values_as_numbers() -> None:
    a, b = np.array([[0.0, np.inf]]), np.array([[-0.0, np.inf], [1.0, 3.0]])
    np.testing.assert_array_equal(auc(a, b), [0.25, 0.75])


def test_auc_leaves_its_values_as_they_are() -> None:
    a, b = groups(6, 7)
    before = a.copy(), b.copy()
    auc(a, b)
    auc(np.ascontiguousarray(a.T).T, b)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_auc_refuses_what_is_not_a_number() -> None:
    a, b = groups(6, 7)
    b[3, 5] = np.nan
    with pytest.raises(InputError, match="ranks are of values that are numbers"):
        auc(a, b)


@pytest.mark.parametrize(("a", "b"), [((3,), (3,)), ((3, 2), (3, 4))])
def test_auc_refuses_groups_of_other_concepts(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="two groups are"):
        auc(np.zeros(a), np.zeros(b))
