"""Tables of localisation: of the heatmaps of samples, and of conditional heatmaps of concepts by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..drawing import plots
from ..result_table import Column, Table, not_a_column
from ..statistics.intervals import mean_of_known
from ..statistics.localisation import LocalisationScores
from .shown import ShownResult

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["ConceptLocalisation", "Localisation", "LocalisationTable"]

_BY_CHANCE = {"mass": "mask_share", "rank": "mask_share", "pointing": "mask_share", "iou": "iou_by_chance"}


@dataclass(frozen=True, eq=False, repr=False)
class LocalisationTable(Table):
    """Scores of heatmaps over samples, beside what chance has.

    Parameters
    ----------
    score : numpy.ndarray
        ``"mass"``, ``"rank"``, ``"pointing"``, ``"iou"``, see `crp_kit.statistics.localisation.LocalisationScores`.
    n : numpy.ndarray
        Samples that have a mask and a score.
    mean, low, high : numpy.ndarray
        Mean over these samples, and its t interval.
    mask_share : numpy.ndarray
        Mean share of the image that the mask has.
    above, above_low, above_high : numpy.ndarray
        Mean of the score minus what it has by chance, which is the mask's share, and for iou that of a region of the
        same area; and its t interval. Where it holds 0, the score is not distinguishable from chance.
    """

    score: Column
    n: Column
    mean: Column
    low: Column
    high: Column
    mask_share: Column
    above: Column
    above_low: Column
    above_high: Column


@dataclass(frozen=True, eq=False, repr=False)
class Localisation(ShownResult):
    """Scores of the heatmaps of samples against their masks.

    Parameters
    ----------
    scores : LocalisationScores
        (sample,) each.
    samples : numpy.ndarray
        (sample,), numbers in the dataset.
    settings : dict
        What was done, in words: target, parts, composite.
    confidence : float
        Of the intervals.
    """

    scores: LocalisationScores
    samples: npt.NDArray[np.int64]
    settings: Mapping[str, str]
    confidence: float = 0.95

    @property
    def heading(self) -> str:
        return f"Localisation of {len(self.samples)} samples"

    @property
    def table(self) -> LocalisationTable:
        """Means over the samples."""
        rows = []
        for score, chance in _BY_CHANCE.items():
            values, by_chance = getattr(self.scores, score), getattr(self.scores, chance)
            whole = mean_of_known(values, confidence=self.confidence)
            above = mean_of_known(values - by_chance, confidence=self.confidence)
            share = mean_of_known(np.where(np.isnan(values), np.nan, self.scores.mask_share)).mean
            rows.append((score, *whole, share, *above[1:]))
        return LocalisationTable(*map(np.array, zip(*rows, strict=True)))

    def plot(self) -> Figure:
        """Return a figure: the mean of each score, and what it has by chance."""
        figure: Figure = plots().localisation(self.table)
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class ConceptLocalisation(Table):
    """Localisation of concepts in parts: of conditional heatmaps of their reference samples that show the part.

    Parameters
    ----------
    concept : numpy.ndarray
        Number of the concept.
    part : numpy.ndarray
        Name of the part.
    n : numpy.ndarray
        Reference samples that show it.
    mass, mass_low, mass_high : numpy.ndarray
        Mean share of positive relevance inside of the part, and its t interval.
    rank, pointing, iou : numpy.ndarray
        Means of the other scores.
    mask_share : numpy.ndarray
        Mean share of the image that the part has.
    layer : str
    """

    concept: Column
    part: Column
    n: Column
    mass: Column
    mass_low: Column
    mass_high: Column
    rank: Column
    pointing: Column
    iou: Column
    mask_share: Column
    layer: str = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        return f"conditional heatmaps of reference samples of concepts of {self.layer!r}, against the masks of parts"

    def best(self) -> ConceptLocalisation:
        """Return for each concept the part whose share of relevance is most above its share of the image."""
        above = np.nan_to_num(self.mass - self.mask_share, nan=-np.inf)
        order = np.lexsort((-above, self.concept))
        first = np.unique(self.concept[order], return_index=True)[1]
        return self.taken(order[first])

    def plot(self) -> Figure:
        """Return a figure: the share of relevance above the share of the image, by concept and part."""
        figure: Figure = plots().concept_localisation(self)
        return figure
