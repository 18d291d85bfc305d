"""Pictures of the reference samples of a layer: image, heatmap over it, and what the strongest neuron sees."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import torch
from PIL import Image

from ...atlas.query.reference_maps import Box
from ..curve import curve_picture
from ..highlight import masked_image, outlined
from ..image import drawn, picture
from ..look import Look
from .sprite_sheets import thumbnail

__all__ = ["RankedSample", "ReferencePictures", "ReferenceSample", "Row"]

Row = tuple[int, int, int]
"""Sample, concept, and the class that relevance starts from, -1 for the layer itself."""


@dataclass(frozen=True)
class RankedSample:
    """A sample in the ranking of a concept."""

    sample: int
    concept: int
    label: int
    position: int
    score: float

    @property
    def row(self) -> Row:
        return self.sample, self.concept, self.label

    @property
    def neuron(self) -> tuple[int, int, int]:
        return self.sample, self.concept, self.position


@dataclass(frozen=True, eq=False)
class ReferenceSample:
    """One reference sample of a concept.

    Parameters
    ----------
    sample, label, score
        Its number, the class it stands for (-1 for none), and relevance or activation.
    name : str
    image, heatmap : PIL.Image.Image
    masked : PIL.Image.Image or None
        The image, or the receptive field, dark where the concept has no relevance, of the best sample by relevance,
        which stands for the concept; None for others, and if the heatmap has another size.
    crop : PIL.Image.Image or None
        Receptive field of the neuron at the stored position.
    box : tuple of int or None
        The receptive field in the image: top, left, bottom, right; of a signal: start, end.
    """

    sample: int
    label: int
    score: float
    name: str
    image: Image.Image
    heatmap: Image.Image
    masked: Image.Image | None
    crop: Image.Image | None
    box: Box | None


@dataclass(frozen=True, eq=False)
class ReferencePictures:
    """Pictures of the reference samples of a layer, each drawn once however many concepts or rankings show it.

    Parameters
    ----------
    read : callable
        From the number of a sample to its image, (channel, height, width), or its signal, (channel, time).
    name_of : callable
        From the number of a sample to its name.
    look : Look
    size : int
        Pixels of the longer side of each picture.
    maps : dict
        Heatmaps, (height, width) or (time,), by row.
    boxes : dict
        Receptive fields by neuron.
    areas : dict
        Where relevance starts, (height, width), by row; None where that is nowhere in particular.
    """

    read: Callable[[int], torch.Tensor]
    name_of: Callable[[int], str]
    look: Look
    size: int
    maps: Mapping[Row, torch.Tensor]
    boxes: Mapping[tuple[int, int, int], Box]
    areas: Mapping[Row, torch.Tensor | None]
    changed: set[int] = field(default_factory=set)
    """Samples whose values or channels are not shown as they are."""
    _once: dict[Hashable, Image.Image] = field(default_factory=dict)

    def sample(self, entry: RankedSample, *, best: bool) -> ReferenceSample:
        """Return a ranked sample with its pictures; the best one of a concept has its picture for tables too."""
        number, heatmap = entry.sample, self.maps[entry.row]
        if self.read(number).ndim == 2:
            return self._signal(entry, self.read(number))
        image = self._drawn(number, lambda: self._image(number))
        fits = image.size == (heatmap.shape[1], heatmap.shape[0])
        box = self.boxes.get(entry.neuron) if fits else None
        small = self._drawn((number, "small"), lambda: thumbnail(image, self.size))
        over = self._drawn(entry.row, lambda: thumbnail(self._over(image, entry.row), self.size))
        crop = None if box is None else self._drawn((number, box), lambda: self._cut(image, box))
        masked = self._masked(image, heatmap, box) if best and fits else None
        return ReferenceSample(number, entry.label, entry.score, self.name_of(number), small, over, masked, crop, box)

    def _signal(self, entry: RankedSample, signal: torch.Tensor) -> ReferenceSample:
        """Return the same for a signal, (channel, time): curves, a ground of relevance, and what the neuron sees."""
        number, heatmap, box = entry.sample, self.maps[entry.row], self.boxes.get(entry.neuron)

        def curves(part: torch.Tensor, relevance: torch.Tensor | None = None) -> Image.Image:
            return curve_picture(part, self.size, look=self.look, heatmap=relevance)

        plain = self._drawn((number, "small"), lambda: curves(signal))
        over = self._drawn(entry.row, lambda: curves(signal, heatmap))
        crop = None if box is None else self._drawn((number, box), lambda: curves(signal[:, slice(*box)]))
        return ReferenceSample(number, entry.label, entry.score, self.name_of(number), plain, over, None, crop, box)

    def _drawn(self, key: Hashable, draw: Callable[[], Image.Image]) -> Image.Image:
        if key not in self._once:
            self._once[key] = draw()
        return self._once[key]

    def _over(self, image: Image.Image, row: Row) -> Image.Image:
        return outlined(self.look.draw_fitting(image, self.maps[row]), self.areas[row])

    def _image(self, sample: int) -> Image.Image:
        image, changed = drawn(self.read(sample))
        if changed:
            self.changed.add(sample)
        return image

    def _masked(self, image: Image.Image, heatmap: torch.Tensor, box: Box | None) -> Image.Image:
        masked = picture(masked_image(image, heatmap, percentile=self.look.percentile))
        return thumbnail(masked, self.size) if box is None else self._cut(masked, box)

    def _cut(self, image: Image.Image, box: Box) -> Image.Image:
        top, left, bottom, right = box
        return thumbnail(image.crop((left, top, right, bottom)), self.size)
