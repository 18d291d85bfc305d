"""Moments of groups, against NumPy in float64 on all values at once."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from crp_kit.errors import InputError
from crp_kit.statistics import moments
from crp_kit.statistics.moments import GroupMoments, moments_by_group, moments_of, pooled_moments

Array = npt.NDArray[Any]

DRAW = np.random.default_rng(8)
VALUES = (DRAW.normal(size=(103, 7)) + 1000).astype("f4")
"""Far from 0, so that sums of squares would lose their digits."""
GROUP = DRAW.integers(0, 6, 103)
GROUP[GROUP == 4] = 0
GROUP[17] = 4  # the only sample of its group; 6 has none
GROUPS = 7


def blocks(step: int) -> list[tuple[Array, Array]]:
    return [(GROUP[start : start + step], VALUES[start : start + step]) for start in range(0, len(GROUP), step)]


@pytest.mark.parametrize("at_once", [1, 300, 1 << 22])
def test_moments_of_one_group_are_those_of_numpy(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_VALUES_AT_ONCE", at_once)
    result = moments_of(VALUES)
    assert int(result.count) == 103
    np.testing.assert_allclose(result.mean, VALUES.astype("f8").mean(0), rtol=1e-15)
    np.testing.assert_allclose(result.std, VALUES.astype("f8").std(0), rtol=1e-12)


@pytest.mark.parametrize("step", [1, 10, 103])
def test_moments_by_group_are_those_of_numpy_whatever_the_blocks(step: int) -> None:
    result = moments_by_group(blocks(step), GROUPS, 7)
    assert result.count.tolist() == np.bincount(GROUP, minlength=GROUPS).tolist()
    for group in range(GROUPS - 1):
        values = VALUES[group == GROUP].astype("f8")
        np.testing.assert_allclose(result.mean[group], values.mean(0), rtol=1e-15)
        np.testing.assert_allclose(result.std[group], values.std(0), rtol=1e-11, atol=1e-12)
    assert not result.std[4].any()
    assert np.isnan(result.mean[6]).all()
    assert np.isnan(result.std[6]).all()


def test_groups_together_have_the_moments_of_all_their_values() -> None:
    result = pooled_moments(moments_by_group(blocks(20), GROUPS, 7))
    assert int(result.count) == 103
    np.testing.assert_allclose(result.mean, VALUES.astype("f8").mean(0), rtol=1e-15)
    np.testing.assert_allclose(result.std, VALUES.astype("f8").std(0), rtol=1e-11)


@pytest.mark.parametrize("value", [0.1, 1e-30, 12345.678])
def test_equal_values_have_no_deviation_at_all(value: float) -> None:
    values = np.full((11, 3), value)
    assert not moments_of(values).std.any()
    by_group = moments_by_group([(np.array([0, 1, 1]), values[:3]), (np.array([1, 0, 1]), values[3:6])], 2, 3)
    assert not by_group.std.any()
    together = pooled_moments(by_group)
    assert not together.std.any()
    assert (together.mean == value).all()


def test_no_samples_have_no_moments() -> None:
    single = moments_of(np.empty((0, 3), "f4"))
    together = pooled_moments(GroupMoments(np.zeros(2, int), *np.full((2, 2, 3), np.nan)))
    for result in (single, together):
        assert int(result.count) == 0
        assert np.isnan(result.mean).all()
        assert np.isnan(result.std).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(wrong: float) -> None:
    values = VALUES.copy()
    values[40, 2] = wrong
    with pytest.raises(InputError, match="statistics are of finite values"):
        moments_of(values)


def test_a_first_sample_far_from_the_others_costs_a_variance_no_more_digits_than_there_are_samples() -> None:
    values = DRAW.normal(size=(400, 3))
    values[0] = 1e5
    group = np.zeros(400, np.int64)
    result = moments_by_group([(group[:100], values[:100]), (group[100:], values[100:])], 1, 3)
    np.testing.assert_allclose(result.std[0], values.std(0), rtol=401 * np.finfo("f8").eps)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_moments_of_groups_refuse_what_is_not_finite_or_has_squares_that_are_not(value: float) -> None:
    values = np.zeros((4, 2))
    values[3, 1] = value
    with pytest.raises(InputError, match="finite"):
        moments_by_group([(np.array([0, 0, 1, 1]), values)], 2, 2)
