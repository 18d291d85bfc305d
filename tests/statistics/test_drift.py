"""Total variation and its permutation null against scipy and brute force."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import permutation_test

from crp_kit.errors import InputError
from crp_kit.statistics import drift
from crp_kit.statistics.drift import VariationTest, largest_of_all, total_variation, variation_test

Array = npt.NDArray[Any]


def shares(count: int, seed: int, *, shift: float = 0.0) -> Array:
    values = np.random.default_rng(seed).dirichlet(np.ones(6), count)
    values[:, 0] += shift
    return np.array(values / values.sum(1, keepdims=True))


def run(a: Array, b: Array, *, permutations: int = 999, seed: int = 0) -> VariationTest:
    return variation_test(a, b, permutations=permutations, rng=np.random.default_rng(seed))


def variation(a: Array, b: Array, axis: int = 0) -> Array:
    return np.asarray(np.abs(a.mean(axis) - b.mean(axis)).sum(-1) / 2)


def test_the_total_variation_is_half_the_sum_of_differences() -> None:
    a, b = shares(9, 0), shares(14, 1)
    expected = sum(abs(a[:, concept].mean() - b[:, concept].mean()) for concept in range(6)) / 2
    assert total_variation(a, b) == pytest.approx(expected, rel=1e-12)
    assert run(a, b).value == pytest.approx(expected, rel=1e-12)
    assert total_variation(np.eye(2)[:1], np.eye(2)[1:]) == 1


@pytest.mark.parametrize("shift", [0.0, 0.08])
def test_its_p_value_is_that_of_scipy(shift: float) -> None:
    a, b = shares(25, 2), shares(18, 3, shift=shift)
    data = np.arange(len(a)), len(a) + np.arange(len(b))
    both = np.concatenate([a, b])

    def statistic(one: Array, other: Array, axis: int) -> Array:
        return variation(both[one.astype(int)], both[other.astype(int)], axis - 1)

    oracle = permutation_test(
        data, statistic, vectorized=True, n_resamples=4999, alternative="greater", rng=np.random.default_rng(1), axis=-1
    )
    p = run(a, b, permutations=4999).p
    assert abs(p - oracle.pvalue) < 4 * np.sqrt(2 * max(p, 1e-3) * (1 - p) / 5000)


def test_the_null_holds_the_values_of_all_divisions() -> None:
    a, b = shares(2, 4), shares(3, 5)
    both = np.concatenate([a, b])
    chosen = [list(first) for first in combinations(range(5), 2)]
    every = {round(float(variation(both[first], np.delete(both, first, 0))), 9) for first in chosen}
    assert {round(value, 9) for value in run(a, b).null.tolist()} == every
    assert run(a, b).expected == pytest.approx(np.mean(list(every)), abs=0.02)


def test_the_seed_decides_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = shares(8, 6), shares(8, 7)
    whole = run(a, b).null
    np.testing.assert_array_equal(whole, run(a, b).null)
    assert (whole != run(a, b, seed=1).null).any()
    monkeypatch.setattr(drift, "_VALUES_AT_ONCE", 100)
    np.testing.assert_allclose(run(a, b).null, whole, rtol=1e-12)


def test_single_samples_cannot_be_told_apart() -> None:
    test = run(shares(1, 8), shares(1, 9))
    assert test.p == 1
    assert largest_of_all([test]) == 1
    assert largest_of_all([]) == 1
    for count in range(2, 40):
        same = run(np.full((3, 2), 0.1), np.full((count, 2), 0.1), permutations=19)
        assert (same.value, same.p, largest_of_all([same])) == (0, 1, 1)


def test_the_largest_of_many_is_significant_as_often_as_it_should() -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        pairs = [(rng.random((6, 3)), rng.random((8, 3))) for _ in range(4)]
        p.append(largest_of_all([variation_test(a, b, permutations=99, rng=rng) for a, b in pairs]))
    assert 0.02 <= np.mean(np.array(p) <= 0.1) <= 0.18
    assert 0.38 <= np.mean(np.array(p) <= 0.5) <= 0.62


def test_one_pair_of_many_that_differs_is_enough() -> None:
    rng = np.random.default_rng(0)
    same = [run(shares(30, seed), shares(30, seed + 100), permutations=199) for seed in range(20)]
    differing = variation_test(shares(30, 50), shares(30, 51, shift=0.4), permutations=199, rng=rng)
    assert largest_of_all([*same, differing]) == 1 / 200
    assert largest_of_all(same) > 0.05


def test_groups_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        run(shares(3, 0), shares(3, 0)[:0])
    with pytest.raises(InputError, match="sample, concept"):
        run(shares(3, 0), shares(3, 0)[:, :2])
