"""Region maps as they are drawn: regions, their dominant concepts, and reference samples of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from ...region_map.result import RegionMap
from ..image import PERCENTILE

__all__ = ["ReferencePicture", "RegionView", "region_view"]

ReferencePicture: TypeAlias = tuple[Any, Any]
"""An image, (channel, height, width), and its conditional heatmap, (height, width), or None."""


@dataclass(frozen=True, eq=False)
class RegionView:
    """A region map, ready to be drawn; the other fields are those of `crp_kit.RegionMap`.

    Parameters
    ----------
    title : str
    references : dict
        By concept, samples of it: pairs of an image and its conditional heatmap, or None to show the image as it is.
    percentile : float
        Of the relevance per pixel, from which a region has its full colour.
    """

    title: str
    image: Any
    labels: npt.NDArray[Any]
    dominant: npt.NDArray[Any]
    relevance: npt.NDArray[Any]
    concepts: Sequence[int]
    areas: Sequence[float] | npt.NDArray[Any]
    shares: Sequence[float] | npt.NDArray[Any]
    references: Mapping[int, Sequence[ReferencePicture]] = field(default_factory=dict)
    percentile: float = PERCENTILE
    titles: Mapping[int, str] = field(default_factory=dict)

    def called(self, concept: int) -> str:
        """Return what titles call a concept."""
        return self.titles.get(concept) or f"concept {concept}"


def region_view(
    region_map: RegionMap,
    *,
    title: str | None = None,
    image: Any = None,
    references: Mapping[int, Sequence[ReferencePicture]] | None = None,
    percentile: float = PERCENTILE,
) -> RegionView:
    """Return a region map, ready to be drawn; parameters as in `crp_kit.views.plot.regions`."""
    return RegionView(
        title=f"{region_map.layer}: {region_map.class_name or region_map.start}" if title is None else title,
        image=region_map.image if image is None else image,
        labels=region_map.labels,
        dominant=region_map.dominant,
        relevance=region_map.relevance,
        concepts=region_map.concepts,
        areas=region_map.areas,
        shares=region_map.shares,
        references=references or {},
        percentile=percentile,
        titles=region_map.titles,
    )
