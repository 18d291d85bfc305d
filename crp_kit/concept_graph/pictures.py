"""Pictures for the nodes of a concept graph: reference samples, and heatmaps of the sample that it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from ..atlas.query.references import References, find_references
from ..conditions import OUTPUT
from ..errors import InputError
from .parts import Key
from .result import ConceptGraph

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..attribution.subject import Subject

__all__ = ["Picture", "graph_references", "node_heatmaps"]

Picture: TypeAlias = tuple[torch.Tensor, torch.Tensor | None]
"""An image, (channel, height, width), and its conditional heatmap, (height, width), or None."""


def graph_references(
    subject: Subject, graph: ConceptGraph, atlas: ConceptAtlas, *, k: int, receptive_field: bool
) -> dict[Key, tuple[Picture, ...]]:
    """Return the references of each concept whose layer an atlas has, best first, each with its conditional heatmap.

    Raises
    ------
    InputError
        If the atlas has none of the layers.
    """
    keys = [node.key for node in graph.nodes if node.layer in atlas.layers]
    if not keys:
        raise InputError(f"{atlas.path} has none of the layers {', '.join(graph.layers)}; it has {', '.join(atlas)}")
    pictures: dict[Key, tuple[Picture, ...]] = {}
    for layer, concept in keys:
        references = find_references(
            subject, atlas[layer], concept, k=k, receptive_field=receptive_field, check=not pictures
        )
        images = references.crops() if receptive_field else references.images
        pictures[layer, concept] = tuple(
            (image, heatmap if image.shape[1:] == heatmap.shape else None)
            for image, heatmap in zip(images, _heatmaps(references), strict=True)
        )
    return pictures


def _heatmaps(references: References) -> list[torch.Tensor]:
    """Return the heatmaps of references: of receptive fields, if there are any, the part inside."""
    if references.boxes is None:
        return list(references.heatmaps)
    boxes = zip(references.heatmaps, references.boxes, strict=True)
    return [heatmap[top:bottom, left:right] for heatmap, (top, left, bottom, right) in boxes]


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
