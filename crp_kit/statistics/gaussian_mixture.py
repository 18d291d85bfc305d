"""Gaussian mixtures of rows with more features than rows: covariances shrunk relative to the rows' own variance.

Coordinates are taken along the directions in which the rows vary. In all others a mixture has one variance, so that its
density is that of all features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .arrays import Floats, Integers
from .libraries import scikit_learn
from .spectral import clusters

__all__ = ["Axes", "GaussianMixture", "fit_mixture", "ledoit_wolf", "own_coordinates", "principal_axes"]

_MOST_AXES = 128
"""Directions beyond the strongest ones have one variance in common."""
_SHRINKAGE = (1e-3, 0.99)
"""Bounds of the shrinkage: below the first a concept that is never used would have no variance."""
_LEAST_VARIANCE = 1e-9
"""Within components, in parts of the variance of all rows."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Orthonormal directions in which rows vary most.

    Parameters
    ----------
    centre : array
        (feature,), mean of the rows.
    scale : float
        Square root of the mean variance of all features; coordinates are in this unit.
    basis : array
        (feature, axis).
    rest : float
        Mean variance in the other directions, in which the rows vary less; 0 where they do not vary at all.
    features : int
        Number of dimensions of the density; more than the rows have if these are in coordinates of their own.
    """

    centre: Floats
    scale: float
    basis: Floats
    rest: float
    features: int

    def project(self, values: Floats) -> tuple[Floats, Floats]:
        """Return coordinates of rows, (row, axis), and their squared distances from the space of the axes, (row,)."""
        unit = (values - self.centre) / self.scale
        inside = unit @ self.basis
        return inside, np.maximum((unit**2).sum(1) - (inside**2).sum(1), 0)


def principal_axes(values: Floats, *, features: int | None = None) -> Axes:
    """Return the directions in which rows vary, at most the 128 strongest.

    Parameters
    ----------
    values : array
        (row, feature).
    features : int, optional
        Number of dimensions of the density, where rows are in the coordinates of `own_coordinates`.

    Raises
    ------
    InputError
        If the rows do not vary.
    """
    features = features or values.shape[1]
    centre = values.mean(0)
    centred = values - centre
    scale = float(np.sqrt((centred**2).sum() / (len(values) * features)))
    if not scale > 1e-12 * float(np.abs(values).max(initial=0)):
        raise InputError(
            f"{len(values)} rows that are all equal have no prototypes: nothing is learnt of their variety"
        )
    unit = centred / scale
    strengths, basis = _right_vectors(unit)
    rank = int((strengths > 1e-10 * strengths[0]).sum())
    kept = min(rank, _MOST_AXES)
    rest = float(strengths[kept:rank].sum()) / len(values) / max(features - kept, 1)
    return Axes(centre, scale, basis[:, :kept], rest, features)


def _right_vectors(values: Floats) -> tuple[Floats, Floats]:
    """Return the squared singular values of rows, falling, and the right singular vectors, (feature, axis)."""
    if len(values) >= values.shape[1]:
        strengths, basis = np.linalg.eigh(values.T @ values)
        return np.maximum(strengths[::-1], 0), basis[:, ::-1]
    strengths, left = np.linalg.eigh(values @ values.T)
    strengths, left = np.maximum(strengths[::-1], 0), left[:, ::-1]
    lengths = np.sqrt(np.where(strengths > 1e-10 * max(strengths[0], 1e-300), strengths, np.inf))
    return strengths, (values.T @ left) / lengths


def own_coordinates(values: Floats) -> Floats:
    """Return rows in coordinates of the space that they span around their mean: as many as rows, or as features.

    Distances stay. What follows needs no longer to go through features that outnumber the rows.
    """
    centred: Floats = values - values.mean(0)
    if len(values) >= values.shape[1]:
        return centred
    strengths, left = np.linalg.eigh(centred @ centred.T)
    coordinates: Floats = left * np.sqrt(np.maximum(strengths, 0))
    return coordinates


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of Gaussians in the coordinates of some axes.

    Parameters
    ----------
    axes : Axes
    weights : array
        (component,).
    centres : array
        (component, axis).
    factors : array
        (component, axis, axis), upper triangular factors of the inverse covariances.
    rest : float
        Variance in the directions without an axis.
    """

    axes: Axes
    weights: Floats
    centres: Floats
    factors: Floats
    rest: float

    @property
    def means(self) -> Floats:
        """Means in the rows' own features: (component, feature)."""
        return self.axes.centre + self.axes.scale * (self.centres @ self.axes.basis.T)

    def distances(self, values: Floats) -> Floats:
        """Return the squared Mahalanobis distance of each row from each component: (row, component)."""
        inside, outside = self.axes.project(values)
        turned = (inside @ factor - centre @ factor for centre, factor in zip(self.centres, self.factors, strict=True))
        squares = np.stack([(one**2).sum(1) for one in turned], 1)
        if self.axes.features > self.axes.basis.shape[1]:
            squares += outside[:, None] / self.rest
        return squares

    def log_densities(self, values: Floats) -> Floats:
        """Return the logarithm of weight times density of each row in each component: (row, component)."""
        axes = self.axes
        others = axes.features - axes.basis.shape[1]
        constant = axes.features * np.log(2 * np.pi * axes.scale**2) + (others * np.log(self.rest) if others else 0)
        determinants = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        whole: Floats = np.log(self.weights) + determinants - (constant + self.distances(values)) / 2
        return whole

    def scores(self, values: Floats) -> Floats:
        """Return the negative logarithm of the density of each row: (row,)."""
        scores: Floats = -np.logaddexp.reduce(self.log_densities(values), axis=1)
        return scores


def fit_mixture(
    values: Floats, components: int, *, axes: Axes | None = None, features: int | None = None, seed: int = 0
) -> GaussianMixture:
    """Return a mixture of Gaussians fitted to rows, the component of the highest weight first.

    K-means starts expectation maximisation by scikit-learn. Each covariance is (1 − a) S + a v I: S that of the
    component, v the mean variance within the clusters of k-means, and a the shrinkage of Ledoit and Wolf for the rows
    around their clusters, times the number of components, as each has that part of the rows. During the maximisation
    it is S + a v I, which scikit-learn offers.

    Parameters
    ----------
    values : array
        (row, feature), finite.
    components : int
        At most as many as there are rows.
    axes : Axes, optional
        Those of these rows, if they are known.
    features : int, optional
        As of `principal_axes`.
    seed : int, optional
        Of k-means.

    Raises
    ------
    InputError
        If the rows do not vary, or equal rows fill fewer components.

    References
    ----------
    Dreyer et al., "Understanding the (extra-)ordinary: validating deep model decisions with prototypical concept-based
    explanations", CVPR workshops 2024.
    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate
    Analysis 88, 2004.
    """
    axes = axes or principal_axes(values, features=features)
    inside, _ = axes.project(values)
    kept, cut = inside.shape[1], axes.rest > 0
    dimensions = kept if cut else axes.features
    labels = clusters(inside, components, seed=seed) if components > 1 else np.zeros(len(inside), np.int64)
    if len(np.unique(labels)) < components:
        raise InputError(f"{len(inside)} rows, some of them equal, do not fill {components} components; ask for fewer")
    centres = np.stack([inside[labels == number].mean(0) for number in range(components)])
    residuals = inside - centres[labels]
    variance = max(float((residuals**2).sum() / (len(inside) * dimensions)), _LEAST_VARIANCE)
    shrinkage = float(np.clip(components * ledoit_wolf(residuals, features=dimensions), *_SHRINKAGE))
    added = shrinkage * variance
    rest = axes.rest if cut else added
    if components == 1:  # whose axes these are, so that its covariance is diagonal
        variances = (1 - shrinkage) * (residuals**2).mean(0) + added
        return GaussianMixture(axes, np.ones(1), centres, np.diag(variances**-0.5)[None], rest)
    weights, centres, covariances = _maximised(inside, labels, centres, added=added, seed=seed)
    order = np.argsort(-weights, kind="stable")
    factors = np.stack([_factor((1 - shrinkage) * covariances[number] + added * np.eye(kept)) for number in order])
    return GaussianMixture(axes, weights[order], centres[order], factors, rest)


def _maximised(
    inside: Floats, labels: Integers, centres: Floats, *, added: float, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Return weights, centres and covariances by expectation maximisation, which starts from clusters of rows.

    It runs with `added` on the diagonal of each covariance, which is taken off at the end.
    """
    module, exceptions = scikit_learn("mixture"), scikit_learn("exceptions")
    count, axes = centres.shape
    precisions = []
    for number, centre in enumerate(centres):
        around = inside[labels == number] - centre
        precisions.append(np.linalg.inv(around.T @ around / len(around) + added * np.eye(axes)))
    sizes = np.bincount(labels, minlength=count) / len(inside)
    model = module.GaussianMixture(
        count,
        reg_covar=added,
        weights_init=sizes,
        means_init=centres,
        precisions_init=np.stack([(one + one.T) / 2 for one in precisions]),
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)  # the held-out scores judge what came of it
        model.fit(inside)
    return model.weights_, model.means_, model.covariances_ - added * np.eye(axes)


def _factor(covariance: Floats) -> Floats:
    """Return the upper triangular F with F F' the inverse of a covariance, so that |x F|² is x's squared distance."""
    from scipy.linalg import cholesky, solve_triangular

    lower = cholesky(covariance, lower=True)
    factor: Floats = solve_triangular(lower, np.eye(len(covariance)), lower=True).T
    return factor


def ledoit_wolf(residuals: Floats, *, features: int | None = None) -> float:
    """Return the shrinkage of Ledoit and Wolf, in [0, 1], of the covariance of rows around their means.

    Parameters
    ----------
    residuals : array
        (row, axis), of mean 0.
    features : int, optional
        Number of dimensions, if rows are in coordinates of a subspace.

    Examples
    --------
    >>> round(ledoit_wolf(np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0], [-2.0, -1.0]])), 3)
    0.281
    """
    rows, columns = residuals.shape
    features = features or columns
    squares = (residuals**2).sum(1)
    products = residuals.T @ residuals if rows > columns else residuals @ residuals.T
    strength = float((products**2).sum()) / rows**2
    spread = strength - float(squares.sum() / rows) ** 2 / features
    noise = (float((squares**2).sum()) / rows - strength) / rows
    if noise <= 0:
        return 0.0
    return 1.0 if noise >= spread else noise / spread
