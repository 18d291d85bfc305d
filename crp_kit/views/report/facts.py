"""What the pages of a report say in numbers: of each concept of a layer, and of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .links import cosines, strongest

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.layer_atlas import LayerAtlas
    from ...atlas.query.rankings import ConceptStatistics

__all__ = ["ALL_CLASSES", "LayerFacts", "layer_facts", "plain"]

Floats = npt.NDArray[Any]

ALL_CLASSES = 24
"""With more classes than this, a concept's histogram shows the strongest `_BARS` only."""
_BARS = 16
_SIMILAR = 8
_CONCEPTS_OF_CLASS = 12
_SERVED = 0.5
"""A class is served if its mean relevance is at least this share of the strongest class's."""


def plain(value: Any) -> float | None:
    """Return a number with four digits, as data; not-a-number becomes ``None``."""
    number = float(value)
    return float(f"{number:.4g}") if np.isfinite(number) else None


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """The numbers of one layer.

    Parameters
    ----------
    ids : tuple of int
        The concepts of the report.
    relevance, activation : ConceptStatistics
        Of every concept of the layer, over all samples.
    profile, deviation : numpy.ndarray
        Mean and standard deviation of relevance by class: (class, concept); not-a-number without samples.
    counts : numpy.ndarray
        Rows of each class that relevance started from: (class,).
    similarity : numpy.ndarray
        Of the report's concepts: (id, id).
    """

    ids: tuple[int, ...]
    relevance: ConceptStatistics
    activation: ConceptStatistics
    profile: Floats
    deviation: Floats
    counts: Floats
    similarity: Floats

    def table(self) -> dict[str, list[Any]]:
        """Return the columns of the layer's table, a row for each concept of the report."""
        ids = list(self.ids)
        held = np.nan_to_num(self.profile[:, ids], nan=-np.inf)
        best, value = held.argmax(0), held.max(0)
        served = np.where(value > 0, (held >= _SERVED * value).sum(0), 0)
        return {
            "concept": ids,
            "relevance": [plain(one) for one in self.relevance.mean[ids]],
            "spread": [plain(one) for one in self.relevance.std[ids]],
            "activation": [plain(one) for one in self.activation.mean[ids]],
            "cls": [int(cls) if top > 0 else -1 for cls, top in zip(best, value, strict=True)],
            "served": served.tolist(),
        }

    def histogram(self, concept: int) -> dict[str, Any]:
        """Return the mean relevance of a concept by class, strongest first; of many classes the strongest only."""
        mean = self.profile[:, concept]
        held = np.flatnonzero(~np.isnan(mean))
        order = held[np.argsort(-np.abs(mean[held]), kind="stable")]
        shown = order if len(order) <= ALL_CLASSES else order[:_BARS]
        shown = shown[np.argsort(-mean[shown], kind="stable")]
        rest = np.abs(mean[order[len(shown) :]])
        return {
            "cls": shown.tolist(),
            "mean": [plain(one) for one in mean[shown]],
            "std": [plain(one) for one in self.deviation[shown, concept]],
            "count": self.counts[shown].tolist(),
            "rest": len(rest),
            "below": plain(rest.max()) if len(rest) else None,
        }

    def moments(self, concept: int) -> dict[str, list[float | None]]:
        """Return mean, standard deviation, minimum and maximum of a concept's relevance and activation."""
        return {
            kind: [plain(column[concept]) for column in (table.mean, table.std, table.min, table.max)]
            for kind, table in (("relevance", self.relevance), ("activation", self.activation))
        }

    def similar(self, concept: int) -> list[tuple[int, float | None]]:
        """Return the concepts of the report that are most similar to one, best first, with their similarity."""
        row = self.similarity[self.ids.index(concept)].copy()
        row[self.ids.index(concept)] = -np.inf
        return [(self.ids[one], plain(row[one])) for one in strongest(row, _SIMILAR)]

    def concepts_of(self, cls: int) -> list[tuple[int, float | None, float | None]]:
        """Return the concepts of the report that serve a class most: number, mean and standard deviation."""
        mean = self.profile[cls, list(self.ids)]
        order = np.argsort(-mean, kind="stable")[:_CONCEPTS_OF_CLASS]
        return [
            (self.ids[one], plain(mean[one]), plain(self.deviation[cls, self.ids[one]]))
            for one in order
            if not np.isnan(mean[one])
        ]


def layer_facts(atlas: ConceptAtlas, layer: str, ids: Sequence[int]) -> LayerFacts:
    """Return the numbers of a layer."""
    found = atlas[layer]
    moments = found.relevance.moments
    held = moments.count > 0
    profile = np.where(held[:, None], moments.mean, np.nan)
    return LayerFacts(
        tuple(ids),
        found.relevance.statistics(),
        found.activation.statistics(),
        profile,
        moments.std,
        moments.count,
        _similarity(found, profile[held], list(ids)),
    )


def _similarity(layer: LayerAtlas, profile: Floats, ids: list[int]) -> Floats:
    """Return the similarity of concepts: of their relevance in every sample, or else of their means by class."""
    values = layer.relevance.matrix if layer.file.header.matrix else profile
    return cosines(values, values, centred=False)[np.ix_(ids, ids)]
