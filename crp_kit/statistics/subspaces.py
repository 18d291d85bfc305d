"""Subspaces from second moments: the directions of most variance (PCA), and those of most relevance (PRCA)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["SecondMoments"]

Floats = npt.NDArray[np.float64]
_ROUNDING = 1e-14
"""Variance, relative to the mean square, that is rounding."""


@dataclass
class SecondMoments:
    """Sums over rows of activations and their coefficients of relevance: added up in parts, merged, and solved.

    Parameters
    ----------
    count : int
        Number of rows.
    total : numpy.ndarray
        (channel,), sum of the activations.
    square : numpy.ndarray
        (channel, channel), sum of a aᵀ.
    cross : numpy.ndarray
        (channel, channel), sum of a cᵀ.

    References
    ----------
    Chormai et al., "Disentangled explanations of neural network predictions by finding relevant subspaces", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 46, 2024.

    Examples
    --------
    >>> moments = SecondMoments.empty(2)
    >>> moments.add(np.array([[2.0, 1.0], [-2.0, 1.0]]))
    >>> moments.pca(1)[0]
    array([[1., 0.]])
    >>> moments.pca(1)[1]
    array([0., 1.])
    """

    count: int
    total: Floats
    square: Floats
    cross: Floats

    @classmethod
    def empty(cls, channels: int) -> SecondMoments:
        """Return the moments of no rows."""
        return cls(0, np.zeros(channels), np.zeros((channels, channels)), np.zeros((channels, channels)))

    def add(self, activation: Floats, coefficient: Floats | None = None) -> None:
        """Add rows, (row, channel) each."""
        values = np.asarray(activation, np.float64)
        self.count += len(values)
        self.total += values.sum(0)
        self.square += values.T @ values
        if coefficient is not None:
            self.cross += values.T @ np.asarray(coefficient, np.float64)

    def merge(self, other: SecondMoments) -> SecondMoments:
        """Return the moments of the rows of both."""
        return SecondMoments(
            self.count + other.count,
            self.total + other.total,
            self.square + other.square,
            self.cross + other.cross,
        )

    def pca(self, n: int) -> tuple[Floats, Floats]:
        """Return the directions of most variance, (direction, channel), and the mean, (channel,).

        Raises
        ------
        InputError
            If there are fewer channels, no more rows than directions, or no variance.
        """
        self._check(n, self.count - 1)
        mean = self.total / self.count
        covariance = self.square / self.count - np.outer(mean, mean)
        if np.trace(covariance) <= _ROUNDING * np.trace(self.square / self.count):
            raise InputError(f"the {self.count} rows are all the same, so that there is no direction of most variance")
        return _leading(covariance, n), mean

    def prca(self, n: int) -> Floats:
        """Return the directions that carry most relevance, (direction, channel): those of E[a cᵀ + c aᵀ].

        Raises
        ------
        InputError
            If there are fewer channels or rows than directions, or no relevance.
        """
        self._check(n, self.count)
        if not self.cross.any():
            raise InputError("no relevance arrives here, so that there is no direction of most relevance")
        return _leading((self.cross + self.cross.T) / self.count, n)

    def _check(self, n: int, rank: int) -> None:
        """Refuse more directions than channels, or than the rows can have."""
        if n > len(self.total):
            raise InputError(f"there are no {n} directions in {len(self.total)} channels: n is at most as many")
        if self.count < 2:
            raise InputError(f"directions are of two rows at least; got {self.count}")
        if n > rank:
            raise InputError(
                f"{self.count} rows have {rank} directions at most; got n = {n}: ask for fewer, or take more"
            )


def _leading(matrix: Floats, n: int) -> Floats:
    """Return eigenvectors of the largest eigenvalues, largest first, (n, channel), their largest component positive."""
    _, vectors = np.linalg.eigh(matrix)
    leading = vectors[:, ::-1][:, :n].T
    largest = np.abs(leading).argmax(1)
    signs: Floats = np.sign(leading[np.arange(n), largest])
    return np.ascontiguousarray(leading * signs[:, None])
