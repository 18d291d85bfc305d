"""Relevance passes of a concept graph: relevance that reaches each concept, and its redistribution below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional

from ..attribution.axes import check_class_output
from ..attribution.cond_attribution import CondAttribution
from ..attribution.layer_concepts import Concepts, layer_concepts
from ..attribution.layer_values import find_layer, per_sample
from ..attribution.masks import concept_mask, stacked_masks
from ..attribution.mixed_layers import apart_at, concept_activation, concept_relevance, mixed_refs, row_split
from ..attribution.start_relevance import StartRelevance
from ..concepts import Concept, MixedConcept
from ..conditions import OUTPUT
from ..errors import ConditionError, UnknownLayerError
from ..graph.recording.inputs import Inputs
from ..propagation.carrier import Masks
from ..propagation.coefficients import RowSplit
from ..propagation.relevance_pass import relevance_pass
from ..propagation.run import Run
from ..rules.presets import Composite
from .layers import LayerGraph
from .parts import Key, Start

__all__ = ["Concepts", "Flows", "Samples"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Model inputs in slices, each with its relevance passes.

    Parameters
    ----------
    attribution : CondAttribution
    data : torch.Tensor, tuple or dict
        What the model takes, (sample, ...).
    count : int
        Number of samples.
    composite : zennit Composite or None
    batch_size : int
        Rows (concept and sample) computed at once.
    """

    attribution: CondAttribution
    data: Inputs
    count: int
    composite: Composite | None
    batch_size: int

    def runs(self) -> Iterator[Run]:
        """Yield one recorded forward for each slice. That of a single slice is kept."""
        self.attribution.engine.check_samples(self.data, self.composite)
        if self.count <= self.batch_size:
            yield self._only
            return
        for first in range(0, self.count, self.batch_size):
            yield self._run(slice(first, min(first + self.batch_size, self.count)))

    @cached_property
    def _only(self) -> Run:
        return self._run(slice(0, self.count))

    def first(self) -> Run:
        """Return the recorded forward of the first slice."""
        return next(self.runs())

    def _run(self, samples: slice) -> Run:
        return self.attribution.engine.run(self.data.part(samples), self.composite)


class Flows:
    """Relevance of one slice of samples, given a start.

    Parameters
    ----------
    run : Run
    start : Start
    layers : LayerGraph
    concepts : Concept, dict of Concept by layer, or None
    exclude_parallel : bool
        Whether a concept's children get only what passes through it, not what by-passes it.
    batch_size : int
        Rows (concept and sample) computed at once.
    """

    def __init__(
        self,
        run: Run,
        start: Start,
        layers: LayerGraph,
        *,
        concepts: Concepts,
        exclude_parallel: bool,
        batch_size: int,
    ) -> None:
        self.run, self.start, self.layers, self.exclude_parallel = run, start, layers, exclude_parallel
        self.refs = {name: find_layer(run, name) for name in {**layers.refs, **dict(start.stages)}}
        named = [name for name in self.refs if name != OUTPUT or start.target is None]
        self.concepts = concepts_of(run, named, concepts)
        self.run = apart_at(run, mixed_refs(run, self.concepts).values())
        self.at_once = max(1, batch_size // run.graph.batch)
        self._arrived: dict[str, torch.Tensor] = {}
        """By layer (row, *shape): relevance, or its coefficients where the concepts mix channels."""

    def arrive(self, names: Sequence[str]) -> None:
        """Carry relevance from the start to the root, and on to the named layers."""
        (first, _), *others = self.start.stages
        start = StartRelevance(self.run, self.refs[first])
        targets = None if self.start.target is None else [[(self.start.target,)]]
        self._arrived = {first: start.values.detach()[None] if targets is None else start.seeds(targets).detach()}
        for above, (name, _) in zip(self.start.stages, others, strict=False):
            self._arrived[name] = self._passed(above, [name])[name]
        self._arrived |= self._passed(self.start.root, [name for name in names if name not in self._arrived])

    def _passed(self, source: Key, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the relevance that passes one concept above all others and arrives at layers below."""
        if not names:
            return {}
        layer, concept = source
        return self._run(layer, self._seeds(layer, [concept]), {}, names)

    def totals(self, layer: str) -> torch.Tensor:
        """Return the relevance that reaches each concept of a layer from the start: (sample, concept).

        All relevance of a target counts for its class.
        """
        if layer not in self.concepts:
            whole = self._arrived[layer][0].detach().cpu().double().flatten(1).sum(1)
            return functional.pad(whole[:, None], (self.start.root[1], 0))
        if layer == self.start.stages[0][0] and isinstance(concept := self.concepts[layer], MixedConcept):
            return concept.attribute(concept_activation(self.run, layer, concept), abs_norm=False).cpu().double()
        return self._by_concept(layer, self._arrived[layer])[0]

    def redistributed(self, layer: str, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the relevance that passes each of some concepts and reaches those of the layers below, by layer.

        Where parallel paths are excluded, a path ends at the first of these layers that it reaches, so that nothing
        counts twice. Otherwise all that arrives counts, but only at concepts to which such a path leads: a layer may
        feed another with some of its channels alone, or share a tensor with it and feed it with none.

        Returns
        -------
        dict of torch.Tensor
            (row, sample, concept), one row for each of `ids`.
        """
        below = self.layers.children[layer]
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in below}
        for first in range(0, len(ids), self.at_once):
            part = ids[first : first + self.at_once]
            through = self._from_concept(layer, part, below)
            along = through if self.exclude_parallel else self._along(layer, part, below)
            for name in below:
                relevance = self._by_concept(name, along[name])
                if not self.exclude_parallel:
                    relevance *= self._reached(name, through[name])
                parts[name].append(relevance)
        return {name: torch.cat(rows) for name, rows in parts.items()}

    def _from_concept(self, layer: str, ids: Sequence[int], below: Sequence[str]) -> dict[str, torch.Tensor]:
        """Start at the concepts themselves, with the relevance that reaches them, and stop at the layers below."""
        seeds = self._seeds(layer, ids)
        shapes = {self.refs[name]: self.run.graph.shape(self.refs[name]) for name in below}
        stops = {ref: seeds.new_zeros((len(ids), *(1,) * len(shape))) for ref, shape in shapes.items()}
        return self._run(layer, seeds, stops, below)

    def _along(self, layer: str, ids: Sequence[int], below: Sequence[str]) -> dict[str, torch.Tensor]:
        """Start where the graph starts, with a mask at the layer and nothing else cut."""
        (first, concept), *others = self.start.stages
        seeds = self._seeds(first, [concept])
        masks = {self.refs[name]: self._masks(name, [concept] * len(ids)) for name, concept in others}
        if layer != first:
            masks[self.refs[layer]] = self._masks(layer, ids)
        return self._run(first, seeds, masks, below, rows=len(ids))

    def _run(
        self,
        source: str,
        seeds: torch.Tensor,
        masks: Masks,
        names: Sequence[str],
        *,
        rows: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return what arrives at layers, as `_arrived` keeps it: (row, *shape) by layer."""
        mixed = mixed_refs(self.run, {name: self.concepts[name] for name in names})
        each = torch.arange(len(seeds)) if rows is None else torch.zeros(rows, dtype=torch.long)
        passed = relevance_pass(
            self.run,
            self.refs[source],
            seeds,
            rows=each.to(seeds.device),
            masks=masks,
            record=[self.refs[name] for name in names if name not in mixed],
            coefficients=list(mixed.values()),
            exclude_parallel=False,
            to_input=False,
            resumed=source != self.start.stages[0][0],
        )
        arrived = {**passed.recorded, **passed.coefficients}
        return {name: arrived[self.refs[name]] for name in names}

    def _seeds(self, layer: str, ids: Sequence[int]) -> torch.Tensor:
        """Return the relevance that reaches each of some concepts, or all that a target starts with: (row, *shape)."""
        if layer not in self.concepts:
            return self._arrived[layer]
        masks, arrived = self._masks(layer, ids), self._arrived[layer]
        if isinstance(masks, RowSplit):
            ref, starts = self.refs[layer], layer == self.start.stages[0][0]
            run = self.run.cut_at(ref) if starts else self.run
            return masks(arrived.expand(len(ids), *arrived.shape[1:])) * run.activation(ref)
        return arrived * masks

    def _masks(self, layer: str, ids: Sequence[int]) -> torch.Tensor | RowSplit:
        """Return the masks of some concepts, (row, *shape), each axis of its own size or 1; or their splits."""
        concept = self.concepts[layer]
        if isinstance(concept, MixedConcept):
            starts = layer == self.start.stages[0][0]
            self._check_start(concept, layer, ids if starts else ())
            return row_split(self.run, layer, concept, [[[number]] for number in ids], starts=starts)
        masks = [concept_mask(self.run, layer, [number], concept.mask) for number in ids]
        return stacked_masks(self.run, self.refs[layer], masks)

    def _check_start(self, concept: MixedConcept, layer: str, ids: Sequence[int]) -> None:
        shape = self.run.graph.sample_shape(self.refs[layer])
        count = concept.count(shape[concept.channels(len(shape) + 1, layer) - 1], layer_name=layer)
        if any(number >= count for number in ids):
            raise ConditionError(f"a graph starts at one of the {count} directions of {layer!r}, not at mean or rest")

    def _reached(self, layer: str, arrived: torch.Tensor) -> torch.Tensor:
        """Return which concepts anything arrived at, (row, sample, concept)."""
        if isinstance(self.concepts[layer], MixedConcept):
            return self._by_concept(layer, arrived) != 0
        return self._by_concept(layer, arrived.abs()) != 0

    def _by_concept(self, layer: str, relevance: torch.Tensor) -> torch.Tensor:
        """Return what arrived by concept, in double precision: (row, sample, concept)."""
        concept = self.concepts[layer]
        if isinstance(concept, MixedConcept):
            shares = concept_relevance(self.run, layer, concept, relevance)
            by_concept = concept.attribute(shares.flatten(0, 1), abs_norm=False)
            return by_concept.detach().cpu().double().reshape(*shares.shape[:2], -1)
        rows = torch.cat([per_sample(self.run.graph, row) for row in relevance])
        by_concept = concept.attribute(rows, abs_norm=False).detach().cpu().double()
        return by_concept.reshape(len(relevance), self.run.graph.batch, -1)


def concepts_of(run: Run, names: Sequence[str], concepts: Concepts) -> dict[str, Concept]:
    """Return the concept of each layer of a graph; of the model output always a class."""
    if isinstance(concepts, Mapping):
        for name in concepts:
            if name not in names:
                raise UnknownLayerError(name, names, f"concepts= names {name!r}, which is no layer of this graph")
        concepts = {name: concept for name, concept in concepts.items() if name != OUTPUT}
    if OUTPUT in names:
        check_class_output(run)
    return layer_concepts(run, names, concepts)
