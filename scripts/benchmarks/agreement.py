"""Whether the sides got the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import Case

LIMIT = 1e-3
"""Largest difference, relative, of results in float32."""
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Agreement:
    """How far crp-kit's results are from others.

    Parameters
    ----------
    other : str
        Whose results these are.
    error : float
        The relative difference, in the L2 norm; for traced graphs, how many layers differ.
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
        case "heatmaps":
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
    """Return the relative difference of the maps that both have: (row, height, width)."""
    rows = min(len(mine), len(theirs))
    expected = theirs[:rows].astype("f8")
    return float(np.linalg.norm(mine[:rows] - expected) / np.linalg.norm(expected))


def scores_error(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return the largest relative difference of a layer's rankings: (place, concept)."""
    return max(maps_error(mine[name], scores) for name, scores in theirs.items()), LIMIT


def edges_error(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return the largest relative difference of the edges between a concept and a layer below it.

    zennit-crp keeps so many children in each layer below, crp-kit in all of them together: crp-kit's have to be the
    first of zennit-crp's, and, as zennit-crp divides by the sum over the layer, to be in the same proportion.
    """
    found, expected = _groups(mine["edges"]), _groups(theirs["edges"])
    worst = 0.0
    for group, edges in found.items():
        others = expected.get(group, [])[: len(edges)]
        if [one[0] for one in others] != [one[0] for one in edges]:
            return float("inf"), LIMIT
        ratios = [one[1] / other[1] for one, other in zip(edges, others, strict=True)]
        worst = max(worst, max(ratios) / min(ratios) - 1)
    return worst, LIMIT


def _groups(edges: Any) -> dict[tuple[str, int, str], list[tuple[int, float]]]:
    """Return, by upper concept and lower layer, the lower concepts, the strongest first."""
    found: dict[tuple[str, int, str], dict[int, float]] = {}
    for upper, concept, lower, child, relevance in edges:
        found.setdefault((upper, concept, lower), {})[child] = relevance
    return {group: sorted(several.items(), key=lambda one: -one[1]) for group, several in found.items()}


def inputs_error(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return how many layers have other layers below them."""
    return sum(set(mine["inputs"][name]) != set(below) for name, below in theirs["inputs"].items()), 0
