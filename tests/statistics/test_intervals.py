"""Intervals of means and fractions, against scipy and against the formula in exact decimals."""

from decimal import Decimal, getcontext
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from crp_kit.errors import InputError
from crp_kit.statistics.intervals import (
    auc_interval,
    check_confidence,
    correlation_interval,
    mean_interval,
    percentile_interval,
    t_quantile,
    wilson_interval,
)

getcontext().prec = 40


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("count", [2, 3, 17, 100_000])
def test_the_interval_of_a_mean_is_the_one_of_scipy(count: int, confidence: float) -> None:
    values = np.random.default_rng(count).normal(3, 2, count)
    low, high = mean_interval(count, values.mean(), values.std(), confidence=confidence)
    expected = stats.t.interval(confidence, count - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose([low, high], expected, rtol=1e-12)


def test_each_row_of_means_has_the_interval_of_its_own_count() -> None:
    count, mean = np.array([[2], [5], [1], [0]]), np.arange(8.0).reshape(4, 2)
    low, high = mean_interval(count, mean, np.ones((4, 2)))
    for row in range(2):
        scale = 1 / np.sqrt(count[row, 0] - 1)
        expected = stats.t.interval(0.95, count[row, 0] - 1, mean[row], scale)
        np.testing.assert_allclose([low[row], high[row]], expected, rtol=1e-12)
    assert np.isnan(low[2:]).all()
    assert np.isnan(high[2:]).all()


def test_the_interval_of_equal_values_is_the_value() -> None:
    low, high = mean_interval(5, 0.25, 0.0)
    assert low == high == 0.25


def test_there_is_no_quantile_without_degrees_of_freedom() -> None:
    np.testing.assert_allclose(
        t_quantile([1.0, 4.5], 0.95), [stats.t.ppf(0.975, 1), stats.t.ppf(0.975, 4.5)], rtol=1e-12
    )
    assert np.isnan(t_quantile([0.0, -1.0, np.nan], 0.95)).all()


def exact_wilson(successes: int, count: int, z: Decimal) -> tuple[float, float]:
    """Both roots of (p - x)² = z² x (1 - x) / n."""
    size, fraction = Decimal(count), Decimal(successes) / count
    a, b, c = 1 + z * z / size, -(2 * fraction + z * z / size), fraction * fraction
    root = (b * b - 4 * a * c).sqrt()
    return float((-b - root) / (2 * a)), float((-b + root) / (2 * a))


Z = {0.95: Decimal("1.959963984540054235524594430521"), 0.99: Decimal("2.575829303548900760966472379500")}
CASES = [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (999, 1000), (7, 100_000)]


@pytest.mark.parametrize("confidence", Z)
@pytest.mark.parametrize(("successes", "count"), CASES)
def test_the_interval_of_a_fraction_solves_the_equation_of_wilson(
    successes: int, count: int, confidence: float
) -> None:
    low, high = wilson_interval(successes, count, confidence=confidence)
    np.testing.assert_allclose([low, high], exact_wilson(successes, count, Z[confidence]), rtol=1e-11, atol=1e-15)
    assert 0 <= low <= successes / count <= high <= 1


def test_the_interval_of_a_fraction_is_the_one_of_scipy() -> None:
    low, high = wilson_interval([2, 30], [9, 31], confidence=0.9)
    for number, (successes, count) in enumerate([(2, 9), (30, 31)]):
        expected = stats.binomtest(successes, count).proportion_ci(0.9, method="wilson")
        np.testing.assert_allclose([low[number], high[number]], [expected.low, expected.high], rtol=1e-12)


def test_none_and_all_have_an_exact_end_and_nothing_has_no_interval() -> None:
    low, high = wilson_interval([0, 7, 0], [7, 7, 0])
    assert low[0] == 0
    assert high[1] == 1
    assert np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize(("successes", "count"), [(-1, 3), (4, 3), ([1, 1], [1, 0])])
def test_more_successes_than_samples_are_refused(successes: Any, count: Any) -> None:
    with pytest.raises(InputError, match="successes are from 0 to count"):
        wilson_interval(successes, count)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95, float("nan"), True, "0.95", None])
def test_a_confidence_that_is_none_is_refused(confidence: Any) -> None:
    with pytest.raises(InputError, match="confidence is between 0 and 1, such as 0.95; got"):
        check_confidence(confidence)


def standard_error(value: float, n_a: int, n_b: int) -> float:
    """Newcombe's method 5: Hanley and McNeil's variance, both sizes less one in it replaced by their mean less one."""
    more = (n_a + n_b) / 2 - 1
    spread = 1 + more * (1 - value) / (2 - value) + more * value / (1 + value)
    return float(np.sqrt(value * (1 - value) * spread / n_a / n_b))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (3, 40), (200, 5), (5000, 20_000)])
def test_the_interval_of_an_auc_ends_where_it_is_so_many_standard_errors_away(
    n_a: int, n_b: int, confidence: float
) -> None:
    areas = np.array([0.0, 1e-6, 0.2, 0.5, 0.8, 1 - 1e-6, 1.0])
    low, high = auc_interval(areas, n_a, n_b, confidence=confidence)
    z = stats.norm.ppf((1 + confidence) / 2)
    for area, below, above in zip(areas.tolist(), low.tolist(), high.tolist(), strict=True):

        def distance(value: float, area: float = area) -> float:
            return abs(area - value) - z * standard_error(value, n_a, n_b)

        expected = [0.0 if area == 0 else brentq(distance, 0, area - 1e-12, xtol=1e-15)]
        expected.append(1.0 if area == 1 else brentq(distance, area + 1e-12, 1, xtol=1e-15))
        assert [below, above] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(low, 1 - high[::-1], atol=1e-9)


def test_the_interval_of_an_auc_is_near_that_of_delong_in_large_samples() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.8, 1, 900), generator.normal(0, 1, 1100)
    higher = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    delong = np.sqrt(higher.mean(1).var(ddof=1) / len(a) + higher.mean(0).var(ddof=1) / len(b))
    low, high = auc_interval(higher.mean(), len(a), len(b))
    assert float(high - low) == pytest.approx(2 * 1.96 * delong, rel=0.08)


@pytest.mark.parametrize(("shift", "n_a", "n_b"), [(0.0, 8, 30), (1.0, 20, 20), (2.2, 15, 40)])
def test_the_interval_of_an_auc_holds_the_true_one_as_often_as_it_says(shift: float, n_a: int, n_b: int) -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(shift, 1, (600, n_a, 1)), generator.normal(0, 1, (600, 1, n_b))
    low, high = auc_interval((a > b).mean((1, 2)), n_a, n_b)
    true = stats.norm.cdf(shift / np.sqrt(2))
    assert 0.925 <= np.mean((low <= true) & (true <= high)) <= 0.985


def test_an_auc_that_is_not_known_has_no_interval() -> None:
    low, high = auc_interval([np.nan, 0.5], [3, 4], 5)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_a_correlation_is_the_one_of_scipy(confidence: float) -> None:
    generator = np.random.default_rng(2)
    for count in (4, 9, 500):
        x = generator.normal(size=count)
        result = stats.pearsonr(x, x + generator.normal(size=count))
        expected = result.confidence_interval(confidence)
        ends = correlation_interval(result.statistic, count, confidence=confidence)
        np.testing.assert_allclose(ends, expected, rtol=1e-10)


def test_the_interval_of_a_rank_correlation_is_wider_and_holds_the_true_one() -> None:
    low, high = correlation_interval(0.6, 30, ranks=True)
    plain = correlation_interval(0.6, 30)
    assert low < plain[0] < plain[1] < high
    generator, hits = np.random.default_rng(3), []
    true = 6 / np.pi * np.arcsin(0.6 / 2)
    for _ in range(400):
        x, y = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 25).T
        ends = correlation_interval(stats.spearmanr(x, y).statistic, 25, ranks=True)
        hits.append(ends[0] <= true <= ends[1])
    assert 0.92 <= np.mean(hits) <= 0.98


def test_correlations_of_few_values_have_no_interval_and_full_ones_are_their_own() -> None:
    low, high = correlation_interval([0.5, np.nan, 1.0, -1.0], [3, 9, 9, 9])
    np.testing.assert_array_equal(low, [np.nan, np.nan, 1, -1])
    np.testing.assert_array_equal(high, [np.nan, np.nan, 1, -1])


def test_the_interval_of_a_percentile_is_that_of_the_share_below_it() -> None:
    low, high = percentile_interval([12.5, 50.0], [8, 20])
    np.testing.assert_allclose([low, high], 100 * np.array(wilson_interval([1, 10], [8, 20])))
