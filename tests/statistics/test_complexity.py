"""Complexity of samples against the formula of quantus, and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from crp_kit.errors import InputError
from crp_kit.statistics import complexity
from crp_kit.statistics.complexity import row_complexity

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(20, 13)) * RNG.random((20, 1)) ** 4
VALUES[3:6] = RNG.integers(-2, 3, size=(3, 13))


def quantus_sparseness(row: Array) -> float:
    """`quantus.Sparseness` without the constant that it adds to every value."""
    ordered = np.sort(np.abs(row))
    index = np.arange(1, len(row) + 1)
    return float(np.sum((2 * index - len(row) - 1) * ordered) / (len(row) * np.sum(ordered)))


def pairwise_gini(row: Array) -> float:
    sizes = np.abs(row)
    return float(np.abs(sizes[:, None] - sizes).sum() / (2 * len(row) * sizes.sum()))


def count_of_90(row: Array) -> int:
    sizes = sorted(map(abs, row.tolist()), reverse=True)
    return next(count for count in range(1, len(row) + 1) if sum(sizes[:count]) >= 0.9 * sum(sizes) - 1e-9)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_the_gini_index_is_that_of_quantus_and_of_all_pairs(dtype: str) -> None:
    values = VALUES.astype(dtype)
    gini = row_complexity(values).gini
    np.testing.assert_allclose(gini, [quantus_sparseness(row) for row in values.astype("f8")], atol=1e-12)
    np.testing.assert_allclose(gini, [pairwise_gini(row) for row in values.astype("f8")], atol=1e-12)


def test_the_sparseness_by_hoyer_is_its_formula() -> None:
    norms = [np.linalg.norm(VALUES, order, axis=1) for order in (1, 2)]
    expected = (np.sqrt(13) - norms[0] / norms[1]) / (np.sqrt(13) - 1)
    np.testing.assert_allclose(row_complexity(VALUES).hoyer, expected, atol=1e-12)


def test_90_percent_are_counted_as_by_hand() -> None:
    assert row_complexity(VALUES).n90.tolist() == [count_of_90(row) for row in VALUES]
    equal = np.full((1, 10), 0.1, "f4")
    assert row_complexity(equal).n90.tolist() == [9]
    assert row_complexity(np.full((1, 11), 0.1)).n90.tolist() == [10]


def test_the_extremes_are_exact() -> None:
    equal, single = np.full((1, 7), 0.1), np.eye(7)[:1] * -3e-30
    assert (row_complexity(equal).gini[0], row_complexity(equal).hoyer[0]) == (0, pytest.approx(0, abs=1e-15))
    assert (row_complexity(single).gini[0], row_complexity(single).hoyer[0]) == (pytest.approx(6 / 7), 1)
    assert row_complexity(single * 1e-170).hoyer[0] == 1


def test_a_sample_without_relevance_has_no_complexity() -> None:
    empty = row_complexity(np.zeros((2, 5)))
    assert np.isnan(empty.gini).all()
    assert np.isnan(empty.hoyer).all()
    assert empty.n90.tolist() == [0, 0]
    alone = row_complexity(np.array([[2.0]]))
    assert (alone.gini[0], alone.n90[0]) == (0, 1)
    assert np.isnan(alone.hoyer[0])


def test_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = row_complexity(VALUES)
    monkeypatch.setattr(complexity, "_VALUES_AT_ONCE", 30)
    parts = row_complexity(VALUES)
    np.testing.assert_allclose(parts.gini, whole.gini, rtol=1e-12)
    assert parts.n90.tolist() == whole.n90.tolist()


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="not-a-number"):
        row_complexity(np.array([[1.0, np.nan]]))
