"""Similarity of concepts against numpy, scipy and scikit-learn in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import cosine_similarity

from crp_kit.errors import InputError
from crp_kit.statistics.ranks import mid_ranks
from crp_kit.statistics.similarity import (
    check_metric,
    correlation,
    cosine,
    cross_correlation,
    gram_similarity,
    rank_correlation,
)

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
GROUPS = np.repeat([7, 2, 5, 9], [30, 1, 20, 12])[RNG.permutation(63)]
"""Of four groups, one with a single sample."""
SCORES = RNG.normal(size=(63, 11)) @ RNG.normal(size=(11, 11)) + 3 * RNG.normal(size=(10, 11))[GROUPS]


def similarity(scores: Array, metric: str, groups: Array = GROUPS, *, block: int = 1000) -> Array:
    """The similarity of the columns of a matrix, which is cut into blocks."""
    parts = [slice(start, start + block) for start in range(0, len(scores), block)]
    samples, concepts = scores.shape
    if metric == "cosine":
        return cosine((scores[part] for part in parts), concepts)
    if metric == "spearman":
        columns = (slice(start, start + block) for start in range(0, concepts, block))
        return rank_correlation(((part, scores[:, part]) for part in columns), samples, concepts)
    names, group = np.unique(groups if metric == "pearson-within" else np.zeros(samples), return_inverse=True)
    return correlation(((group[part], scores[part]) for part in parts), len(names), concepts)


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
    values = similarity(scores, metric)
    np.testing.assert_allclose(values, expected(metric, scores.astype("f8"), GROUPS), atol=1e-12)
    np.testing.assert_array_equal(values, values.T)


@pytest.mark.parametrize("metric", METRICS)
def test_the_division_into_blocks_does_not_change_it(metric: str) -> None:
    values = similarity(SCORES, metric, block=5)
    np.testing.assert_allclose(values, expected(metric, SCORES, GROUPS), atol=1e-12)


@pytest.mark.parametrize("metric", METRICS[:2])
def test_two_layers_are_correlated_over_the_same_samples(metric: str) -> None:
    scores = (SCORES + 1e4).astype("f4")
    scores[:, 2] = 0.1
    parts = (slice(0, 20), slice(20, 63))
    names, group = np.unique(GROUPS if metric == "pearson-within" else np.zeros(63), return_inverse=True)
    blocks = ((group[part], scores[part, :4], scores[part, 4:]) for part in parts)
    values = cross_correlation(blocks, len(names), (4, 7))
    oracle = expected(metric, scores.astype("f8")[:, [0, 1, 3, *range(4, 11)]], GROUPS)
    np.testing.assert_allclose(values[[0, 1, 3]], oracle[:3, 3:], atol=1e-9)
    assert np.isnan(values[2]).all()


def test_ranks_share_their_mean_where_values_are_equal() -> None:
    scores = RNG.integers(0, 4, size=(50, 6)).astype("f4")
    np.testing.assert_allclose(similarity(scores, "spearman"), spearmanr(scores).statistic, atol=1e-12)
    assert mid_ranks(np.zeros((1, 3)), axis=1).tolist() == [[2, 2, 2]]
    assert mid_ranks(np.zeros((2, 0)), axis=1).shape == (2, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_concept_is_similar_to_none(metric: Any) -> None:
    scores = SCORES.astype("f4")
    scores[:, 4] = 0 if metric == "cosine" else 0.1
    values = similarity(scores, metric)
    assert np.isnan(values[4]).all()
    assert np.isnan(values[:, 4]).all()
    assert not np.isnan(np.delete(np.delete(values, 4, 0), 4, 1)).any()


def test_a_concept_that_is_constant_within_each_class_varies_only_between_them() -> None:
    scores = SCORES.copy()
    scores[:, 4] = np.array([0.1, 0.7, 1e9])[GROUPS % 3]
    assert np.isnan(similarity(scores, "pearson-within")[4]).all()
    assert not np.isnan(similarity(scores, "pearson")).any()


def test_classes_of_one_sample_each_leave_nothing_to_correlate() -> None:
    assert np.isnan(similarity(SCORES, "pearson-within", np.arange(63))).all()
    assert np.isnan(similarity(SCORES[:1], "pearson")).all()
    assert np.isnan(similarity(SCORES[:0], "pearson")).all()


@pytest.mark.parametrize("level", [1e3, 1e6])
def test_a_high_level_costs_no_digits(level: float) -> None:
    values = similarity(SCORES + level, "pearson-within")
    np.testing.assert_allclose(values, expected("pearson-within", SCORES, GROUPS), atol=1e-9)


def test_what_varies_by_less_than_the_spacing_of_floats_is_constant() -> None:
    noise = RNG.normal(size=(500, 2))
    above, below = (1 + scale * noise[:, 0] for scale in (1e-5, 1e-8))
    single = np.stack([above, below, noise[:, 1]], 1).astype("f4")
    single[::7, 1] = np.nextafter(np.float32(1), np.float32(2))
    values = similarity(single, "pearson")
    assert np.isnan(values[1]).all()
    assert abs(values[0, 2] - np.corrcoef(single[:, [0, 2]].astype("f8"), rowvar=False)[0, 1]) < 1e-12


@pytest.mark.parametrize("metric", METRICS[:3])
def test_sums_give_what_the_matrix_gives(metric: Any) -> None:
    names, group = np.unique(GROUPS, return_inverse=True)
    one = np.eye(len(names))[group]
    total, count = one.T @ SCORES, np.append(one.sum(0), 0)
    total = np.concatenate([total, np.zeros((1, 11))])  # a class without samples
    values = gram_similarity(SCORES.T @ SCORES, count, total, metric)
    np.testing.assert_allclose(values, similarity(SCORES, metric), atol=1e-12)


def test_sums_that_rounding_has_emptied_are_not_similar() -> None:
    scores = np.stack([1 + 1e-7 * SCORES[:, 0], SCORES[:, 1], SCORES[:, 2]], 1)
    values = gram_similarity(scores.T @ scores, np.array([63.0]), scores.sum(0, keepdims=True), "pearson")
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1:, 1:], np.corrcoef(scores[:, 1:], rowvar=False), atol=1e-9)


def test_wrong_input_is_refused() -> None:
    bad = SCORES.copy()
    bad[5, 3] = np.nan
    for metric in METRICS:
        with pytest.raises(InputError, match="not-a-number"):
            similarity(bad, metric)
    with pytest.raises(InputError, match="'pearson-within', 'pearson'.*got 'euclid'"):
        check_metric("euclid")
    with pytest.raises(InputError, match="ranks"):
        gram_similarity(np.eye(2), np.ones(1), np.ones((1, 2)), "spearman")
