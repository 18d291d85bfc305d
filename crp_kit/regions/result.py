"""The region map as a result: which concept dominates where, and how it shows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..drawing import plots, png_of
from ..errors import InputError
from ..rules.presets import Composite
from .segments import Integers

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..attribution.cond_attribution import CondAttribution
    from ..drawing import Figure

__all__ = ["NONE", "Floats", "RegionMap"]

Floats = npt.NDArray[np.float64]

ReferencePicture = tuple[torch.Tensor, torch.Tensor | None]
"""An image, (channel, height, width), and its conditional heatmap, (height, width), or None."""

NONE = -1
"""Stands for no concept."""
_LISTED = 10


@dataclass(frozen=True, eq=False, repr=False)
class RegionMap:
    """Which concept of a layer is the most relevant one in each region of an image, a signal or a volume.

    Parameters
    ----------
    labels : array
        Region of each pixel, numbered from 0: (height, width); (time,) of a signal, (depth, height, width) of a volume.
    dominant : array
        Concept with the highest relevance in each region, -1 where none has any: (region,).
    relevance : array
        Its relevance there, summed over the region's pixels, 0 where none has any: (region,).
    concepts : tuple of int
        The concepts that dominate somewhere, by the size of the area, largest first.
    areas : array
        Share of the image's pixels that each of them dominates, in [0, 1]: (concept,).
    shares : array
        Share of each of them in the relevance of the layer, of either sign; the magnitudes over all concepts of the
        layer sum to 1: (concept,).
    layer : str
    target : int
        The class whose relevance it is.
    signed : bool
        Whether relevance against the class counts as much as relevance for it.
    image : torch.Tensor
        What is drawn below, values in [0, 1]: (channel, height, width) or (1, depth, height, width); a signal as it is,
        (channel, time).
    composite : zennit Composite, str or None
        Rules of the heatmaps.
    """

    labels: Integers
    dominant: Integers
    relevance: Floats
    concepts: tuple[int, ...]
    areas: Floats
    shares: Floats
    layer: str
    target: int
    signed: bool
    image: torch.Tensor
    composite: Composite | str | None = None

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.dominant)

    @property
    def concept_map(self) -> Integers:
        """The dominant concept at each pixel, -1 for none: the shape of `labels`."""
        return self.dominant[self.labels]

    @property
    def noun(self) -> str:
        """What the map is of: ``"signal"``, ``"image"`` or ``"volume"``."""
        return ("signal", "image", "volume")[self.labels.ndim - 1]

    def concept_at(self, *place: int) -> int | None:
        """Return the dominant concept at a pixel ``(y, x)``, or ``None`` where there is none.

        Of a signal the place is a time step, of a volume ``(depth, y, x)``.

        Raises
        ------
        InputError
            If the pixel lies outside of the image.
        """
        shape = self.labels.shape
        if len(place) != len(shape) or not all(0 <= one < size for one, size in zip(place, shape, strict=True)):
            size = "x".join(map(str, shape))
            raise InputError(f"pixel {place} lies outside of the {self.noun} of {size} pixels")
        found = int(self.dominant[self.labels[place]])
        return None if found == NONE else found

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the arrays over pixels, ready for JSON."""
        return {
            "layer": self.layer,
            "target": self.target,
            "signed": self.signed,
            "regions": len(self),
            "concepts": [
                {
                    "concept": concept,
                    "area": area,
                    "share": share,
                    "regions": int((self.dominant == concept).sum()),
                    "relevance": float(self.relevance[self.dominant == concept].sum()),
                }
                for concept, area, share in zip(self.concepts, self.areas.tolist(), self.shares.tolist(), strict=True)
            ],
            "none": float((self.concept_map == NONE).mean()),
        }

    def plot(
        self,
        image: Any = None,
        *,
        atlas: ConceptAtlas | None = None,
        dataset: Any = None,
        preprocess: Any = None,
        attribution: CondAttribution | None = None,
        most: int = 9,
        k: int = 4,
        depth: int | None = None,
    ) -> Figure:
        """Return a matplotlib Figure: the image, its regions in the colours of their concepts, and what these are.

        Parameters
        ----------
        image : PIL image, torch.Tensor or array, optional
            What to draw instead of `image`, of the same height and width; see `crp_kit.views.image.picture`.
        atlas : ConceptAtlas, optional
            Show, beside each concept, samples in which it is most relevant.
        dataset : map-style dataset, optional
            The one that the atlas was made from.
        preprocess : callable or Preprocess, optional
            As in `crp_kit.build_atlas`.
        attribution : CondAttribution, optional
            Of the model that the atlas was made from: reference samples are then dark where the concept has little
            relevance, instead of shown as they are.
        most : int, optional
            Concepts that get a colour of their own, at most 9; the others are grey.
        k : int, optional
            Reference samples of each concept.
        depth : int, optional
            Which slice of a volume; by default the one with the most relevance per voxel.

        Raises
        ------
        InputError
            If the image has another size, a number is out of range, or an atlas comes without its dataset.
        AtlasError
            If the atlas was not made from this dataset or model.
        UnknownLayerError
            If it has not this layer.
        """
        if (atlas is None) != (dataset is None):
            raise InputError("reference samples need both: the atlas, and the dataset that it was made from")
        if atlas is not None and self.labels.ndim != 2:
            raise InputError(f"samples stand beside maps of images; of a {self.noun} see ConceptAtlas.references")
        found: Mapping[int, Sequence[ReferencePicture]] = {}
        if atlas is not None:
            found = self.references(atlas, dataset, preprocess=preprocess, attribution=attribution, most=most, k=k)
        figure: Figure = plots().regions(self, most=most, depth=depth, image=image, references=found)
        return figure

    def references(
        self,
        atlas: ConceptAtlas,
        dataset: Any,
        *,
        preprocess: Any = None,
        attribution: CondAttribution | None = None,
        most: int = 9,
        k: int = 4,
    ) -> dict[int, Sequence[ReferencePicture]]:
        """Return, by concept, the samples in which it is most relevant; parameters as in `plot`.

        Raises
        ------
        AtlasError, UnknownLayerError
            As in `plot`.
        """
        k = min(k, atlas.header.k)
        if attribution is None:
            return self._plain_references(atlas, dataset, preprocess, self.concepts[:most], k=k)
        asked: dict[str, Any] = {"attribution": attribution, "composite": self.composite, "preprocess": preprocess}
        found: dict[int, Sequence[ReferencePicture]] = {}
        for concept in self.concepts[:most]:
            several = atlas.references(dataset, self.layer, concept, check=not found, k=k, **asked)
            found[concept] = list(zip(several.images, several.heatmaps, strict=True))
        return found

    def _plain_references(
        self, atlas: ConceptAtlas, dataset: Any, preprocess: Any, concepts: Sequence[int], *, k: int
    ) -> dict[int, Sequence[ReferencePicture]]:
        """Return samples as they are."""
        from ..atlas.query.reference_maps import reference_image
        from ..data.preprocess import preprocessing
        from ..data.samples import NumberedSamples, fingerprint

        scores = atlas[self.layer].relevance
        samples = NumberedSamples(dataset, preprocessing(preprocess)[0])
        atlas.check_belongs(dataset_sha256=fingerprint(samples) if atlas.header.dataset_sha256 else None)
        numbers = {concept: scores.top(concept, k).sample.tolist() for concept in concepts}
        return {
            concept: [(reference_image(samples, one), None) for one in several] for concept, several in numbers.items()
        }

    def _repr_png_(self) -> bytes:
        """Show the map in a notebook."""
        return png_of(self.plot())

    def __repr__(self) -> str:
        kind = "largest magnitude of relevance" if self.signed else "highest relevance"
        lines = [
            f"RegionMap of {self.layer!r} for class {self.target}: {len(self)} regions, {kind} in each",
            *(
                f"  concept {concept:>4}: {area:6.1%} of the {self.noun}, {share:+6.1%} of the layer's relevance"
                for concept, area, share in zip(self.concepts, self.areas, self.shares, strict=True)
            ),
        ]
        left = len(lines) - 1 - _LISTED
        if left > 0:
            lines[_LISTED + 1 :] = [f"  and {left} more concepts"]
        empty = float((self.concept_map == NONE).mean())
        return "\n".join([*lines, *[f"  no concept:   {empty:6.1%} of the {self.noun}"] * bool(empty)])
