"""Everything that the data functions of a report's pages read: atlas, concepts, reference samples, links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.file.header import MODES, Integers
from ...interrupts import Interrupts
from ...progress import Progress
from .choice import Chosen
from .class_groups import LayerGroups, layer_groups
from .covers import Covers
from .facts import LayerFacts, layer_facts
from .folder import Site
from .links import Links
from .samples import SampleSource

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["ReportContext"]

_CELLS = 256
"""Pictures on one sheet, at most, where one concept does not have more."""
_RANKED = 64
"""Concepts whose rankings are looked at for the samples of classes."""


@dataclass(eq=False)
class ReportContext:
    """The report that is being written.

    Parameters
    ----------
    title : str
    chosen : dict of str to tuple of int
        Layers in graph order, and their concepts.
    source : SampleSource
        The atlas, and pictures of its samples.
    links : Links or str
        Links between concepts, or the reason why there are none.
    site : Site
        The folder, for pictures.
    bar : Progress
        Progress, a step for each concept.
    interrupts : Interrupts
        Ctrl-C and SIGTERM, which end the work between two sheets.
    most_graphs : int
        Classes, those with the most samples, that get a page with their concept graph.
    """

    title: str
    chosen: Chosen
    source: SampleSource
    links: Links | str
    site: Site
    bar: Progress
    interrupts: Interrupts
    most_graphs: int
    covers: dict[str, Covers] = field(default_factory=dict)
    """Small pictures of the concepts of each layer; the pages of concepts, which come first, fill it."""
    shown: dict[int, None] = field(default_factory=dict)
    """Samples that pages show, each of which gets a page of its own, in the order in which they first did."""

    graphs: list[int] = field(default_factory=list)
    """Classes that have a page with their concept graph; these pages fill it."""

    @property
    def atlas(self) -> ConceptAtlas:
        """The atlas that the report is about."""
        return self.source.atlas

    @cached_property
    def facts(self) -> Mapping[str, LayerFacts]:
        """The numbers of each layer."""
        return {layer: layer_facts(self.atlas, layer, ids) for layer, ids in self.chosen.items()}

    @cached_property
    def groups(self) -> Mapping[str, LayerGroups]:
        """What each layer says of classes and of single samples."""
        return {layer: layer_groups(self.atlas, layer) for layer in self.chosen}

    @cached_property
    def names(self) -> Mapping[str, Mapping[int, str]]:
        """Names of concepts, by layer."""
        return {layer: self.atlas[layer].names for layer in self.chosen}

    @cached_property
    def top_predictions(self) -> tuple[Any, Any]:
        """The most probable classes of every sample of the atlas, and their probabilities."""
        return self.atlas.top_predictions

    def samples_of(self, cls: int) -> tuple[list[int], list[int]]:
        """Return samples of a class: those that pages show so far, whose heatmaps are there anyway, and others.

        Of each, those whose first target it is come before others from its rankings.
        """
        of_class = self.atlas.samples[self.atlas.targets == cls]
        ranked = self._ranked.get(cls)
        if ranked is not None:
            of_class = np.concatenate([of_class, ranked[~np.isin(ranked, of_class)]])
        is_shown = np.isin(of_class, list(self.shown))
        return of_class[is_shown].tolist(), of_class[~is_shown].tolist()

    @property
    def class_counts(self) -> tuple[Integers, Integers]:
        """Classes that have samples, and how many: a sample counts for each of its targets."""
        groups = self.groups[next(iter(self.chosen))]
        return groups.classes, groups.moments.count

    @cached_property
    def _ranked(self) -> Mapping[int, Integers]:
        """Samples in the rankings of each class by some concepts; empty where no sample has several targets."""
        scores = self.atlas[next(iter(self.chosen))].relevance
        several = self.class_counts[1].sum() > (self.atlas.targets >= 0).sum()
        if not several or not scores.has("class_top"):
            return {}
        ranked = scores.arrays("class_top")["sample"][:_RANKED]
        groups = (np.unique(ranked[:, row]) for row in range(ranked.shape[1]))
        return {cls: group[group >= 0] for cls, group in zip(self.atlas.seen.tolist(), groups, strict=True)}

    def show(self, samples: Iterable[int]) -> None:
        """Note that a page shows these samples."""
        self.shown.update(dict.fromkeys(samples))

    @property
    def per_sheet(self) -> int:
        """Concepts whose pictures share a sheet, and whose data share a script."""
        pictures = 3 if self.source.receptive_field else 2
        return max(1, _CELLS // (self.source.references * len(MODES) * pictures))

    def end_if_interrupted(self) -> None:
        """Raise the exception of a signal that has arrived."""
        self.interrupts.stop("interrupted; no report was written")
