"""Stability of rankings of concepts between disjoint folds of the samples."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from ..errors import InputError
from .moments import GroupMoments, pooled_moments
from .ranks import mid_ranks
from .two_groups import squared_error

__all__ = ["fold_numbers", "marker_scores", "rank_agreement", "top_agreement"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]


def fold_numbers(group: Integers, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each sample, from 0: (sample,). Samples of a group are dealt out evenly, in a random order.

    Parameters
    ----------
    group : numpy.ndarray
        (sample,).
    folds, seed : int
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(group))
    order = shuffled[np.argsort(group[shuffled], kind="stable")]
    ordered = group[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(order) else np.zeros(0, int)
    within = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    fold = np.empty(len(group), np.int64)
    fold[order] = within % folds
    return fold


def marker_scores(moments: GroupMoments) -> Floats:
    """Return Welch's t of each group against all others together: (group, concept).

    It is 0 where neither varies and the means are equal, and not-a-number for a group, or a rest, of fewer than two
    samples.

    Parameters
    ----------
    moments : GroupMoments
        Of each group.
    """
    scores, rest = np.full(moments.mean.shape, np.nan), _rests(moments)
    for group in np.flatnonzero((moments.count > 1) & (rest.count > 1)).tolist():
        one, others = _of_group(moments, group), _of_group(rest, group)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (one.mean - others.mean) / np.sqrt(squared_error(one) + squared_error(others))
        scores[group] = np.nan_to_num(t, posinf=np.inf, neginf=-np.inf)
    return scores


def rank_agreement(scores: Floats) -> Floats:
    """Return Spearman's rank correlation of the concepts between two folds, averaged over all pairs of folds: (group,).

    Not-a-number for a group that has no scores in a fold, or the same score for all concepts.

    Parameters
    ----------
    scores : numpy.ndarray
        (fold, group, concept).
    """
    missing = np.isnan(scores).any(axis=(0, 2))
    ranks = np.stack([mid_ranks(fold, axis=1) for fold in scores])
    ranks -= ranks.mean(-1, keepdims=True)
    length = np.sqrt(np.einsum("fgc,fgc->fg", ranks, ranks))
    ranks /= np.where(length > 0, length, np.nan)[..., None]
    pairs = [np.einsum("gc,gc->g", ranks[one], ranks[other]) for one, other in combinations(range(len(scores)), 2)]
    return np.where(missing, np.nan, np.clip(np.mean(pairs, 0), -1, 1))


def top_agreement(scores: Floats, k: int) -> tuple[Floats, Floats]:
    """Return the share of the `k` first concepts that two folds have in common, and its p-value: (group,) each.

    The share is averaged over pairs of folds. By chance it is k by the number of concepts, and the number in common has
    a hypergeometric distribution. Of a single pair, p is how probable as many are; of more pairs, which depend on each
    other, twice the mean of those, which holds for any dependence.

    Parameters
    ----------
    scores : numpy.ndarray
        (fold, group, concept). Of equal scores, the concept with the smaller number comes first.
    k : int

    Raises
    ------
    InputError
        If there are not as many concepts.

    References
    ----------
    Vovk and Wang, "Combining p-values via averaging", Biometrika 107, 2020.
    """
    folds, _, concepts = scores.shape
    if not 1 <= k <= concepts:
        raise InputError(f"k is from 1 to the number of concepts, {concepts}; got {k}")
    least = np.sort(scores, axis=-1)[..., -k, None]
    member, equal = scores > least, scores == least
    for fold, group in np.argwhere(member.sum(-1) + equal.sum(-1) > k).tolist():
        tied = np.flatnonzero(equal[fold, group])
        equal[fold, group, tied[k - int(member[fold, group].sum()) :]] = False
    member |= equal
    shared = np.array([(member[one] & member[other]).sum(-1) for one, other in combinations(range(folds), 2)])
    missing = np.isnan(scores).any(axis=(0, 2))
    p = _as_many_by_chance(k, concepts)[shared].mean(0) * (1 if len(shared) == 1 else 2)
    return np.where(missing, np.nan, shared.mean(0) / k), np.where(missing, np.nan, np.minimum(p, 1))


def _as_many_by_chance(k: int, concepts: int) -> Floats:
    """Return how probable it is that two random sets of `k` concepts share so many, or more: (number from 0,)."""

    def log_choices(size: int, of: Floats) -> Floats:
        values: Floats = gammaln(size + 1) - gammaln(of + 1) - gammaln(size - of + 1)
        return values

    shared = np.arange(max(2 * k - concepts, 0), k + 1.0)
    log_p = log_choices(k, shared) + log_choices(concepts - k, k - shared) - log_choices(concepts, np.array(float(k)))
    tails = np.minimum(np.cumsum(np.exp(log_p)[::-1])[::-1], 1)
    return np.concatenate([np.ones(int(shared[0])), tails])


def _of_group(moments: GroupMoments, group: int) -> GroupMoments:
    return GroupMoments(moments.count[group], moments.mean[group], moments.std[group])


def _rests(moments: GroupMoments) -> GroupMoments:
    """Return for each group the moments of all others together: the whole without the group."""
    whole = pooled_moments(moments)
    count = moments.count[:, None]
    rest = np.maximum(whole.count - count, 1)
    off = np.nan_to_num(moments.mean - whole.mean)
    squares = (
        whole.count * whole.std**2 - count * (np.nan_to_num(moments.std) ** 2 + off**2) - (count * off) ** 2 / rest
    )
    return GroupMoments(
        whole.count - moments.count, whole.mean - count * off / rest, np.sqrt(np.maximum(squares / rest, 0))
    )
