"""Prototypes of a class as components of a Gaussian mixture, and percentiles of rows by held-out scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_integer
from ..errors import InputError
from .arrays import Floats, Integers, finite_rows
from .gaussian_mixture import Axes, GaussianMixture, fit_mixture, principal_axes
from .ranks import mid_ranks

__all__ = ["LEAST_ROWS", "HeldOut", "PrototypeFit", "fit_prototypes", "held_out_scores"]

LEAST_ROWS = 3
"""Fewer rows cannot be fitted without one of them."""
_FOLDS = 5
_MOST = 8
_ROWS_EACH = 30
"""Rows for each prototype where their number is chosen."""
_DECIMALS = 6
"""Of deviations: scores of equal rows, and the two around the median of an even number, differ by rounding alone."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of rows by mixtures that were fitted without them.

    Parameters
    ----------
    mixtures : tuple of GaussianMixture
        One for each fold, fitted to the rows of all others.
    fold : array of int
        (row,).
    scores : array
        (row,), the negative logarithm of each row's density in the mixture of its fold.
    """

    mixtures: tuple[GaussianMixture, ...]
    fold: Integers
    scores: Floats

    @property
    def deviations(self) -> Floats:
        """Distance of each score from the median of all, in either direction: (row,)."""
        return self._from_median(self.scores)

    def _from_median(self, scores: Floats) -> Floats:
        """Return the distance of scores from the median of those of the rows."""
        distances: Floats = np.abs(scores - np.median(self.scores))
        return distances.round(_DECIMALS)

    def own_percentiles(self) -> Floats:
        """Return the two-sided percentile of each of the rows among the others, above 0 and below 100: (row,)."""
        return 100 * (mid_ranks(self.deviations[:, None])[:, 0] - 0.5) / len(self.scores)

    def further_scores(self, values: Floats) -> Floats:
        """Return the scores of further rows by the mixture of each fold: (fold, row)."""
        return np.stack([mixture.scores(values) for mixture in self.mixtures])

    def percentiles(self, scores: Floats) -> Floats:
        """Return the two-sided percentile of further rows, above 0 and below 100: (row,).

        It is the part of the rows whose score is nearer to the median, ties counted half. Each mixture compares a row
        with the rows that it has not seen either, so that percentiles of rows of the same distribution are uniform.

        Parameters
        ----------
        scores : array
            (fold, row), as `further_scores` returns them.

        References
        ----------
        Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74, 2015.
        """
        deviations, below = self.deviations, np.zeros(scores.shape[1])
        for number, distance in enumerate(self._from_median(scores)):
            held = np.sort(deviations[self.fold == number])
            below += (np.searchsorted(held, distance) + np.searchsorted(held, distance, side="right")) / 2
        return 100 * (below + 0.5) / (len(self.scores) + 1)


@dataclass(frozen=True, eq=False)
class PrototypeFit:
    """Prototypes of rows.

    Parameters
    ----------
    mixture : GaussianMixture
        Of all rows.
    held_out : HeldOut
    labels : array of int
        (row,), the most probable component of each row.
    """

    mixture: GaussianMixture
    held_out: HeldOut
    labels: Integers

    def nearest_rows(self, values: Floats, k: int) -> Integers:
        """Return the k rows nearest to each component by Mahalanobis distance, nearest first: (component, k)."""
        return np.argsort(self.mixture.distances(values), axis=0, kind="stable")[:k].T


def fit_prototypes(values: Any, n: int | None = None, *, seed: int = 0) -> PrototypeFit:
    """Return prototypes of rows and the rows' held-out scores.

    Parameters
    ----------
    values : array
        (row, concept), at least 3 rows.
    n : int, optional
        Number of prototypes, at most half as many as there are rows; by default as in `held_out_scores`.
    seed : int, optional
        Of the folds and of k-means.

    Raises
    ------
    InputError
        If there are too few rows, they are all equal, or a value is not finite.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> values = np.repeat([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], [60, 40], axis=0) + generator.normal(0, 0.05, (100, 3))
    >>> fit = fit_prototypes(values)
    >>> fit.mixture.weights.round(2).tolist(), fit.mixture.means.round(1).tolist()
    ([0.6, 0.4], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    """
    rows = finite_rows("values", values)
    held_out = held_out_scores(rows, n, seed=seed)
    mixture = fit_mixture(rows, len(held_out.mixtures[0].weights), seed=seed)
    return PrototypeFit(mixture, held_out, mixture.log_densities(rows).argmax(1))


def held_out_scores(values: Floats, n: int | None = None, *, features: int | None = None, seed: int = 0) -> HeldOut:
    """Return the scores of rows by mixtures of the other rows: five folds, or one for each of fewer rows.

    Parameters
    ----------
    values : array
        (row, feature), finite.
    n : int, optional
        Number of components. By default one more as long as the held-out scores fall by more than the standard error of
        their mean difference, up to one for every 30 rows and 8 in all.
    features : int, optional
        Number of dimensions of the density, where rows are in the coordinates of `own_coordinates`.
    seed : int, optional

    Raises
    ------
    InputError
        As for `fit_prototypes`.
    """
    count = len(values)
    if count < LEAST_ROWS:
        raise InputError(f"prototypes need at least {LEAST_ROWS} rows, so that each can be left out; got {count}")
    folds = min(_FOLDS, count)
    fold = np.random.default_rng(seed).permutation(np.arange(count) % folds)
    axes = [principal_axes(values[fold != number], features=features) for number in range(folds)]
    if n is not None:
        return _cross_fit(values, fold, axes, check_integer("n", n, low=1, high=max(count // 2, 1)), seed=seed)
    best = _cross_fit(values, fold, axes, 1, seed=seed)
    for components in range(2, min(_MOST, count // _ROWS_EACH) + 1):
        try:
            more = _cross_fit(values, fold, axes, components, seed=seed)
        except InputError:  # equal rows fill fewer clusters
            break
        fall = best.scores - more.scores
        if not fall.mean() > fall.std(ddof=1) / np.sqrt(count):
            break
        best = more
    return best


def _cross_fit(values: Floats, fold: Integers, axes: list[Axes], components: int, *, seed: int) -> HeldOut:
    """Return the held-out scores by mixtures of some components; `axes` are those of each fold."""
    mixtures = tuple(
        fit_mixture(values[fold != number], components, axes=known, seed=seed) for number, known in enumerate(axes)
    )
    scores = np.empty(len(values))
    for number, mixture in enumerate(mixtures):
        scores[fold == number] = mixture.scores(values[fold == number])
    return HeldOut(mixtures, fold, scores)
