"""Whether the sides got the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import Case

LIMIT = 1e-3
"""Largest difference, relative, of results in float32."""
ASTRAY, FURTHER = 1 / 8, 100
"""Which part of an atlas's samples may differ by more, and how many times as much."""
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Agreement:
    """How far crp-kit's results are from others.

    Parameters
    ----------
    other : str
        Whose results these are.
    error : float
        The relative difference, in the L2 norm of a heatmap or of a sample's scores in a layer, see `scores_error`; for
        traced graphs, how many layers differ. Not-a-number, if a result is.
    limit : float
    ok : bool
    """

    other: str
    error: float
    limit: float
    ok: bool


def agreements(case: Case, results: Results) -> list[Agreement]:
    """Return every comparison that has a meaning; see `not_compared` for the others."""
    ours = results["ours"]
    match case.kind:
        case "heatmaps" | "saliency":
            found = {"zennit, float64": results.get("gradient", {}).get("heatmaps"), "crp-kit, float64": ours["double"]}
            if not not_compared(case):
                found["zennit-crp"] = results.get("peer", {}).get("heatmaps")
            return [
                _agreed(other, maps_error(ours["heatmaps"], maps)) for other, maps in found.items() if maps is not None
            ]
        case "top" | "class_top":
            return [_agreed("what was written", float(np.abs(ours["scores"] - ours["written"]).max()), 0)]
    compared = {"atlas": scores_error, "graph": edges_error, "trace": inputs_error}
    if "peer" not in results or case.kind not in compared:
        return []
    return [_agreed("zennit-crp", *compared[case.kind](ours, results["peer"]))]


def not_compared(case: Case) -> str:
    """Return why zennit-crp cannot be right in a case, if so."""
    if case.kind != "heatmaps":
        return ""
    if case.composite == "epsilon_gamma_box":
        return "zennit 0.4.6, which zennit-crp needs, has a gamma rule for positive outputs only"
    if case.model.startswith("densenet"):
        return "zennit has no canonizer for DenseNet, so that a plain gradient passes its BatchNorms"
    return ""


def _agreed(other: str, error: float, limit: float = LIMIT) -> Agreement:
    return Agreement(other, error, limit, bool(error <= limit))


def maps_error(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest relative difference of a map that both have: (row, height, width)."""
    rows = min(len(mine), len(theirs))
    pairs = zip(mine[:rows].astype("f8"), theirs[:rows].astype("f8"), strict=True)
    return float(np.max([_relative(one, other) for one, other in pairs]))


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    difference, scale = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return float(difference / scale) if scale else float(0 if difference == 0 else np.inf)


def scores_error(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return how far the rankings of a layer, (score or sample, place, concept), are apart, sample by sample.

    Where the two largest values of a pooling window differ by rounding alone, either may be the largest, and all that
    the sample's relevance does below is another: the error is that of all samples but a few, and a part of theirs.
    """
    layers = [_sample_errors(mine[name], ranking) for name, ranking in theirs.items()]
    return float(np.max([(np.quantile(errors, 1 - ASTRAY), np.max(errors) / FURTHER) for errors in layers])), LIMIT


def _sample_errors(mine: np.ndarray, theirs: np.ndarray) -> list[float]:
    """Return, for each sample that has a place, the relative difference of its scores; without one, the last counts."""
    count, tables, placed = int(max(mine[1].max(), theirs[1].max())) + 1, [], []
    for scores, samples in (mine, theirs):
        tables.append(np.repeat(scores[-1:], count, 0))  # (sample, concept)
        placed.append(np.zeros_like(tables[-1], dtype=bool))
        np.put_along_axis(tables[-1], samples.astype(int), scores, 0)
        np.put_along_axis(placed[-1], samples.astype(int), True, 0)
    counted = np.logical_or(*placed)
    return [_relative(*(table[row][counted[row]] for table in tables)) for row in np.flatnonzero(counted.any(1))]


def edges_error(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return the largest relative difference of the edges between a concept and a layer below it.

    zennit-crp keeps so many children in each layer below, crp-kit in all of them together: crp-kit's have to be the
    first of zennit-crp's, and, as zennit-crp divides by the sum over the layer, to be in the same proportion.
    """
    found, expected = _groups(mine["edges"]), _groups(theirs["edges"])
    errors = [_out_of_proportion(edges, expected.get(group, [])[: len(edges)]) for group, edges in found.items()]
    return float(np.max(errors)) if errors else float("inf"), LIMIT


def _out_of_proportion(edges: list[tuple[int, float]], others: list[tuple[int, float]]) -> float:
    """Return the largest relative difference of two lists of children, once both sum to one."""
    if [child for child, _ in edges] != [child for child, _ in others]:
        return float("inf")
    one, other = (np.array([relevance for _, relevance in several]) for several in (edges, others))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.abs(one / one.sum() / (other / other.sum()) - 1)))


def _groups(edges: Any) -> dict[tuple[str, int, str], list[tuple[int, float]]]:
    """Return, by upper concept and lower layer, the lower concepts, the strongest first."""
    found: dict[tuple[str, int, str], dict[int, float]] = {}
    for upper, concept, lower, child, relevance in edges:
        found.setdefault((upper, concept, lower), {})[child] = relevance
    return {group: sorted(several.items(), key=lambda one: -one[1]) for group, several in found.items()}


def inputs_error(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return how many layers have other layers below them."""
    return sum(set(mine["inputs"][name]) != set(below) for name, below in theirs["inputs"].items()), 0
