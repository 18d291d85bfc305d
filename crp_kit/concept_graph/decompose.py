"""Decomposition of a root into concepts, level by level: those that get most of the relevance of the ones above."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any, Literal, get_args

import torch
from tqdm import tqdm

from ..attribution.layer_concepts import layer_concepts
from ..attribution.layer_values import find_layer, per_sample
from ..attribution.predicted_class import predicted_class
from ..checks import is_integer
from ..concepts import Concept, MixedConcept
from ..conditions import OUTPUT
from ..errors import ConditionError, UnreachableLayerError
from ..propagation.run import Run
from .layers import LayerGraph
from .parts import ConceptEdge, ConceptNode, Key, Start
from .shares import Concepts, Flows, Samples

__all__ = ["Asked", "Decomposition", "Rank", "decompose"]

Rank = Literal["absolute", "signed"]


@dataclass(frozen=True)
class Asked:
    """Settings of a decomposition: the root, the layers, and which concepts are kept.

    Raises
    ------
    ConditionError
        If one of the choices has no meaning.
    """

    start: Start | None
    layers: Any
    width: tuple[int, ...]
    min_share: float
    rank: Rank
    concepts: Concepts
    exclude_parallel: bool
    verbose: bool

    def __post_init__(self) -> None:
        if not self.width or not all(is_integer(width, 1) for width in self.width):
            raise ConditionError(
                f"width is the number of children at each level, such as (5, 3), each at least 1; got {self.width!r}"
            )
        if not isinstance(self.min_share, (int, float)) or not self.min_share >= 0:
            raise ConditionError(f"min_share is a share of at least 0; got {self.min_share!r}")
        if self.rank not in get_args(Rank):
            raise ConditionError(f"rank is 'absolute' or 'signed'; got {self.rank!r}")


@dataclass(frozen=True)
class Decomposition:
    """Nodes by depth and then by rank, the root first; edges by source, strongest first; layers in execution order."""

    start: Start
    layers: tuple[str, ...]
    nodes: tuple[ConceptNode, ...]
    edges: tuple[ConceptEdge, ...]
    samples: int


def decompose(samples: Samples, asked: Asked) -> Decomposition:
    """Return the concept graph of one sample, or the mean one of several.

    Raises
    ------
    ConditionError
        If the start has no meaning, or nothing arrives there.
    """
    run = samples.first()
    start = asked.start or Start(((OUTPUT, _predicted(run, samples.count)),))
    start = replace(start, stages=tuple((name, _number(run, name, one, asked.concepts)) for name, one in start.stages))
    for (above, _), (name, _) in pairwise(start.stages):
        if find_layer(run, name) not in run.plan.flow.from_start(find_layer(run, above)):
            raise UnreachableLayerError(
                f"no relevance of a class arrives at {name!r}: it lies beside the model output, or inside a gate"
            )
    layers = LayerGraph(run, samples.attribution.model, start.root[0], asked.layers)
    task = _Task(samples, asked, start, layers)
    task.run()
    return task.result()


def _number(run: Run, layer: str, concept: Any, concepts: Concepts) -> int:
    """Return the number of a concept, which directions may have by name."""
    if not isinstance(concept, str):
        return int(concept)
    own = layer_concepts(run, [layer], concepts)[layer]
    if not isinstance(own, MixedConcept):
        raise ConditionError(f"a {own.noun} of {layer!r} is a whole number; got {concept!r}")
    shape = per_sample(run.graph, run.recording.value(find_layer(run, layer))).shape[1:]
    return own.numbers([concept], shape, layer_name=layer)[0]


def _predicted(run: Run, samples: int) -> int:
    if samples > 1:
        raise ConditionError(f"which class do the {samples} samples have in common? say start={{'y': [class]}}")
    return predicted_class(run, otherwise="say what to start from, such as start={'y': [class]}")


@dataclass
class _Task:
    """The decomposition while it is made."""

    samples: Samples
    asked: Asked
    start: Start
    layers: LayerGraph
    depths: dict[Key, int] = field(default_factory=dict)
    edges: list[ConceptEdge] = field(default_factory=list)
    left: dict[Key, tuple[float, float]] = field(default_factory=dict)
    """Share of a concept's relevance that its children do not get, and the part of it that other concepts get."""
    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    """Relevance that reaches each concept from the start, by layer: (sample, concept)."""
    concepts: dict[str, Concept] = field(default_factory=dict)
    """What a concept is, by layer."""
    kept: list[Flows] = field(default_factory=list)

    def run(self) -> None:
        """Decompose level by level; a concept that is reached again is not decomposed again."""
        self.depths[self.start.root] = 0
        level = [self.start.root]
        for depth, width in enumerate(tqdm(self.asked.width, unit="level", disable=not self.asked.verbose)):
            level = [key for key in level if self.layers.children[key[0]]]
            next_level: list[Key] = []
            for key, below in self._redistributed(level).items() if level else ():
                children = self._decomposed(key, below, width)
                next_level += [child for child in children if child not in self.depths]
                self.depths |= {child: depth + 1 for child in next_level if child not in self.depths}
            level = next_level

    def _redistributed(self, level: Sequence[Key]) -> dict[Key, dict[str, torch.Tensor]]:
        """Return the relevance of each concept of a level at the concepts of the layers below: (sample, concept)."""
        by_layer: dict[str, list[int]] = {}
        for layer, concept in level:
            by_layer.setdefault(layer, []).append(concept)
        totals: list[dict[str, torch.Tensor]] = []
        parts: dict[Key, list[dict[str, torch.Tensor]]] = {key: [] for key in level}
        for flows in self._flows():
            totals.append({name: flows.totals(name) for name in self.layers.within(len(self.asked.width))})
            for layer, ids in by_layer.items():
                relevance = flows.redistributed(layer, ids)
                for row, concept in enumerate(ids):
                    parts[layer, concept].append({name: rows[row] for name, rows in relevance.items()})
        self.totals = _concatenated(totals)
        return {key: _concatenated(slices) for key, slices in parts.items()}

    def _flows(self) -> Iterator[Flows]:
        """Yield the relevance passes of each slice of the samples; those of a single slice are kept."""
        if self.kept:
            yield from self.kept
            return
        for run in self.samples.runs():
            flows = Flows(
                run,
                self.start,
                self.layers,
                concepts=self.asked.concepts,
                exclude_parallel=self.asked.exclude_parallel,
                batch_size=self.samples.batch_size,
            )
            flows.arrive(self.layers.within(len(self.asked.width)))
            self.concepts = dict(flows.concepts)
            if self.samples.count <= self.samples.batch_size:
                self.kept.append(flows)
            yield flows

    def _decomposed(self, key: Key, below: Mapping[str, torch.Tensor], width: int) -> list[Key]:
        """Add the edges of one concept, and return the children that are kept."""
        layer, concept = key
        whole = self.totals[layer][:, concept]
        carrying = whole != 0
        if not bool(carrying.any()):
            if key == self.start.root:
                raise ConditionError(f"no relevance starts at {self.start}: it is zero there, so it has no shares")
            return []
        relevance = torch.cat([below[name] for name in self.layers.children[layer]], 1)
        keys = [(name, child) for name in self.layers.children[layer] for child in range(below[name].shape[1])]
        shares = relevance[carrying] / whole[carrying, None]
        kept = self._best(shares.mean(0), float(whole.mean()), width)
        std = shares.std(0) if len(shares) > 1 else None
        for column in kept:
            self.edges.append(
                ConceptEdge(
                    key,
                    keys[column],
                    float(relevance[:, column].mean()),
                    float(shares[:, column].mean()),
                    None if std is None else float(std[column]),
                    int(carrying.sum()),
                )
            )
        explained = float(shares.mean(0)[kept].sum())
        self.left[key] = 1 - explained, float(shares.sum(1).mean()) - explained
        return [keys[column] for column in kept]

    def _best(self, shares: torch.Tensor, whole: float, width: int) -> list[int]:
        """Return the indices of the concepts to keep, best first."""
        score = shares.abs() if self.asked.rank == "absolute" else shares * (-1 if whole < 0 else 1)
        order, sizes = score.argsort(descending=True, stable=True).tolist(), shares.abs().tolist()
        large = (index for index in order if sizes[index] and sizes[index] >= self.asked.min_share)
        return list(islice(large, width))

    def result(self) -> Decomposition:
        """Return the decomposition."""
        nodes = tuple(self._node(key, depth) for key, depth in self.depths.items())
        present = {node.layer for node in nodes}
        layers = [name for name in self.layers.refs if name in present]
        ordered = sorted(layers, key=self.layers.refs.__getitem__)
        return Decomposition(self.start, tuple(ordered), nodes, tuple(self.edges), self.samples.count)

    def _node(self, key: Key, depth: int) -> ConceptNode:
        (layer, concept), (root, first) = key, self.start.root
        relevance, start = self.totals[layer][:, concept], self.totals[root][:, first]
        shares = relevance[start != 0] / start[start != 0]
        unexplained, others = self.left.get(key, (None, None))
        kind, title = self._words(layer, concept)
        return ConceptNode(
            layer,
            concept,
            depth,
            float(relevance.mean()),
            float(shares.mean()),
            unexplained,
            others,
            share_std=float(shares.std()) if len(shares) > 1 else None,
            n=int((relevance != 0).sum()),
            kind=kind,
            title=title,
        )

    def _words(self, layer: str, concept: int) -> tuple[str, str]:
        """Return the noun of a concept, and what stands for noun and number if it has a name."""
        if layer == OUTPUT:
            return ("class", "") if self.start.target is None else ("target", str(self.start.target))
        kind = self.concepts[layer]
        return kind.noun, kind.title(concept, self.totals[layer].shape[1])


def _concatenated(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the values of all slices of the samples, by layer: (sample, ...)."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
