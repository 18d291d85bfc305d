"""Statistics of classes for their pages: marker concepts, mistakes, prototypes and outliers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...atlas.questions.stored_moments import moments_contrast, stored_moments
from ...errors import CrpKitError
from ...statistics.moments import GroupMoments
from .facts import json_number

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.layer_atlas import ScoreAtlas
    from ...atlas.questions.contrast_table import ContrastTable

__all__ = ["LayerGroups", "layer_groups"]

Array = npt.NDArray[Any]

_MARKERS = 8
_MISTAKES = 8
_OUTLIERS = 6
_NEAREST = 4
_SIGNIFICANT = 0.05
_DETAILED = 40
"""Classes, those with the most samples, of which what needs every sample's scores is shown."""
_COMPARED = 16
"""Other classes that a class is compared with: those whose samples use concepts most alike."""
_DIFFERENT = 12
"""Concepts of each comparison."""


@dataclass(frozen=True, eq=False)
class LayerGroups:
    """What a layer's relevance says of classes and of single samples.

    Parameters
    ----------
    scores : ScoreAtlas
    classes : numpy.ndarray
        Those that have samples.
    moments : GroupMoments
        Of these.
    detailed : frozenset of int
        Classes of which mistakes and prototypes are shown.
    percentiles : dict of int to float
        How unusual each sample is in its class, by its number.
    outliers : dict of int to list
        Numbers of the most unusual samples of each class, the most unusual first.
    """

    scores: ScoreAtlas
    classes: Array
    moments: GroupMoments
    detailed: frozenset[int]
    percentiles: dict[int, float] = field(default_factory=dict)
    outliers: dict[int, list[int]] = field(default_factory=dict)

    def markers(self, cls: int) -> list[tuple[int, float | None, float | None]]:
        """Return the concepts that mark a class among the others: number, difference of means, q-value."""
        if cls not in self.classes or len(self.classes) < 2:
            return []
        table = self._contrast(cls)
        clear = table.taken((table.difference > 0) & (table.q < _SIGNIFICANT)).taken(slice(_MARKERS))
        columns = zip(clear.concept.tolist(), clear.difference.tolist(), clear.q.tolist(), strict=True)
        return [(concept, json_number(difference), json_number(q)) for concept, difference, q in columns]

    def compared(self, cls: int) -> list[list[Any]]:
        """Return the classes that are most like a class, each with the concepts that tell the two apart.

        A pair of the other class and its concepts: number, mean of the class and of the other, q-value, and Hedges' g.
        """
        return [[other, self._differences(self._contrast(cls, other))] for other in self._alike(cls)]

    def _differences(self, table: ContrastTable) -> list[list[Any]]:
        first = table.taken(slice(_DIFFERENT))
        columns = (first.concept, first.mean_a, first.mean_b, first.q, first.g)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [[concept, *map(json_number, values)] for concept, *values in rows]

    def _contrast(self, a: int, b: int | None = None) -> ContrastTable:
        return moments_contrast(self.scores, (self.classes, self.moments), a, b)

    def _alike(self, cls: int) -> list[int]:
        """Return other classes by the cosine of their means, from which the mean of all is taken, the highest first."""
        if cls not in self.classes:
            return []
        order = np.argsort(-self._likeness[np.searchsorted(self.classes, cls)], kind="stable")
        return [other for other in self.classes[order].tolist() if other != cls][:_COMPARED]

    @cached_property
    def _likeness(self) -> Array:
        """Cosines of the means of the classes around the mean of all: (class, class)."""
        centred = self.moments.mean - self.moments.mean.mean(0)
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)
        return np.asarray(centred @ centred.T)

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
    """Return what a layer's relevance says of classes and single samples."""
    scores = atlas[layer].relevance
    classes, moments = stored_moments(scores)
    most = classes[np.argsort(-moments.count, kind="stable")][:_DETAILED]
    groups = LayerGroups(scores, classes, moments, frozenset(most.tolist() if scores.has("matrix") else ()))
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
