"""Similarity of concepts against numpy, scipy and scikit-learn in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import cosine_similarity

from crp_kit.errors import InputError
from crp_kit.statistics import row_blocks
from crp_kit.statistics.ranks import mean_ranks
from crp_kit.statistics.similarity import correlation, gram_similarity, matrix_similarity

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
GROUPS = np.repeat([7, 2, 5, 9], [30, 1, 20, 12])[RNG.permutation(63)]
"""Of four groups, one with a single sample."""
SCORES = RNG.normal(size=(63, 11)) @ RNG.normal(size=(11, 11)) + 3 * RNG.normal(size=(10, 11))[GROUPS]


def without_means(scores: Array, groups: Array) -> Array:
    means = {group: scores[groups == group].mean(0) for group in np.unique(groups)}
    return np.array(scores - [means[group] for group in groups])


def expected(metric: str, scores: Array, groups: Array) -> Array:
    if metric == "cosine":
        return np.asarray(cosine_similarity(scores.T))
    if metric == "spearman":
        return np.asarray(spearmanr(scores).statistic)
    return np.corrcoef(without_means(scores, groups) if metric == "pearson-within" else scores, rowvar=False)


METRICS = ("pearson-within", "pearson", "cosine", "spearman")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_each_metric_is_that_of_the_reference(metric: Any, dtype: str) -> None:
    scores = SCORES.astype(dtype)
    values = matrix_similarity(scores, metric, groups=GROUPS)
    np.testing.assert_allclose(values, expected(metric, scores.astype("f8"), GROUPS), atol=1e-12)
    np.testing.assert_array_equal(values, values.T)


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_and_masked_rows_do_not_change_it(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = RNG.random(63) < 0.7
    scores = SCORES.copy()
    scores[~rows] = np.nan
    monkeypatch.setattr(row_blocks, "_CHUNK_ROWS", 5)
    monkeypatch.setattr(row_blocks, "_BLOCK_BYTES", 1)
    values = matrix_similarity(scores, metric, rows=rows, groups=GROUPS)
    np.testing.assert_allclose(values, expected(metric, scores[rows], GROUPS[rows]), atol=1e-12)


def test_ranks_share_their_mean_where_values_are_equal() -> None:
    scores = RNG.integers(0, 4, size=(50, 6)).astype("f4")
    np.testing.assert_allclose(matrix_similarity(scores, "spearman"), spearmanr(scores).statistic, atol=1e-12)
    assert mean_ranks(np.zeros((1, 3))).tolist() == [[2, 2, 2]]
    assert mean_ranks(np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_concept_is_similar_to_none(metric: Any) -> None:
    scores = SCORES.astype("f4")
    scores[:, 4] = 0 if metric == "cosine" else 0.1
    values = matrix_similarity(scores, metric, groups=GROUPS)
    assert np.isnan(values[4]).all()
    assert np.isnan(values[:, 4]).all()
    assert not np.isnan(np.delete(np.delete(values, 4, 0), 4, 1)).any()


def test_a_concept_that_is_constant_within_each_class_varies_only_between_them() -> None:
    scores = SCORES.copy()
    scores[:, 4] = np.array([0.1, 0.7, 1e9])[GROUPS % 3]
    assert np.isnan(matrix_similarity(scores, "pearson-within", groups=GROUPS)[4]).all()
    assert not np.isnan(matrix_similarity(scores, "pearson")).any()


def test_classes_of_one_sample_each_leave_nothing_to_correlate() -> None:
    assert np.isnan(matrix_similarity(SCORES, "pearson-within", groups=np.arange(63))).all()
    assert np.isnan(matrix_similarity(SCORES[:1], "pearson")).all()
    assert np.isnan(matrix_similarity(SCORES[:0], "pearson")).all()


@pytest.mark.parametrize("level", [1e3, 1e6])
def test_a_high_level_costs_no_digits(level: float) -> None:
    values = correlation(SCORES + level, groups=GROUPS)
    np.testing.assert_allclose(values, expected("pearson-within", SCORES, GROUPS), atol=1e-9)


def test_what_varies_by_less_than_the_spacing_of_floats_is_constant() -> None:
    noise = RNG.normal(size=(500, 2))
    above, below = (1 + scale * noise[:, 0] for scale in (1e-5, 1e-8))
    single = np.stack([above, below, noise[:, 1]], 1).astype("f4")
    single[::7, 1] = np.nextafter(np.float32(1), np.float32(2))
    values = correlation(single)
    assert np.isnan(values[1]).all()
    assert abs(values[0, 2] - np.corrcoef(single[:, [0, 2]].astype("f8"), rowvar=False)[0, 1]) < 1e-12


@pytest.mark.parametrize("metric", METRICS[:3])
def test_sums_give_what_the_matrix_gives(metric: Any) -> None:
    names, group = np.unique(GROUPS, return_inverse=True)
    one = np.eye(len(names))[group]
    total, count = one.T @ SCORES, np.append(one.sum(0), 0)
    total = np.concatenate([total, np.zeros((1, 11))])  # a class without samples
    values = gram_similarity(SCORES.T @ SCORES, count, total, metric)
    np.testing.assert_allclose(values, matrix_similarity(SCORES, metric, groups=GROUPS), atol=1e-12)


def test_sums_that_rounding_has_emptied_are_not_similar() -> None:
    scores = np.stack([1 + 1e-7 * SCORES[:, 0], SCORES[:, 1], SCORES[:, 2]], 1)
    values = gram_similarity(scores.T @ scores, np.array([63.0]), scores.sum(0, keepdims=True), "pearson")
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1:, 1:], np.corrcoef(scores[:, 1:], rowvar=False), atol=1e-9)


def test_wrong_input_is_refused() -> None:
    bad = SCORES.copy()
    bad[5, 3] = np.nan
    for metric in METRICS:
        with pytest.raises(InputError, match="not finite"):
            matrix_similarity(bad, metric, groups=GROUPS)
    wrong: Any = "euclid"
    with pytest.raises(InputError, match="'pearson-within', 'pearson'.*got 'euclid'"):
        matrix_similarity(SCORES, wrong)
    with pytest.raises(InputError, match="needs the group"):
        matrix_similarity(SCORES, "pearson-within")
    with pytest.raises(InputError, match="63 samples"):
        matrix_similarity(SCORES, "pearson-within", groups=GROUPS[:5])
    with pytest.raises(InputError, match="mask"):
        matrix_similarity(SCORES, "pearson", rows=np.arange(3))
    with pytest.raises(InputError, match=r"\(sample, concept\)"):
        matrix_similarity(SCORES[0], "pearson")
    with pytest.raises(InputError, match="ranks"):
        gram_similarity(np.eye(2), np.ones(1), np.ones((1, 2)), "spearman")
