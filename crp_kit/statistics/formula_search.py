"""Beam search for formulas of attributes whose truth the scores of concepts rank best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .arrays import Bools, Floats
from .ranks import auc_of_sums

__all__ = ["Formula", "SearchRules", "formula_truth", "search"]

_FRACTION = (0.01, 0.5)
_LEAST_SAMPLES = 10
"""Of which a formula holds, a quarter of all where that is fewer: by chance a few samples are all at the top."""
_LEAST_GAIN = 0.01
"""AUC that each further attribute has to add."""
_SAME = 1e-9
"""Formulas of one AUC and one number of samples count as the same."""


@dataclass(frozen=True)
class Formula:
    """Attributes or their opposites, joined from the left.

    Parameters
    ----------
    attributes : tuple of int
        Numbers of attributes.
    negated : tuple of bool
        Whether it is the opposite, for each of them.
    joins : tuple of bool
        Between one and the next: true for and, false for or.
    """

    attributes: tuple[int, ...]
    negated: tuple[bool, ...]
    joins: tuple[bool, ...] = ()

    def joined(self, attribute: int, negated: bool, *, by_and: bool) -> Formula:
        """Return the formula with one attribute more."""
        return Formula((*self.attributes, attribute), (*self.negated, negated), (*self.joins, by_and))

    def in_order(self) -> Formula:
        """Return the formula with its attributes by number, where only and, or only or, joins them."""
        if len(set(self.joins)) > 1:
            return self
        attributes, negated = zip(*sorted(zip(self.attributes, self.negated, strict=True)), strict=True)
        return Formula(attributes, negated, self.joins)

    def words(self, names: Sequence[str]) -> str:
        """Return the formula in words, with brackets around what is joined first where and meets or.

        Examples
        --------
        >>> Formula((0, 2, 1), (False, True, False), (True, False)).words(["red", "blue", "round"])
        '(red and not round) or blue'
        """
        literals = [
            f"not {names[number]}" if negated else names[number]
            for number, negated in zip(self.attributes, self.negated, strict=True)
        ]
        text, last = literals[0], None
        for literal, join in zip(literals[1:], self.joins, strict=True):
            left = f"({text})" if last not in (None, join) else text
            text, last = f"{left} {'and' if join else 'or'} {literal}", join
        return text


@dataclass(frozen=True)
class SearchRules:
    """Longest formulas, and how many of each length are made longer."""

    length: int
    beam: int


def formula_truth(formula: Formula, truth: Bools) -> Bools:
    """Return where a formula holds, (sample,), by the truth of the attributes, (sample, attribute)."""
    literals = [truth[:, number] ^ negated for number, negated in zip(formula.attributes, formula.negated, strict=True)]
    held = literals[0]
    for literal, join in zip(literals[1:], formula.joins, strict=True):
        held = held & literal if join else held | literal
    return held


def search(ranks: Floats, truth: Bools, rules: SearchRules) -> tuple[list[Formula], Floats]:
    """Return the formula of the highest AUC for each concept, and its AUC.

    Sums of ranks over where a formula holds are products of matrices: those of "f and a" for all attributes a at once,
    and those of "f or a", "f and not a", "f or not a" from them, from f and from a.

    Parameters
    ----------
    ranks : array
        (sample, concept).
    truth : array of bool
        (sample, attribute).
    rules : SearchRules

    Raises
    ------
    InputError
        If no attribute and no opposite holds in enough of the samples, and in at most half of them.
    """
    attributes = _Attributes(np.asfortranarray(truth), truth.astype(np.float64))
    sums = attributes.sums(ranks)
    counts = attributes.sums(np.ones((len(ranks), 1)))[0]
    areas = _areas(sums, counts, len(ranks))
    if np.isneginf(areas).all():
        low, high = np.round(_bounds(len(ranks)))
        raise InputError(
            f"no attribute, nor its opposite, holds in {low:.0f} to {high:.0f} of {len(ranks)} samples: names need "
            f"attributes that differ"
        )
    best = []
    for rank, area in zip(np.ascontiguousarray(ranks.T), areas, strict=True):
        beam = _best(area, counts, rules.beam)
        formulas = [Formula((number % truth.shape[1],), (number >= truth.shape[1],)) for number in beam]
        best.append(_lengthened(rank, attributes, formulas, highest=float(area.max()), rules=rules))
    return [formula.in_order() for formula, _ in best], np.array([area for _, area in best])


@dataclass(frozen=True, eq=False)
class _Attributes:
    """Truth of attributes, (sample, attribute), as booleans and as numbers."""

    truth: Bools
    table: Floats

    def sums(self, ranks: Floats) -> Floats:
        """Return sums of ranks, (sample, concept), over attributes and opposites: (concept, negated, attribute)."""
        sums = ranks.T @ self.table
        return np.stack([sums, ranks.sum(0)[:, None] - sums], 1)

    def longer(self, rank: Floats, formulas: Sequence[Formula]) -> tuple[Floats, Floats]:
        """Return the sums of a concept's ranks, and the counts, of formulas with one attribute more.

        Both are (formula, join, negated, attribute); joins are first and, then or.
        """
        held = np.stack([formula_truth(formula, self.truth) for formula in formulas]).astype(np.float64)
        weighted = np.concatenate([held * rank, held])
        both = self.sums(weighted.T)
        single = self.sums(np.stack([rank, np.ones_like(rank)], 1))
        either = weighted.sum(1)[:, None, None] + np.repeat(single, len(formulas), 0) - both
        joined = np.stack([both, either], 1)
        return joined[: len(formulas)], joined[len(formulas) :]


def _lengthened(
    rank: Floats, attributes: _Attributes, formulas: list[Formula], *, highest: float, rules: SearchRules
) -> tuple[Formula, float]:
    """Return the best formula of a concept and its AUC, from a beam of single attributes, the best one first."""
    best = formulas[0]
    for _ in range(1, rules.length):
        sums, counts = attributes.longer(rank, formulas)
        areas = _areas(sums, counts, len(rank))
        for number, formula in enumerate(formulas):
            areas[number, :, :, list(formula.attributes)] = -np.inf
        beam = _best(areas, counts, rules.beam)
        if not beam:
            break
        formulas = [_formula(formulas, number, areas.shape[-1]) for number in beam]
        area = float(areas.ravel()[beam[0]])
        if area >= highest + _LEAST_GAIN:
            best, highest = formulas[0], area
    return best, highest


def _formula(formulas: list[Formula], number: int, attributes: int) -> Formula:
    """Return a candidate by its number among (beam, join, negated, attribute)."""
    rest, attribute = divmod(number, attributes)
    rest, negated = divmod(rest, 2)
    beam, join = divmod(rest, 2)
    return formulas[beam].joined(attribute, bool(negated), by_and=join == 0)


def _bounds(rows: int) -> tuple[float, float]:
    """Return the lowest and highest number of samples in which a formula may hold."""
    low, high = _FRACTION
    return max(low * rows, min(_LEAST_SAMPLES, rows / 4)), high * rows


def _areas(sums: Floats, count: Floats, rows: int) -> Floats:
    """Return AUCs, -inf where a formula holds in too few or too many samples."""
    low, high = _bounds(rows)
    fits = (count >= low) & (count <= high)
    return np.where(fits, np.nan_to_num(auc_of_sums(sums, count, rows)), -np.inf)


def _best(area: Floats, count: Floats, beam: int) -> list[int]:
    """Return the numbers of the formulas of the highest AUCs, the first of those that are the same."""
    flat, counts = area.ravel(), count.ravel()
    chosen: list[int] = []
    wanted = min(4 * beam + 4, len(flat))
    top = np.argpartition(-flat, wanted - 1)[:wanted]
    for number in top[np.lexsort((top, -flat[top]))].tolist():
        if np.isneginf(flat[number]) or len(chosen) == beam:
            break
        same = (abs(flat[number] - flat[one]) < _SAME and counts[number] == counts[one] for one in chosen)
        if not any(same):
            chosen.append(number)
    return chosen
