"""Names of concepts as formulas of attributes: those whose truth the scores of a concept rank best.

The formulas are searched by beam on one half of the samples and checked on the other half. What a search reaches by
chance is measured by the same search for permutations of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_integer
from ..errors import InputError
from .arrays import Bools, Floats, Integers, finite_rows, truth_columns
from .formula_search import Formula, SearchRules, formula_truth, search
from .multiple_testing import q_values
from .ranks import auc_deviations, auc_of_sums, mid_ranks

__all__ = ["ConceptNames", "name_concepts"]

_CONCEPTS_AT_ONCE = 64
_PERMUTATIONS = 64
_LEVEL = 0.05
"""False discovery rate of the check on the other half, and tail of the distribution by chance."""


@dataclass(frozen=True, eq=False)
class ConceptNames:
    """The best formula of each concept.

    Parameters
    ----------
    formulas : tuple of Formula
        By concept.
    auc : array
        (concept,), on the half of the samples where the formula was searched.
    auc_other_half : array
        (concept,); NaN where the formula holds in none or all of these samples.
    null : float
        What a search reaches by chance: the 95th percentile of the best AUC over permutations of the samples.
    support : array of int
        (concept,), samples of both halves in which the formula holds.
    held_other_half : array of int
        (concept,), samples of the other half in which the formula holds.
    n_other_half : int
        Samples of the other half.
    q : array
        (concept,), false discovery rate of an AUC on the other half that is above 0.5.
    distinguishable : array of bool
        (concept,), whether the AUC is above `null` and, on the other half, above 0.5 at a false discovery rate of 5 %.
    """

    formulas: tuple[Formula, ...]
    auc: Floats
    auc_other_half: Floats
    null: float
    support: Integers
    held_other_half: Integers
    n_other_half: int
    q: Floats
    distinguishable: Bools


def name_concepts(scores: Any, attributes: Any, *, length: int = 3, beam: int = 4, seed: int = 0) -> ConceptNames:
    """Return for each concept the formula of attributes whose truth its scores rank best.

    A formula joins at most `length` attributes, or their opposites, from the left by and / or. It holds in 1 % to 50 %
    of the samples of the half where it is searched, and at least in 10 of them, or in a quarter. A longer one counts
    only if it raises the AUC by at least 0.01.

    The null is one number for all concepts, as an AUC depends on ranks alone: the 95th percentile of the best AUC that
    the same search reaches for 64 seeded permutations of the samples. Scores with many ties reach less by chance, so
    that it is too high for them rather than too low.

    Parameters
    ----------
    scores : array
        (sample, concept), finite.
    attributes : array of bool
        (sample, attribute).
    length : int, optional
        Attributes in a formula, at most.
    beam : int, optional
        Formulas of a length that are made longer.
    seed : int, optional
        Of the halves and the permutations.

    Raises
    ------
    InputError
        If there are fewer than 8 samples, no attribute and no opposite holds in as many samples as a formula has to, or
        an array does not fit.

    References
    ----------
    Bykov et al., "Labeling neural representations with inverse recognition", NeurIPS 2023.
    Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57, 1995.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> attributes = generator.random((400, 3)) < 0.4
    >>> scores = (attributes[:, [0]] & ~attributes[:, [2]]) + generator.normal(0, 0.3, (400, 1))
    >>> names = name_concepts(scores, attributes)
    >>> names.formulas[0].words(["red", "blue", "round"]), bool(names.distinguishable[0])
    ('red and not round', True)
    """
    values = np.asarray(scores)
    _check_scores(values)
    truth = truth_columns("attributes", attributes, rows=len(values))
    rules = SearchRules(check_integer("length", length, low=1), check_integer("beam", beam, low=1))
    order = np.random.default_rng(seed).permutation(len(values))
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    formulas, auc = [], []
    for ranks in _rank_blocks(values[first]):
        best, areas = search(ranks, truth[first], rules)
        formulas += best
        auc.append(areas)
    null = _chance(len(first), truth[first], rules, seed)
    held = np.stack([formula_truth(formula, truth) for formula in formulas], 1)
    other, p = _checked(values[second], held[second])
    area, q = np.concatenate(auc), q_values(p)
    checked = held[second].sum(0), len(second), q
    return ConceptNames(tuple(formulas), area, other, null, held.sum(0), *checked, (area > null) & (q <= _LEVEL))


def _check_scores(values: Any) -> None:
    """Make sure that scores are (sample, concept), finite, of at least 8 samples; they are not copied."""
    finite_rows("scores", values[:1])
    if not np.isfinite(values.sum(dtype=np.float64)) or not np.isfinite(values).all():
        finite_rows("scores", values)
    if len(values) < 8:
        raise InputError(
            f"names need at least 8 samples, to search in one half and to check in the other; got {len(values)}"
        )


def _rank_blocks(values: Any) -> Iterator[Floats]:
    """Yield the ranks of some concepts at once: (sample, concept)."""
    for start in range(0, values.shape[1], _CONCEPTS_AT_ONCE):
        yield mid_ranks(values[:, start : start + _CONCEPTS_AT_ONCE])


def _chance(samples: int, truth: Bools, rules: SearchRules, seed: int) -> float:
    """Return the 95th percentile of the best AUC over permutations of the samples."""
    generator = np.random.default_rng([seed, 1])
    ranks = np.stack([generator.permutation(samples) for _ in range(_PERMUTATIONS)], 1).astype(np.float64) + 1
    return float(np.quantile(search(ranks, truth, rules)[1], 1 - _LEVEL))


def _checked(values: Any, held: Bools) -> tuple[Floats, Floats]:
    """Return the AUC of each concept for its own formula, and the one-sided p-value of Mann and Whitney: (concept,).

    By the normal approximation, with the correction for ties. Both are NaN and 1 where a formula holds in none or all.
    """
    from scipy.special import ndtr

    rows, areas, deviations = len(values), [], []
    for number, ranks in enumerate(_rank_blocks(values)):
        start = number * _CONCEPTS_AT_ONCE
        chosen = held[:, start : start + ranks.shape[1]]
        count = chosen.sum(0).astype(np.float64)
        areas.append(auc_of_sums((ranks * chosen).sum(0), count, rows))
        deviations.append(auc_deviations(areas[-1], ranks, count))
    deviation = np.concatenate(deviations)
    return np.concatenate(areas), np.where(np.isfinite(deviation), ndtr(-np.nan_to_num(deviation)), 1.0)
