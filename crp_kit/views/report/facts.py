"""Numbers of a report: of each concept of a layer, and of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import CrpKitError
from ...statistics.intervals import mean_interval
from .links import cosines, strongest

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.layer_atlas import LayerAtlas
    from ...atlas.query.rankings import ConceptStatistics

__all__ = ["LayerFacts", "json_number", "layer_facts"]

Floats = npt.NDArray[Any]

_ALL_CLASSES = 24
"""With more classes than this, a concept's histogram shows the strongest `_BARS` only."""
_BARS = 16
_SIMILAR = 8
_CONCEPTS_OF_CLASS = 12
_SERVED = 0.5
"""A class is served if its mean relevance is at least this share of the strongest class's."""


def json_number(value: Any) -> float | None:
    """Return a number with four significant digits, for JSON; infinite or not-a-number becomes ``None``."""
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
    has_classes : bool
        Whether these are classes.
    similarity : numpy.ndarray
        Of the report's concepts: (id, id).
    similarity_of : str
        What the similarity is, in words.
    """

    ids: tuple[int, ...]
    relevance: ConceptStatistics
    activation: ConceptStatistics
    profile: Floats
    deviation: Floats
    counts: Floats
    has_classes: bool
    similarity: Floats
    similarity_of: str

    def table(self) -> dict[str, list[Any]]:
        """Return the columns of the layer's table, a row for each concept of the report."""
        ids = list(self.ids)
        means = np.nan_to_num(self.profile[:, ids], nan=-np.inf)
        highest = means.max(0) if self.has_classes else np.zeros(len(ids))
        return {
            "concept": ids,
            "relevance": [json_number(value) for value in self.relevance.mean[ids]],
            "spread": [json_number(value) for value in self.relevance.std[ids]],
            "activation": [json_number(value) for value in self.activation.mean[ids]],
            "cls": [int(cls) if top > 0 else -1 for cls, top in zip(self._main_classes(), highest, strict=True)],
            "served": self._serves().sum(1).tolist(),
            "places": [[json_number(value) for value in place] for place in self._places()],
        }

    def _serves(self) -> Floats:
        """Return whether each concept of the report serves each class, a boolean (id, class)."""
        means = np.nan_to_num(self.profile[:, list(self.ids)], nan=-np.inf).T
        highest = means.max(1, keepdims=True)
        serves: Floats = (means >= _SERVED * highest) & (highest > 0) & self.has_classes
        return serves

    def served(self) -> list[str]:
        """Return the classes that each concept serves: a bit for each class, the first highest, in hexadecimal."""
        return [row.tobytes().hex() for row in np.packbits(self._serves(), axis=1)]

    def _main_classes(self) -> Floats:
        """Return the class of each concept whose mean is high beyond doubt: that with the highest lower bound.

        A class of one sample has no interval, and is a main class only where no class has any.
        """
        ids = list(self.ids)
        low, _ = mean_interval(self.counts[:, None], self.profile[:, ids], self.deviation[:, ids])
        bounds = np.nan_to_num(low, nan=-np.inf)
        unbounded = ~np.isfinite(bounds).any(0)
        means = np.nan_to_num(self.profile[:, ids], nan=-np.inf)
        main: Floats = np.where(unbounded, means.argmax(0), bounds.argmax(0))
        return main

    def _places(self) -> Floats:
        """Return a place in the plane for each concept, similar ones near each other: (id, 2).

        Classical scaling of the distances √(2 − 2 similarity): the two leading eigenvectors of the centred similarity,
        each with its largest magnitude positive.
        """
        centred = self.similarity - self.similarity.mean(0)
        centred = centred - centred.mean(1)[:, None]
        values, vectors = np.linalg.eigh((centred + centred.T) / 2)
        leading = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
        largest = leading[np.abs(leading).argmax(0), np.arange(leading.shape[1])]
        places = np.zeros((len(self.ids), 2))
        places[:, : leading.shape[1]] = leading * np.where(largest < 0, -1, 1)
        return places

    def histogram(self, concept: int) -> dict[str, Any]:
        """Return the mean relevance of a concept by class, strongest first; of many classes the strongest only."""
        mean = self.profile[:, concept]
        seen = np.flatnonzero(~np.isnan(mean) & self.has_classes)
        order = seen[np.argsort(-np.abs(mean[seen]), kind="stable")]
        shown = order if len(order) <= _ALL_CLASSES else order[:_BARS]
        shown = shown[np.argsort(-mean[shown], kind="stable")]
        rest = np.abs(mean[order[len(shown) :]])
        return {
            "cls": shown.tolist(),
            "mean": [json_number(value) for value in mean[shown]],
            "std": [json_number(value) for value in self.deviation[shown, concept]],
            "count": self.counts[shown].tolist(),
            "rest": len(rest),
            "below": json_number(rest.max()) if len(rest) else None,
        }

    def moments(self, concept: int) -> dict[str, list[float | None]]:
        """Return mean, standard deviation, minimum and maximum of a concept's relevance and activation."""
        return {
            mode: [json_number(column[concept]) for column in (table.mean, table.std, table.min, table.max)]
            for mode, table in (("relevance", self.relevance), ("activation", self.activation))
        }

    def similar(self, concept: int) -> list[tuple[int, float | None]]:
        """Return the concepts of the report that are most similar to one, best first, with their similarity."""
        own = self.ids.index(concept)
        row = self.similarity[own].copy()
        row[own] = -np.inf
        return [(self.ids[index], json_number(row[index])) for index in strongest(row, _SIMILAR)]

    def concepts_of(self, cls: int) -> list[tuple[int, float | None, float | None]]:
        """Return the concepts of the report that serve a class most: number, mean and standard deviation."""
        mean = self.profile[cls, list(self.ids)]
        order = np.argsort(-mean, kind="stable")[:_CONCEPTS_OF_CLASS]
        return [
            (self.ids[index], json_number(mean[index]), json_number(self.deviation[cls, self.ids[index]]))
            for index in order
            if not np.isnan(mean[index])
        ]


def layer_facts(atlas: ConceptAtlas, layer: str, ids: Sequence[int]) -> LayerFacts:
    """Return the numbers of a layer."""
    layer_atlas = atlas[layer]
    moments = layer_atlas.relevance.moments
    seen = moments.count > 0
    profile = np.where(seen[:, None], moments.mean, np.nan)
    similarity, words = _similarity(layer_atlas, profile[seen], list(ids))
    return LayerFacts(
        tuple(ids),
        layer_atlas.relevance.statistics(),
        layer_atlas.activation.statistics(),
        profile,
        moments.std,
        moments.count,
        atlas.has_classes,
        similarity,
        words,
    )


def _similarity(layer: LayerAtlas, profile: Floats, ids: list[int]) -> tuple[Floats, str]:
    """Return the similarity of concepts and what it is: correlation within classes, else of their means by class."""
    try:
        values = layer.relevance.similarity().values
    except CrpKitError:  # an atlas of an older version has neither products nor scores of every sample
        values, words = cosines(profile, profile, centred=False), "Cosine similarity of mean relevance by class"
        return values[np.ix_(ids, ids)], words
    return np.nan_to_num(values)[np.ix_(ids, ids)], "Correlation of relevance over samples, within classes"
