"""Data of the pages of concept graphs: through which concepts of the layers a class gets its relevance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...concept_graph.gathering import LEAST, Shown, left_over, shown_part
from .context import ReportContext
from .facts import json_number
from .mean_graphs import mean_graph

if TYPE_CHECKING:
    from ...concept_graph import ConceptGraph, ConceptNode

__all__ = ["graph_data"]

_SAMPLES = 4
"""Of each class, at most."""
_CHILDREN = (4, 2, 1, 1)
"""Concepts of each layer below a concept, from the class downwards: eight at most in a column."""
_LANE = 0.3
"""Height of an edge that passes a column, in heights of boxes."""


def graph_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield the concept graph of each of the largest classes."""
    for cls in _largest(report):
        report.end_if_interrupted()
        samples = _samples(report, cls)
        graph = _graph(report, cls, samples)
        if graph is not None and graph.edges:
            report.graphs.append(cls)
            yield f"graph-{cls}", _drawn(report, graph, samples)


def _graph(report: ReportContext, cls: int, samples: Sequence[int]) -> ConceptGraph | None:
    """Return the mean graph of a class, as many samples at once as memory allows; None where no relevance starts."""
    layers, source = _layers(list(report.chosen)), report.source
    at_once = source.reference_maps(layers[0]).run(source.inputs(layers[0], samples[:1])).samples_at_once
    batch_size = min(source.batch_size, at_once)
    return mean_graph(source, samples, cls=cls, layers=layers, width=_CHILDREN[: len(layers)], batch_size=batch_size)


def _largest(report: ReportContext) -> list[int]:
    """Return the classes that the most samples have."""
    if not report.atlas.has_classes:
        return []
    classes, counts = report.class_counts
    largest: list[int] = classes[np.argsort(-counts, kind="stable")][: report.most_graphs].tolist()
    return largest


def _samples(report: ReportContext, cls: int) -> list[int]:
    """Return samples of a class, those that other pages show first, and note that its graph shows them."""
    shown, others = report.samples_of(cls)
    images = report.source.of_first_shape([*shown, *others][:_SAMPLES])
    report.show(images)
    return images


def _layers(names: Sequence[str]) -> list[str]:
    """Return some of the layers of a report, evenly apart, the lowest and the highest among them."""
    indices = np.linspace(0, len(names) - 1, min(len(names), len(_CHILDREN))).round().astype(int)
    return [names[index] for index in indices]


def _drawn(report: ReportContext, graph: ConceptGraph, samples: Sequence[int]) -> dict[str, Any]:
    """Return a graph as data: its columns of layers, boxes with their places, edges between these, and samples."""
    from ..plot.columns import arrange  # imports matplotlib

    shown = shown_part(graph.nodes, graph.edges, LEAST)
    known = {node.layer for node in shown.nodes}
    layers = [layer for layer in reversed(graph.layers) if layer in known]
    keys = [node.key for node in shown.nodes]
    columns = [[key for key in keys if key[0] == layer] for layer in layers]
    ends = [(edge.source, edge.target) for edge in shown.edges]
    placed = arrange(columns, ends, dict.fromkeys(keys, 1.0), lane=_LANE)
    numbers = {layer: number for number, layer in enumerate(report.chosen)}
    return {
        "samples": list(samples),
        "columns": [numbers.get(layer, -1) for layer in layers],
        "height": placed.total,
        "boxes": [
            [layers.index(node.layer), placed.total / 2 - placed.heights[node.key], *_numbers(node, shown)]
            for node in shown.nodes
        ],
        "edges": [
            [
                keys.index(edge.source),
                keys.index(edge.target),
                json_number(edge.share),
                edge.relevance > 0,
                [placed.total / 2 - height for height in placed.lanes.get((edge.source, edge.target), ())],
            ]
            for edge in shown.edges
        ],
    }


def _numbers(node: ConceptNode, shown: Shown) -> list[Any]:
    """Return a concept's number, its share of all relevance, and what other concepts get and biases absorb of it."""
    left = (None, None) if node.unexplained is None else left_over(node, shown.at(node.key))
    return [node.concept, json_number(node.share), *(None if value is None else json_number(value) for value in left)]
