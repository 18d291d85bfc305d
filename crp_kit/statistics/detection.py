"""Detection of samples of another dataset: AUROC, and the distance of Mahalanobis as a baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Floats, Integers
from .gaussian_mixture import ledoit_wolf
from .two_groups import auc

__all__ = ["ClassDistances", "auroc", "fit_class_distances"]


def auroc(own: Floats, other: Floats) -> float:
    """Return the chance that a sample of another dataset has the higher score; equal scores count half.

    Parameters
    ----------
    own, other : array
        (sample,) each.

    Examples
    --------
    >>> auroc(np.array([0.1, 0.4]), np.array([0.4, 0.9]))
    0.875
    """
    return float(auc(other[:, None], own[:, None])[0])


@dataclass(frozen=True, eq=False)
class ClassDistances:
    """Squared Mahalanobis distances from the mean of a row's class, with one covariance for all classes.

    Parameters
    ----------
    classes : array of int
        (class,), ascending.
    means : array
        (class, concept).
    factor : array
        (concept, concept), of the inverse covariance.
    """

    classes: Integers
    means: Floats
    factor: Floats

    def distances(self, values: Floats, classes: Integers) -> Floats:
        """Return the distance of each row from the mean of its class, one of those fitted: (row,)."""
        centred = values - self.means[np.searchsorted(self.classes, classes)]
        squares: Floats = ((centred @ self.factor) ** 2).sum(1)
        return squares


def fit_class_distances(values: Floats, classes: Integers) -> ClassDistances:
    """Return class means and the shared covariance of rows, shrunk as by Ledoit and Wolf.

    Parameters
    ----------
    values : array
        (row, concept).
    classes : array of int
        (row,).

    References
    ----------
    Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial attacks", NeurIPS
    2018.
    """
    from scipy.linalg import cholesky, solve_triangular

    known, inverse = np.unique(classes, return_inverse=True)
    means = np.stack([values[inverse == number].mean(0) for number in range(len(known))])
    residuals = values - means[inverse]
    covariance = residuals.T @ residuals / len(values)
    size = len(covariance)
    shrinkage, variance = max(ledoit_wolf(residuals), 1e-3), max(float(np.trace(covariance)) / size, 1e-300)
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(size)
    factor = solve_triangular(cholesky(shrunk, lower=True), np.eye(size), lower=True).T
    return ClassDistances(known, means, factor)
