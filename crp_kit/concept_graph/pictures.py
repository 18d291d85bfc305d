"""Pictures for the nodes of a concept graph: reference samples, and heatmaps of the sample that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..conditions import OUTPUT
from ..errors import InputError
from .decompose import Decomposition
from .parts import Key, Start
from .shares import Concepts, Samples

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas

__all__ = ["heatmap_pictures", "reference_pictures"]


def reference_pictures(
    found: Decomposition, atlas: ConceptAtlas, dataset: Any, *, asked: Mapping[str, Any]
) -> dict[Key, tuple[torch.Tensor, ...]]:
    """Return the references of each concept whose layer an atlas has: (channel, height, width), best first.

    Parameters
    ----------
    found : Decomposition
    atlas : ConceptAtlas
    dataset : map-style dataset
    asked : dict
        Options of `ConceptAtlas.references`.

    Raises
    ------
    InputError
        If there is no dataset or no attribution, or the atlas has none of the layers.
    """
    if dataset is None:
        raise InputError("the reference samples of an atlas are in its dataset: give dataset= too")
    if asked["attribution"] is None:
        raise InputError("a graph that was read from a file knows no model: give attribution= and composite= too")
    keys = [node.key for node in found.nodes if node.layer in atlas.layers]
    if not keys:
        raise InputError(f"{atlas.path} has none of the layers {', '.join(found.layers)}; it has {', '.join(atlas)}")
    pictures: dict[Key, tuple[torch.Tensor, ...]] = {}
    for place, (layer, concept) in enumerate(keys):
        several = atlas.references(dataset, layer, concept, check=place == 0, **asked)
        pictures[layer, concept] = several.crops() if asked["receptive_field"] else several.images
    return pictures


def heatmap_pictures(found: Decomposition, source: Samples | None, concepts: Concepts) -> dict[Key, torch.Tensor]:
    """Return the heatmap of each node, under the condition of its edges: (height, width).

    Raises
    ------
    InputError
        If the sample is not known, or there are many, or they are no images.
    """
    if source is None:
        raise InputError("a graph that was read from a file knows no sample, so it has no heatmaps to show")
    if source.count != 1:
        raise InputError(f"heatmaps show one sample, and this graph is about {source.count}")
    above = found.start.stages[0][0]
    conditions = [_condition(found.start, node.key) for node in found.nodes]
    attr = source.attribution(
        source.data,
        conditions,
        source.composite,
        mask_map=dict(concepts) if isinstance(concepts, Mapping) else concepts,
        start_layer=None if above == OUTPUT else above,
        pairing="product",
        batch_size=source.batch_size,
        on_device="cpu",
    )
    if attr.heatmap.ndim != 3:
        raise InputError(f"the input has no heatmap (height, width), but one of {tuple(attr.heatmap.shape[1:])}")
    return {node.key: row.detach() for node, row in zip(found.nodes, attr.heatmap, strict=True)}


def _condition(start: Start, key: Key) -> dict[str, list[int]]:
    layer, concept = key
    return {**start.condition(), layer: [concept]}
