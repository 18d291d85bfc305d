"""Pictures for the nodes of a concept graph: reference samples, and heatmaps of the sample that it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..atlas.query.references import find_references
from ..conditions import OUTPUT
from ..errors import InputError
from .parts import Key
from .result import ConceptGraph

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..attribution.subject import Subject

__all__ = ["graph_references", "node_heatmaps"]


def graph_references(
    subject: Subject, graph: ConceptGraph, atlas: ConceptAtlas, *, k: int, receptive_field: bool
) -> dict[Key, tuple[torch.Tensor, ...]]:
    """Return the references of each concept whose layer an atlas has: (channel, height, width), best first.

    Raises
    ------
    InputError
        If the atlas has none of the layers.
    """
    keys = [node.key for node in graph.nodes if node.layer in atlas.layers]
    if not keys:
        raise InputError(f"{atlas.path} has none of the layers {', '.join(graph.layers)}; it has {', '.join(atlas)}")
    pictures: dict[Key, tuple[torch.Tensor, ...]] = {}
    for layer, concept in keys:
        references = find_references(
            subject, atlas[layer], concept, k=k, receptive_field=receptive_field, check=not pictures
        )
        pictures[layer, concept] = references.crops() if receptive_field else references.images
    return pictures


def node_heatmaps(subject: Subject, graph: ConceptGraph, inputs: Any, *, batch_size: int) -> dict[Key, torch.Tensor]:
    """Return the heatmap of each node for one model input, under the condition of its edges: (height, width).

    Raises
    ------
    InputError
        If the graph is about several samples, or the input is no image.
    """
    if graph.samples != 1:
        raise InputError(f"heatmaps show one sample, and this graph is about {graph.samples}")
    above = next(iter(graph.start))
    attr = subject.attribution(
        inputs,
        [graph.start if node.title else {**graph.start, node.layer: [node.concept]} for node in graph.nodes],
        subject.composite,
        mask_map=subject.concepts,
        start_layer=None if OUTPUT in graph.start else above,
        pairing="product",
        batch_size=batch_size,
        on_device="cpu",
    )
    if attr.heatmap.ndim != 3:
        raise InputError(f"the input has no heatmap (height, width), but one of {tuple(attr.heatmap.shape[1:])}")
    return {node.key: row.detach() for node, row in zip(graph.nodes, attr.heatmap, strict=True)}
