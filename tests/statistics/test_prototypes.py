"""Mixtures and percentiles: densities against scipy's, uniform percentiles, tiny and degenerate groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.mixture import GaussianMixture as Peer

from crp_kit.errors import InputError
from crp_kit.statistics.gaussian_mixture import fit_mixture, ledoit_wolf, own_coordinates
from crp_kit.statistics.prototypes import fit_prototypes, held_out_scores


def correlated(rows: int, features: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, features)) @ generator.normal(size=(features, features)) + 3


@pytest.mark.parametrize(("rows", "features"), [(30, 5), (20, 40), (200, 10), (8, 8)])
def test_one_component_has_the_density_of_a_covariance_shrunk_as_by_ledoit_and_wolf(rows: int, features: int) -> None:
    values, further = correlated(rows, features, 0), correlated(rows, features, 1)
    shrinkage, covariance = ledoit_wolf_shrinkage(values), np.cov(values.T, bias=True)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / features * np.eye(features)
    expected = -multivariate_normal(values.mean(0), shrunk).logpdf(further)
    assert ledoit_wolf(values - values.mean(0)) == pytest.approx(shrinkage, abs=1e-12)
    assert np.allclose(fit_mixture(values, 1).scores(further), expected, rtol=1e-9)


def test_components_are_those_of_scikit_learn_before_they_are_shrunk() -> None:
    generator = np.random.default_rng(3)
    centres = np.array([[0.0, 0, 0], [6, 0, 0], [0, 6, 0]])
    values = np.repeat(centres, [300, 200, 100], axis=0) + generator.normal(size=(600, 3))
    mixture = fit_mixture(values, 3)
    peer = Peer(3, random_state=0).fit(values)
    order = np.argsort(-peer.weights_)
    assert np.allclose(mixture.weights, peer.weights_[order], atol=0.01)
    assert np.allclose(mixture.means, peer.means_[order], atol=0.05)
    assert np.array_equal(mixture.log_densities(values).argmax(1), np.argsort(order)[peer.predict(values)])
    assert np.abs(mixture.scores(values) + peer.score_samples(values)).mean() < 0.3


def test_each_component_is_a_density_of_all_features_when_they_outnumber_the_rows() -> None:
    values = np.concatenate([correlated(12, 30, 0), correlated(9, 30, 1) + 40])
    mixture, further = fit_mixture(values, 2), correlated(5, 30, 2)
    terms = []
    for weight, mean, factor in zip(mixture.weights, mixture.means, mixture.factors, strict=True):
        basis, scale = mixture.axes.basis, mixture.axes.scale
        inside = basis @ np.linalg.inv(factor @ factor.T) @ basis.T
        covariance = scale**2 * (inside + mixture.rest * (np.eye(30) - basis @ basis.T))
        terms.append(weight * multivariate_normal(mean, covariance, allow_singular=True).pdf(further))
    assert np.allclose(mixture.scores(further), -np.log(np.sum(terms, 0)), rtol=1e-7)


def test_coordinates_of_their_own_change_no_score() -> None:
    values = correlated(20, 50, 4)
    turned = own_coordinates(values)
    assert turned.shape == (20, 20)
    plain = held_out_scores(values, 2)
    assert np.allclose(held_out_scores(turned, 2, features=50).scores, plain.scores, rtol=1e-6)


def test_scores_do_not_depend_on_the_scale_of_the_rows_but_by_a_constant() -> None:
    values = correlated(60, 8, 5)
    small, large = (held_out_scores(values * factor, 2) for factor in (1e-4, 1))
    assert np.allclose(small.scores - large.scores, 8 * np.log(1e-4), atol=1e-6)
    assert np.allclose(small.own_percentiles(), large.own_percentiles(), atol=100 / 60)  # the median may be a tie


def test_many_directions_that_vary_little_are_one_variance() -> None:
    generator = np.random.default_rng(6)
    values = generator.normal(size=(400, 160)) * np.where(np.arange(160) < 8, 5, 0.1)
    mixture = fit_mixture(values, 1)
    assert mixture.axes.basis.shape == (160, 128)
    likely = generator.normal(size=(50, 160)) * np.where(np.arange(160) < 8, 5, 0.1)
    assert mixture.scores(likely + 2 * np.eye(160)[150]).min() > mixture.scores(likely).max()


def test_held_out_scores_are_those_of_mixtures_without_the_row() -> None:
    values = correlated(23, 6, 7)
    held = held_out_scores(values, 1)
    assert np.bincount(held.fold).tolist() == [5, 5, 5, 4, 4]
    for row in range(23):
        others = values[held.fold != held.fold[row]]
        assert held.scores[row] == pytest.approx(fit_mixture(others, 1).scores(values[[row]])[0])


def test_percentiles_are_counts_of_scores_nearer_to_the_median() -> None:
    held = held_out_scores(correlated(40, 5, 8), 1)
    further = correlated(9, 5, 9)
    median = np.median(held.scores)
    for row, percentile in zip(further, held.percentiles(held.further_scores(further)), strict=True):
        nearer = 0.0
        for score, fold in zip(held.scores, held.fold, strict=True):
            own = abs(held.mixtures[fold].scores(row[None])[0] - median)
            nearer += (abs(score - median) < own) + 0.5 * (abs(score - median) == own)
        assert percentile == pytest.approx(100 * (nearer + 0.5) / 41)
    deviations = np.abs(held.scores - median).round(6)  # the two nearest to the median of 40 are equal
    expected = [((deviations < one).sum() + ((deviations == one).sum() - 1) / 2 + 0.5) / 40 for one in deviations]
    assert np.allclose(held.own_percentiles(), 100 * np.array(expected))


@pytest.mark.parametrize(("rows", "features"), [(400, 10), (60, 100)])
def test_percentiles_of_rows_of_the_same_distribution_are_uniform(rows: int, features: int) -> None:
    values = correlated(rows + 400, features, 10)
    held = fit_prototypes(values[:rows]).held_out
    assert kstest(
        held.percentiles(held.further_scores(values[rows:])) / 100, "uniform"
    ).statistic < 0.12 + 1.36 / np.sqrt(rows)
    assert kstest(held.own_percentiles() / 100, "uniform").statistic <= 1 / rows + 1e-9


def test_rows_of_another_distribution_are_extreme_whether_less_likely_or_more() -> None:
    values = np.random.default_rng(11).normal(size=(300, 40))
    held = fit_prototypes(values).held_out
    assert held.percentiles(held.further_scores(values[:5] + 3)).min() > 99
    assert held.percentiles(held.further_scores(values[:5] * 0.05)).min() > 99


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_prototypes_is_that_of_separate_groups(count: int) -> None:
    generator = np.random.default_rng(12)
    values = np.repeat(np.eye(6)[:count], 70, axis=0) + generator.normal(0, 0.08, (70 * count, 6))
    fit = fit_prototypes(values)
    assert np.bincount(fit.labels).tolist() == [70] * count
    assert np.allclose(np.sort(fit.mixture.means @ np.arange(6)), np.arange(count), atol=0.2)
    nearest = fit.nearest_rows(values, 4)
    assert nearest.shape == (count, 4)
    assert (fit.labels[nearest] == np.arange(count)[:, None]).all()


def test_a_seed_gives_the_same_prototypes_each_time() -> None:
    values = correlated(80, 6, 13)
    first, second = (fit_prototypes(values, 2, seed=5) for _ in range(2))
    assert np.array_equal(first.held_out.scores, second.held_out.scores)
    assert np.array_equal(first.mixture.means, second.mixture.means)


def test_tiny_groups_have_a_fold_for_each_row() -> None:
    values = correlated(3, 4, 14)
    held = fit_prototypes(values).held_out
    assert sorted(held.fold.tolist()) == [0, 1, 2]
    assert np.isfinite(held.scores).all()
    assert sorted(held.own_percentiles()) == pytest.approx([100 / 6, 50, 500 / 6])


def test_concepts_that_never_vary_and_equal_rows_among_others_have_finite_scores() -> None:
    values = np.concatenate([correlated(30, 3, 15), np.zeros((30, 4))], 1)
    fit = fit_prototypes(np.concatenate([values, values[:10]]), 2)
    assert np.isfinite(fit.held_out.scores).all()
    assert np.isfinite(fit.mixture.scores(values + 1)).all()


@pytest.mark.parametrize(
    ("values", "n", "message"),
    [
        (np.zeros((1, 3)), None, "at least 3 rows, so that each can be left out; got 1"),
        (np.full((9, 3), 0.1), None, "that are all equal have no prototypes"),
        (np.full((9, 3), np.nan), None, "NaN or infinite in 9 rows"),
        (np.eye(9), 5, "n is a whole number from 1 to 4; got 5"),
        (np.repeat(np.eye(2), 8, axis=0), 4, "do not fill 4 components; ask for fewer"),
    ],
)
def test_what_has_no_prototypes_is_refused(values: np.ndarray, n: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_prototypes(values, n)


@pytest.mark.parametrize(("rows", "constant"), [(90, 0), (60, 2)])
def test_the_density_of_a_mixture_is_that_of_scikit_learn_with_its_parameters(rows: int, constant: int) -> None:
    values = np.concatenate([correlated(rows, 4, 0), correlated(rows // 2, 4, 1) + 9])
    values = np.concatenate([values, values[:10]])  # rows that occur twice
    wide = np.concatenate([values, np.full((len(values), constant), 0.5)], 1)
    mixture, features = fit_mixture(wide, 2), 4 + constant
    basis, scale = mixture.axes.basis, mixture.axes.scale
    outside = np.eye(features) - basis @ basis.T
    covariances = [
        scale**2 * (basis @ np.linalg.inv(factor @ factor.T) @ basis.T + mixture.rest * outside)
        for factor in mixture.factors
    ]
    peer = Peer(2, covariance_type="full")
    peer.weights_, peer.means_, peer.covariances_ = mixture.weights, mixture.means, np.stack(covariances)
    peer.precisions_cholesky_ = np.stack([np.linalg.cholesky(np.linalg.inv(one)) for one in covariances])
    further = wide + np.random.default_rng(2).normal(0, 0.3, wide.shape)
    for rows_of in (wide, further):
        assert np.allclose(mixture.scores(rows_of), -peer.score_samples(rows_of), rtol=1e-8)
        assert np.allclose(_softmax(mixture.log_densities(rows_of)), peer.predict_proba(rows_of), atol=1e-8)


def _softmax(values: np.ndarray) -> np.ndarray:
    weights = np.exp(values - values.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)
