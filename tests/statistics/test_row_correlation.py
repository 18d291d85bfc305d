"""Correlation row by row: scipy's, also with ties."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from crp_kit.errors import InputError
from crp_kit.statistics.row_correlation import row_correlation


@pytest.mark.parametrize(("ranks", "oracle"), [(False, pearsonr), (True, spearmanr)])
def test_correlations_are_those_of_scipy(ranks: bool, oracle: object) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 4, (20, 9)).astype(float), generator.normal(size=(20, 9))
    expected = [oracle(*rows)[0] for rows in zip(a, b, strict=True)]
    np.testing.assert_allclose(row_correlation(a, b, ranks=ranks), expected, rtol=1e-9, atol=1e-12)


def test_rows_of_one_value_have_no_correlation() -> None:
    assert np.isnan(row_correlation([[1, 1], [1, 2]], [[1, 2], [3, 3]])).all()


@pytest.mark.parametrize(("a", "b"), [([[1, 2]], [[1, 2, 3]]), ([[1, 2]], [[1, 2]] * 2), ([[1, np.nan]], [[1, 2]])])
def test_other_arrays_are_refused(a: object, b: object) -> None:
    with pytest.raises(InputError):
        row_correlation(a, b)
