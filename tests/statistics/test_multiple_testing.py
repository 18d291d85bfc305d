"""q-values, against scipy."""

import numpy as np
import pytest
from scipy import stats

from crp_kit.errors import InputError
from crp_kit.statistics.multiple_testing import q_values


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_they_are_those_of_scipy(count: int) -> None:
    p = np.random.default_rng(count).uniform(size=count) ** 4
    np.testing.assert_allclose(q_values(p), stats.false_discovery_control(p), rtol=1e-14)


def test_equal_p_values_have_equal_q_values() -> None:
    p = np.array([0.02, 0.5, 0.02, 0.0, 1.0, 0.5, 0.02])
    q = q_values(p)
    np.testing.assert_allclose(q, stats.false_discovery_control(p), rtol=1e-14)
    assert len(set(q[p == 0.02])) == len(set(q[p == 0.5])) == 1


def test_what_was_not_tested_stays_out_and_does_not_count() -> None:
    p = np.array([np.nan, 0.01, np.nan, 0.3, 0.04, np.nan])
    q = q_values(p)
    np.testing.assert_allclose(q[[1, 3, 4]], stats.false_discovery_control(p[[1, 3, 4]]), rtol=1e-14)
    assert np.isnan(q[[0, 2, 5]]).all()
    assert np.isnan(q_values([np.nan, np.nan])).all()
    assert len(q_values([])) == 0


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.inf])
def test_a_p_value_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(InputError, match="p-values are between 0 and 1"):
        q_values([0.5, wrong])
