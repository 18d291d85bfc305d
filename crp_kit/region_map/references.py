"""Reference samples beside the concepts of a region map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..atlas.query.references import find_references
from ..errors import InputError
from .result import ReferencePicture, RegionMap

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..attribution.subject import Subject

__all__ = ["region_references"]


def region_references(
    subject: Subject, regions: RegionMap, atlas: ConceptAtlas, *, k: int, most: int
) -> dict[int, Sequence[ReferencePicture]]:
    """Return, by concept, the samples in which it is most relevant, each with its conditional heatmap.

    Raises
    ------
    InputError
        If the map is of no image.
    AtlasError, UnknownLayerError
        If the atlas was not made from this dataset or model, or has not this layer.
    """
    if regions.labels.ndim != 2:
        raise InputError(f"samples stand beside maps of images; of a {regions.noun} see Study.references")
    pictures: dict[int, Sequence[ReferencePicture]] = {}
    for concept in regions.concepts[:most]:
        references = find_references(
            subject, atlas[regions.layer], concept, k=min(k, atlas.header.k), check=not pictures
        )
        pictures[concept] = list(zip(references.images, references.heatmaps, strict=True))
    return pictures
