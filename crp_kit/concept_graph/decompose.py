"""The decomposition: from the root down, level by level, the concepts that matter most to those above."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Literal, get_args

import torch
from tqdm import tqdm

from ..attribution.layer_values import find_layer
from ..attribution.predicted_class import predicted_class
from ..checks import is_integer
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
    """What to decompose, and what to keep.

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
    for (above, _), (name, _) in pairwise(start.stages):
        if find_layer(run, name) not in run.plan.flow.from_start(find_layer(run, above)):
            raise UnreachableLayerError(
                f"no relevance of a class arrives at {name!r}: it lies beside the model output, or inside a gate"
            )
    layers = LayerGraph(run, samples.attribution.model, start.root[0], asked.layers)
    task = _Task(samples, asked, start, layers)
    task.run()
    return task.result()


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
    """What is not explained of a concept, and what of this goes to other concepts below."""
    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    """Relevance that reaches each concept from the start, by layer: (sample, concept)."""
    nouns: dict[str, str] = field(default_factory=dict)
    """The noun of a concept, by layer."""
    kept: list[Flows] = field(default_factory=list)

    def run(self) -> None:
        """Decompose level by level; a concept that is met again is not decomposed again."""
        self.depths[self.start.root] = 0
        level = [self.start.root]
        for depth, width in enumerate(tqdm(self.asked.width, unit="level", disable=not self.asked.verbose)):
            level = [key for key in level if self.layers.children[key[0]]]
            found: list[Key] = []
            for key, below in self._handed_on(level).items() if level else ():
                children = self._decomposed(key, below, width)
                found += [child for child in children if child not in self.depths]
                self.depths |= {child: depth + 1 for child in found if child not in self.depths}
            level = found

    def _handed_on(self, level: Sequence[Key]) -> dict[Key, dict[str, torch.Tensor]]:
        """Return for each concept of a level what reaches the concepts of the layers below: (sample, concept)."""
        by_layer: dict[str, list[int]] = {}
        for layer, concept in level:
            by_layer.setdefault(layer, []).append(concept)
        totals: list[dict[str, torch.Tensor]] = []
        parts: dict[Key, list[dict[str, torch.Tensor]]] = {key: [] for key in level}
        for flows in self._flows():
            totals.append({name: flows.totals(name) for name in self.layers.within(len(self.asked.width))})
            for layer, ids in by_layer.items():
                found = flows.handed_on(layer, ids)
                for row, concept in enumerate(ids):
                    parts[layer, concept].append({name: several[row] for name, several in found.items()})
        self.totals = _joined(totals)
        return {key: _joined(several) for key, several in parts.items()}

    def _flows(self) -> Iterator[Flows]:
        """Yield the relevance passes of each slice of the samples; those of a single one are kept."""
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
            self.nouns = {OUTPUT: "class"} | {name: one.noun for name, one in flows.concepts.items() if name != OUTPUT}
            if self.samples.count <= self.samples.batch_size:
                self.kept.append(flows)
            yield flows

    def _decomposed(self, key: Key, below: Mapping[str, torch.Tensor], width: int) -> list[Key]:
        """Note what a concept is made of, and return the concepts that are kept of it."""
        layer, concept = key
        whole = self.totals[layer][:, concept]
        carrying = whole != 0
        if not bool(carrying.any()):
            if key == self.start.root:
                raise ConditionError(f"no relevance starts at {self.start}: it is zero there, so it has no shares")
            return []
        relevance = torch.cat([below[name] for name in self.layers.children[layer]], 1)
        keys = [(name, one) for name in self.layers.children[layer] for one in range(below[name].shape[1])]
        shares = relevance[carrying] / whole[carrying, None]
        kept = self._best(shares.mean(0), float(whole.mean()), width)
        std = shares.std(0) if len(shares) > 1 else None
        for place in kept:
            self.edges.append(
                ConceptEdge(
                    key,
                    keys[place],
                    float(relevance[:, place].mean()),
                    float(shares[:, place].mean()),
                    None if std is None else float(std[place]),
                    int(carrying.sum()),
                )
            )
        explained = float(shares.mean(0)[kept].sum())
        self.left[key] = 1 - explained, float(shares.sum(1).mean()) - explained
        return [keys[place] for place in kept]

    def _best(self, shares: torch.Tensor, whole: float, width: int) -> list[int]:
        """Return the places of the concepts to keep, best first."""
        score = shares.abs() if self.asked.rank == "absolute" else shares * (-1 if whole < 0 else 1)
        order, sizes = score.argsort(descending=True, stable=True).tolist(), shares.abs().tolist()
        large = (place for place in order if sizes[place] and sizes[place] >= self.asked.min_share)
        return list(islice(large, width))

    def result(self) -> Decomposition:
        """Return what was found."""
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
            kind=self.nouns[layer],
        )


def _joined(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the values of all slices of the samples, by layer: (sample, ...)."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

