"""The region map as a result: which concept dominates where, and how it shows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..drawing import plots, png_of
from ..errors import InputError
from ..result_table import Framed
from ..tables import shape_text
from .segments import Integers

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["NONE", "Floats", "RegionMap"]

Floats = npt.NDArray[np.float64]

ReferencePicture = tuple[torch.Tensor, torch.Tensor | None]
"""An image, (channel, height, width), and its conditional heatmap, (height, width), or None."""

NONE = -1
"""Stands for no concept."""
_LISTED = 10


@dataclass(frozen=True, eq=False, repr=False)
class RegionMap(Framed):
    """Which concept of a layer is the most relevant one in each region of an image, a signal or a volume.

    Its data frame has a row for each concept that dominates somewhere.

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
        Name of the layer whose concepts they are.
    target : int or str
        The class whose relevance it is, or the identity of the target.
    signed : bool
        Whether relevance against the class counts as much as relevance for it.
    image : torch.Tensor
        What is drawn below, values in [0, 1]: (channel, height, width) or (1, depth, height, width); a signal as it is,
        (channel, time).
    class_name : str
        What the class is called, or the target with the names of its classes; empty where no name is known.
    titles : dict
        What concepts are called that have names of their own, such as directions, by concept.
    """

    labels: Integers
    dominant: Integers
    relevance: Floats
    concepts: tuple[int, ...]
    areas: Floats
    shares: Floats
    layer: str
    target: int | str
    signed: bool
    image: torch.Tensor
    class_name: str = ""
    titles: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.dominant)

    @property
    def concept_map(self) -> Integers:
        """The dominant concept at each pixel, -1 for none: the shape of `labels`."""
        return self.dominant[self.labels]

    @property
    def start(self) -> str:
        """The class whose relevance it is, as ``"class 3"``; or the target."""
        return f"class {self.target}" if isinstance(self.target, int) else self.target

    @property
    def noun(self) -> str:
        """What the map is of: ``"signal"``, ``"image"`` or ``"volume"``."""
        return ("signal", "image", "volume")[self.labels.ndim - 1]

    def concept_at(self, *position: int) -> int | None:
        """Return the dominant concept at a pixel ``(y, x)``, or ``None`` where there is none.

        Parameters
        ----------
        *position : int
            Coordinates in pixels, from 0, one for each axis of `labels`: ``y, x`` in an image, a time step in a signal,
            ``depth, y, x`` in a volume.

        Returns
        -------
        int or None

        Raises
        ------
        InputError
            If the pixel lies outside of the image.
        """
        shape = self.labels.shape
        inside = len(position) == len(shape) and all(0 <= index < n for index, n in zip(position, shape, strict=True))
        if not inside:
            size = shape_text(shape)
            raise InputError(f"pixel {position} lies outside of the {self.noun} of {size} pixels")
        concept = int(self.dominant[self.labels[position]])
        return None if concept == NONE else concept

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

    def _framed(self) -> Any:
        return self.as_dict()["concepts"]

    def plot(
        self,
        image: Any = None,
        *,
        references: Mapping[int, Sequence[ReferencePicture]] | None = None,
        title: str | None = None,
        most: int = 9,
        depth: int | None = None,
        percentile: float = 99.5,
        width: float | None = None,
    ) -> Figure:
        """Return a matplotlib Figure: the image, its regions in the colours of their concepts, and what these are.

        Parameters
        ----------
        image : PIL image, torch.Tensor or array, optional
            What to draw instead of `image`, of the same height and width; see `crp_kit.data.pixels.picture`.
        references : dict, optional
            By concept, samples to show beside it, as `crp_kit.Study.reference_pictures` returns them.
        title : str, optional
            By default the layer and the class.
        most : int, optional
            Concepts that get a colour of their own, at most 9; the others are grey.
        depth : int, optional
            Which slice of a volume; by default the one with the most relevance per voxel.
        percentile : float, optional
            Of the relevance per pixel, from which regions have their full colour.
        width : float, optional
            Of the figure of an image or a volume, in inches; in a narrow one the legend stands below.

        Raises
        ------
        InputError
            If the image has another size, a number is out of range, or samples are to stand beside what is no image.
        """
        if references and self.labels.ndim != 2:
            raise InputError(f"samples stand beside maps of images; of a {self.noun} see Study.references")
        options = {"title": title, "image": image, "references": references}
        figure: Figure = plots().regions(self, most=most, depth=depth, percentile=percentile, width=width, **options)
        return figure

    def _repr_png_(self) -> bytes:
        """Show the map in a notebook."""
        return png_of(self.plot())

    def __repr__(self) -> str:
        kind = "largest magnitude of relevance" if self.signed else "highest relevance"
        lines = [
            f"RegionMap of {self.layer!r} for {self.class_name or self.start}: {len(self)} regions, {kind} in each",
            *(
                f"  {self.titles.get(concept) or f'concept {concept:>4}'}: {area:6.1%} of the {self.noun}, "
                f"{share:+6.1%} of the layer's relevance"
                for concept, area, share in zip(self.concepts, self.areas, self.shares, strict=True)
            ),
        ]
        left = len(lines) - 1 - _LISTED
        if left > 0:
            lines[_LISTED + 1 :] = [f"  and {left} more concepts"]
        empty = float((self.concept_map == NONE).mean())
        return "\n".join([*lines, *[f"  no concept:   {empty:6.1%} of the {self.noun}"] * bool(empty)])
