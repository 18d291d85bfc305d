"""Intervals of means and fractions, against scipy and against the formula in exact decimals."""

from decimal import Decimal, getcontext
from typing import Any

import numpy as np
import pytest
from scipy import stats

from crp_kit.errors import InputError
from crp_kit.statistics.intervals import check_confidence, mean_interval, t_quantile, wilson_interval

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
