"""Guide to the layers of a model: what a concept is at each, how deep it is, and a handful that show the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from torch import nn

from ..attribution.cond_attribution import CondAttribution
from ..attribution.layer_choice import suitable_layers
from ..attribution.layer_concepts import Concepts, layer_concepts
from ..graph.activations import activation_behind, is_activated
from ..graph.graph import Graph, Ref
from ..graph.operations import Kind
from ..propagation.run import Run
from ..result_table import Column, Table, column_named
from ..rules.presets import Composite

__all__ = ["LayerGuide", "layer_guide"]

_MOST = 5
"""Layers that are suggested."""


@dataclass(frozen=True, eq=False, repr=False)
class LayerGuide(Table):
    """The layers at which relevance can be recorded, in the order of execution.

    Parameters
    ----------
    name : numpy.ndarray
        Names that conditions and atlases use.
    type : numpy.ndarray
        Class of the module, or the operation.
    concept : numpy.ndarray
        What one concept is, such as a channel.
    concepts : numpy.ndarray
        How many.
    maps : numpy.ndarray
        Size of the map of one concept, such as 56x56; empty for one value.
    depth : numpy.ndarray
        Layers with weights on the longest path from the input to here, this one included.
    block_output : numpy.ndarray
        Whether a block of the model ends here, such as a residual block.
    activated : numpy.ndarray
        Whether values are those behind an activation function.
    all_paths : numpy.ndarray
        Whether every path of relevance to the input goes through here, so that a condition leaves nothing out.
    suggested : numpy.ndarray
        A handful that is enough for an atlas of the model.
    behind : numpy.ndarray
        The node behind the activation function that follows, if one does.
    signed : numpy.ndarray
        Whether values may be negative and no activation function follows.
    """

    name: Column
    type: Column
    concept: Column
    concepts: Column
    maps: Column
    depth: Column
    block_output: Column = field(metadata=column_named("block output"))
    activated: Column
    all_paths: Column = field(metadata=column_named("all paths"))
    suggested: Column
    behind: Column
    signed: Column

    @property
    def suggestion(self) -> tuple[str, ...]:
        """Names of the suggested layers, for ``build_atlas(layers=…)``."""
        return tuple(map(str, self.name[self.suggested]))


@dataclass(frozen=True)
class _Row:
    ref: Ref
    name: str
    concepts: int
    maps: tuple[int, ...]
    block: bool
    activated: bool
    is_activation: bool
    whole: bool


def layer_guide(
    attribution: CondAttribution, sample: Any, composite: Composite | None, concepts: Concepts = None
) -> LayerGuide:
    """Return the layers of a model with what helps to choose among them. No relevance is computed.

    Suggested are layers on all paths: outputs of blocks where the model has such, else values behind activations; the
    last one of each size of maps, or, where all have one size, a few evenly in depth.

    Parameters
    ----------
    attribution : CondAttribution
    sample : torch.Tensor, tuple or dict
        Model input; a batch of one is enough.
    composite : zennit Composite or None
    concepts : Concept or dict of str to Concept, optional
    """
    run = attribution.engine.run(sample, composite)
    graph = run.graph
    refs = {name: ref for name, ref in suitable_layers(run).items() if len(graph.sample_shape(ref))}
    by_layer = layer_concepts(run, refs, concepts)
    blocks, skipped = _block_outputs(graph, attribution.model), _skipped(run)
    rows = []
    for name, ref in refs.items():
        axis = run.channel_axes[ref]
        shape = tuple(graph.shape(ref))
        sizes = tuple(size for place, size in enumerate(shape) if place not in (0, axis))
        number = shape[axis] if axis is not None else 1
        own = graph.node(ref).kind is Kind.ACTIVATION
        activated, whole = is_activated(graph, ref), ref.node not in skipped
        rows.append(_Row(ref, name, number, sizes, ref.node in blocks, activated, own, whole))
    depth, behind = _depths(run), [_behind(graph, row) for row in rows]
    chosen = _suggested(rows, depth)
    return LayerGuide(
        name=np.array([row.name for row in rows]),
        type=np.array([_type(graph, row.ref) for row in rows]),
        concept=np.array([by_layer[row.name].noun for row in rows]),
        concepts=np.array([row.concepts for row in rows]),
        maps=np.array(["x".join(map(str, row.maps)) for row in rows]),
        depth=np.array([depth[row.ref.node] for row in rows]),
        block_output=np.array([row.block for row in rows]),
        activated=np.array([row.activated for row in rows]),
        all_paths=np.array([row.whole for row in rows]),
        suggested=np.array([row.name in chosen for row in rows]),
        behind=np.array(behind),
        signed=np.array([not row.activated and not name for row, name in zip(rows, behind, strict=True)]),
    )


def _type(graph: Graph, ref: Ref) -> str:
    node = graph.node(ref)
    return type(node.module).__name__ if node.module is not None else node.op


def _behind(graph: Graph, row: _Row) -> str:
    ref = None if row.activated else activation_behind(graph, row.ref)
    return "" if ref is None else graph.label(ref)


def _edges(run: Run) -> list[tuple[int, int]]:
    """Return (node, node that hands relevance to it) of all that relevance passes from the output to an input."""
    flow, graph = run.plan.flow, run.graph
    reached, to_input = flow.from_start(graph.output), flow.reaching_input
    return [
        (ref.node, node.index)
        for node in graph
        if any(Ref(node.index, number) in reached for number in range(len(node.shapes)))
        for ref in flow.carrying[node.index]
        if ref in to_input
    ]


def _skipped(run: Run) -> set[int]:
    """Return the nodes that some path of relevance goes past: an edge leads over them, in the order of execution."""
    furthest: dict[int, int] = {}
    for source, target in _edges(run):
        furthest[source] = max(furthest.get(source, 0), target)
    past, skipped = 0, set()
    for node in run.graph:
        if past > node.index:
            skipped.add(node.index)
        past = max(past, furthest.get(node.index, 0))
    return skipped


def _depths(run: Run) -> list[int]:
    """Return by node the number of layers with weights on the longest path from the input."""
    depths: list[int] = []
    for node in run.graph:
        before = max((depths[ref.node] for ref in run.plan.flow.carrying[node.index]), default=0)
        depths.append(before + (node.kind is Kind.LINEAR))
    return depths


def _block_outputs(graph: Graph, model: nn.Module) -> set[int]:
    """Return the nodes at which blocks end: the outermost modules with parts whose class occurs more than once."""
    kinds: dict[type, int] = {}
    parts = {name: module for name, module in model.named_modules() if name and any(True for _ in module.children())}
    for module in parts.values():
        kinds[type(module)] = kinds.get(type(module), 0) + 1
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    repeated = [
        name for name, module in parts.items() if kinds[type(module)] > 1 and not isinstance(module, containers)
    ]
    outer = [name for name in repeated if not any(name.startswith(f"{other}.") for other in repeated)]
    return {index for name in outer for index in _last_node(graph, name)}


def _last_node(graph: Graph, block: str) -> Iterable[int]:
    """Return the one node of a block that is read from outside of it, if there is one."""
    inside = {node.index for node in graph if node.owner == block or node.owner.startswith(f"{block}.")}
    read = {ref.node for node in graph if node.index not in inside for ref in node.inputs if ref.node in inside}
    return read if len(read) == 1 and len(inside) > 1 else ()


def _suggested(rows: Sequence[_Row], depths: Sequence[int]) -> set[str]:
    """Return the names of a handful of layers."""
    whole = [row for row in rows if row.whole and row.concepts > 1 and depths[row.ref.node]]
    blocks = [row for row in whole if row.block]
    pool = blocks if len(blocks) > 1 else [row for row in whole if row.is_activation]
    pool = pool or [row for row in rows if row.is_activation] or whole
    stages = [list(group) for _, group in groupby(pool, key=lambda row: (row.concepts, row.maps))]
    if len(stages) > 2:
        return {stage[-1].name for stage in stages[-_MOST:]}
    count = min(_MOST - 1, len(pool))
    return {pool[(number + 1) * len(pool) // count - 1].name for number in range(count)}
