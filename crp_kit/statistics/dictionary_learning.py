"""Dictionaries of activations and separating directions by scikit-learn: NMF, k-means, logistic regression."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .libraries import scikit_learn

__all__ = ["centres", "factors", "separating_direction"]

Floats = npt.NDArray[np.float64]
_ROUNDS = 400


def factors(rows: Floats, n: int, *, seed: int) -> Floats:
    """Return the entries of a non-negative factorization, (entry, channel), each of length 1.

    Raises
    ------
    InputError
        If a value is negative, there are fewer rows or channels, or fewer factors rebuild the rows.
    """
    if rows.min(initial=0) < 0:
        raise InputError(
            f"NMF is of values that are not negative, and these go down to {rows.min():.3g}: take a layer behind a ReLU"
        )
    _check(rows, n)
    if n > rows.shape[1]:
        raise InputError(f"NMF has at most as many factors as there are channels, {rows.shape[1]}; got {n}")
    if not rows.any():
        raise InputError("NMF is of values that are not all zero")
    model = scikit_learn("decomposition").NMF(n, init="nndsvda", random_state=seed, max_iter=_ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scikit_learn("exceptions").ConvergenceWarning)
        entries: Floats = model.fit(rows).components_.astype(np.float64)
    lengths = np.linalg.norm(entries, axis=1, keepdims=True)
    used = int((lengths > 0).sum())
    if used < n:
        raise InputError(f"NMF rebuilds these values with {used} factors, and has none left for {n}: ask for {used}")
    unit: Floats = entries / lengths
    return unit


def centres(rows: Floats, n: int, *, seed: int) -> Floats:
    """Return the centres of k-means, (cluster, channel).

    Raises
    ------
    InputError
        If there are fewer rows, or fewer different ones.
    """
    _check(rows, n)
    model = scikit_learn("cluster").KMeans(n, n_init=4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scikit_learn("exceptions").ConvergenceWarning)
        found: Floats = model.fit(rows).cluster_centers_.astype(np.float64)
    distinct = len(np.unique(found, axis=0))
    if distinct < n:
        raise InputError(f"there are no {n} clusters in rows that have {distinct} different values: ask for {distinct}")
    return found


def separating_direction(a: Floats, b: Floats) -> Floats:
    """Return the weights of a logistic regression of rows of `a` against rows of `b`, (channel,).

    Channels are scaled to unit variance for its regularisation, and back.
    """
    rows, labels = np.concatenate([a, b]), np.repeat([1, 0], [len(a), len(b)])
    scale = rows.std(0)
    scale = np.where(scale == 0, 1.0, scale)
    model = scikit_learn("linear_model").LogisticRegression(class_weight="balanced", max_iter=1000)
    weights: Floats = model.fit(rows / scale, labels).coef_[0] / scale
    return weights


def _check(rows: Floats, n: int) -> None:
    if len(rows) < n:
        raise InputError(f"{n} entries are of as many rows at least; got {len(rows)}")
