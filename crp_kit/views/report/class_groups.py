"""Statistics of classes for their pages: marker concepts, mistakes, prototypes and outliers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import CrpKitError
from ...statistics.moments import GroupMoments, pooled_moments
from ...statistics.multiple_testing import q_values
from ...statistics.two_groups import welch_test
from .facts import json_number

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.layer_atlas import ScoreAtlas

__all__ = ["LayerGroups", "layer_groups"]

Array = npt.NDArray[Any]

_MARKERS = 8
_MISTAKES = 8
_OUTLIERS = 6
_NEAREST = 4
_SIGNIFICANT = 0.05
_DETAILED = 40
"""Classes, those with the most samples, of which what needs every sample's scores is shown."""


@dataclass(frozen=True, eq=False)
class LayerGroups:
    """What a layer's relevance tells of classes and of single samples.

    Parameters
    ----------
    scores : ScoreAtlas
    moments : GroupMoments
        Of the classes that have samples, in the order of `seen`.
    seen : dict of int to int
        Row of each class that has samples.
    detailed : frozenset of int
        Classes of which mistakes and prototypes are shown.
    percentiles : dict of int to float
        How unusual each sample is in its class, by its number.
    outliers : dict of int to list
        Numbers of the most unusual samples of each class, the most unusual first.
    """

    scores: ScoreAtlas
    moments: GroupMoments
    seen: dict[int, int]
    detailed: frozenset[int]
    percentiles: dict[int, float] = field(default_factory=dict)
    outliers: dict[int, list[int]] = field(default_factory=dict)

    def markers(self, cls: int) -> list[tuple[int, float | None, float | None]]:
        """Return the concepts that mark a class among the others: number, difference of means, q-value."""
        if cls not in self.seen or len(self.seen) < 2:
            return []
        own = np.arange(len(self.moments.count)) == self.seen[cls]
        inside, outside = (pooled_moments(_part(self.moments, rows)) for rows in (own, ~own))
        test = welch_test(inside, outside)
        q = q_values(test.p)
        higher = np.flatnonzero((test.difference > 0) & (q < _SIGNIFICANT))
        order = higher[np.argsort(-test.t[higher], kind="stable")][:_MARKERS]
        return [(int(number), json_number(test.difference[number]), json_number(q[number])) for number in order]

    def mistakes(self, cls: int) -> dict[str, Any] | None:
        """Return the concepts that are used more where the model errs: counts, and as for markers; None if unknown."""
        if cls not in self.detailed:
            return None
        try:
            table = self.scores.mistakes(cls)
        except CrpKitError:  # the class is always right, always wrong, or its labels are not known
            return None
        more = table.taken((table.difference < 0) & (table.q < _SIGNIFICANT)).taken(slice(_MISTAKES))
        columns = zip(more.concept.tolist(), (-more.difference).tolist(), more.q.tolist(), strict=True)
        used = [(concept, json_number(value), json_number(q)) for concept, value, q in columns]
        return {"right": int(table.n_a[0]), "wrong": int(table.n_b[0]), "used": used}

    def prototypes(self, cls: int) -> list[dict[str, Any]]:
        """Return the weight, the number of samples, and the nearest samples of each prototype of a class."""
        if cls not in self.detailed:
            return []
        try:
            table = self.scores.prototypes(cls)
        except CrpKitError:  # too few samples that are predicted right, no matrix, or no scikit-learn
            return []
        rows = zip(table.weight.tolist(), table.n.tolist(), table.samples[:, :_NEAREST].tolist(), strict=True)
        return [{"weight": json_number(weight), "n": n, "nearest": nearest} for weight, n, nearest in rows]


def layer_groups(atlas: ConceptAtlas, layer: str) -> LayerGroups:
    """Return what a layer's relevance tells of classes and single samples."""
    scores = atlas[layer].relevance
    stored = scores.arrays("moments")
    counts = stored["count"][:]
    held = counts > 0
    mean, std = (stored[name][:][held].astype(np.float64) for name in ("mean", "std"))
    moments = GroupMoments(counts[held], mean, std)
    classes = atlas.seen[held]
    most = classes[np.argsort(-moments.count, kind="stable")][:_DETAILED]
    seen = {int(cls): row for row, cls in enumerate(classes)}
    groups = LayerGroups(scores, moments, seen, frozenset(most.tolist() if scores.has("matrix") else ()))
    if groups.detailed:
        _add_percentiles(groups, len(atlas.samples))
    return groups


def _add_percentiles(groups: LayerGroups, samples: int) -> None:
    """Note how unusual each sample is in its class, where that is known."""
    try:
        table = groups.scores.outliers(k=samples)
    except CrpKitError:  # no class has enough samples that are predicted right, or there is no scikit-learn
        return
    for sample, cls, percentile in zip(*(column.tolist() for column in table.columns().values()), strict=True):
        groups.percentiles[sample] = percentile
        own = groups.outliers.setdefault(cls, [])
        if len(own) < _OUTLIERS:
            own.append(sample)


def _part(moments: GroupMoments, rows: Array) -> GroupMoments:
    return GroupMoments(moments.count[rows], moments.mean[rows], moments.std[rows])
