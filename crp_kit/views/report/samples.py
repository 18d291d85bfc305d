"""Reference samples of many concepts at once, as pictures: image, heatmap, receptive field of the strongest neuron."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from PIL import Image

from ...atlas.file.header import MODES, Mode
from ...atlas.query.reference_maps import (
    Box,
    ConditionedOn,
    ReferenceLayer,
    ReferenceMaps,
    attribute_references,
    neurons_at,
    of_one_shape,
    reference_image,
    reference_labels,
    reference_starts,
)
from ...errors import InputError
from ..highlight import masked_image
from ..image import drawn, heatmap_image, overlay, picture
from .sprite_sheets import thumbnail

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.rankings import SampleRanking
    from ...attribution.subject import Subject

__all__ = ["ReferenceSample", "SampleSource"]

_KEPT_IMAGES = 96
"""More than one sheet shows, so that each image of a sheet is read once."""

Row = tuple[int, int, int]
"""Sample, concept, and the class that relevance starts from, -1 for the layer itself."""


@dataclass(frozen=True)
class _RankedSample:
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
        The image, or the receptive field, dark where the concept has no relevance; None if the heatmap has another
        size.
    crop : PIL.Image.Image or None
        Receptive field of the neuron at the stored position.
    box : tuple of int or None
        The receptive field in the image: top, left, bottom, right.
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


class SampleSource:
    """Makes the reference samples of the concepts of an atlas; parameters as for `crp_kit.Study.report`.

    Raises
    ------
    InputError
        If `conditioned_on` is unknown.
    """

    def __init__(
        self,
        subject: Subject,
        atlas: ConceptAtlas,
        *,
        conditioned_on: ConditionedOn,
        references: int,
        receptive_field: bool,
        batch_size: int,
        size: int,
    ) -> None:
        if conditioned_on not in get_args(ConditionedOn):
            raise InputError(f"conditioned_on is 'class', 'prediction' or 'layer'; got {conditioned_on!r}")
        self.subject, self.atlas, self.batch_size = subject, atlas, batch_size
        self.conditioned_on: ConditionedOn = conditioned_on
        self.references, self.receptive_field, self.size = references, receptive_field, size
        self.remarks: dict[str, str] = {}
        """By layer: the reason why something is not shown."""
        self.changed_images: set[str] = set()
        """Layers with images whose values or channels are not shown as they are."""
        self.same_rules = True
        """Whether the heatmaps have the rules that the atlas was made with."""
        self._read = lru_cache(_KEPT_IMAGES)(lambda number: reference_image(subject.samples, number))

    def of(self, layer: str, ids: Sequence[int]) -> dict[tuple[int, Mode], list[ReferenceSample]]:
        """Return the reference samples of concepts of a layer, by concept and ranking, best first."""
        scores = self.atlas[layer]
        tables = {(id_, mode): scores.score(mode).top(id_, self.references) for id_ in ids for mode in MODES}
        ranked = {key: self._ranked(key[0], table) for key, table in tables.items()}
        distinct = dict.fromkeys(entry for entries in ranked.values() for entry in entries)
        rows = list(dict.fromkeys(entry.row for entry in distinct))
        maps, boxes = self._maps(layer, rows, list(distinct) if self.receptive_field else [])
        return {
            key: [self._sample(layer, entry, maps[entry.row], boxes.get(entry.neuron)) for entry in entries]
            for key, entries in ranked.items()
        }

    def inputs(self, layer: str, samples: Sequence[int]) -> torch.Tensor:
        """Return model inputs, (sample, channel, height, width): of the samples that have the first one's shape."""
        images = [self._read(sample) for sample in samples]
        return self._reference_maps(layer).inputs([images[index] for index in next(of_one_shape(images))])

    def _reference_maps(self, layer: str) -> ReferenceMaps:
        return ReferenceMaps(self.subject, self.atlas[layer].info, 0, self.batch_size)

    def _ranked(self, concept: int, table: SampleRanking) -> list[_RankedSample]:
        labels = reference_labels(self.atlas, table, self.conditioned_on)
        columns = zip(table.sample.tolist(), labels, table.position.tolist(), table.score.tolist(), strict=True)
        return [_RankedSample(sample, concept, *rest) for sample, *rest in columns]

    def _maps(
        self, layer: str, rows: Sequence[Row], entries: Sequence[_RankedSample]
    ) -> tuple[dict[Row, torch.Tensor], dict[tuple[int, int, int], Box]]:
        """Return heatmaps (height, width) by row, and boxes by neuron."""
        maps = self._reference_maps(layer)
        heatmaps: dict[Row, torch.Tensor] = {}
        boxes: dict[tuple[int, int, int], Box] = {}
        images = [self._read(sample) for sample, _, _ in rows]
        for indices in of_one_shape(images):
            example = maps.inputs([images[indices[0]]])
            model_layer = maps.layer(maps.run(example))
            self.same_rules &= model_layer.rules == self.atlas.header.composite
            step = model_layer.samples_at_once
            for start in range(0, len(indices), step):
                part = indices[start : start + step]
                inputs, own_rows = maps.inputs([images[index] for index in part]), [rows[index] for index in part]
                heatmaps |= dict(zip(own_rows, self._heatmaps(layer, model_layer, inputs, own_rows), strict=True))
            samples = {rows[index][0] for index in indices}
            seen = [entry for entry in entries if entry.sample in samples]
            boxes |= self._boxes(maps, model_layer, example, seen)
        return heatmaps, boxes

    def _heatmaps(
        self, layer: str, model_layer: ReferenceLayer, inputs: torch.Tensor, rows: Sequence[Row]
    ) -> torch.Tensor:
        """Return conditional heatmaps: (row, height, width)."""
        _, ids, labels = zip(*rows, strict=True)
        starts = reference_starts(self.atlas, labels, self.conditioned_on)
        attr = attribute_references(
            self.subject, inputs, layer, ids=ids, concept=model_layer.concept, starts=starts, batch_size=len(inputs)
        )
        return attr.heatmap.detach()

    def _boxes(
        self,
        maps: ReferenceMaps,
        model_layer: ReferenceLayer,
        example: torch.Tensor,
        entries: Sequence[_RankedSample],
    ) -> dict[tuple[int, int, int], Box]:
        """Return receptive fields of neurons; none where the concept has no neurons, and a remark instead.

        `example` is a model input, (1, channel, height, width).
        """
        by_concept: dict[int, list[_RankedSample]] = {}
        for entry in entries:
            by_concept.setdefault(entry.concept, []).append(entry)
        neurons: dict[tuple[int, int, int], int] = {}
        try:
            for id_, group in by_concept.items():
                positions = [entry.position for entry in group]
                indices = neurons_at(model_layer.concept, maps.info, id_, shape=model_layer.shape, positions=positions)
                neurons |= {entry.neuron: index for entry, index in zip(group, indices, strict=True)}
            return dict(zip(neurons, maps.boxes(example, list(neurons.values())), strict=True)) if neurons else {}
        except InputError as error:
            self.remarks[maps.info.name] = f"Some concepts are shown without receptive fields: {error}."
            return {}

    def _sample(self, layer: str, entry: _RankedSample, heatmap: torch.Tensor, box: Box | None) -> ReferenceSample:
        tensor, crop = self._read(entry.sample), None
        image, changed = drawn(tensor)
        if changed:
            self.changed_images.add(layer)
        fits = tensor.shape[1:] == heatmap.shape
        masked = picture(masked_image(image, heatmap)) if fits else None
        if box is not None and fits:
            top, left, bottom, right = box
            crop = thumbnail(image.crop((left, top, right, bottom)), self.size)
            masked = None if masked is None else masked.crop((left, top, right, bottom))
        covered = _covered(image, tensor, heatmap)
        small, over = (thumbnail(whole, self.size) for whole in (image, covered))
        masked = None if masked is None else thumbnail(masked, self.size)
        name, own_box = self.name_of(entry.sample), None if crop is None else box
        return ReferenceSample(entry.sample, entry.label, entry.score, name, small, over, masked, crop, own_box)

    def name_of(self, sample: int) -> str:
        """Return the name of a sample; its number where the data have no names."""
        names = self.atlas.identifiers
        return f"sample\u00a0{sample}" if names is None else names[int(self.atlas.places(np.array([sample]))[0])]

    def pictures(self, samples: Sequence[int]) -> Iterator[tuple[int, Image.Image, Image.Image | None]]:
        """Yield each sample as a picture, with the heatmap of its class over it; None where it has no class."""
        heatmaps = self._class_heatmaps(samples)
        for sample in samples:
            tensor, heatmap = self._read(sample), heatmaps.get(sample)
            image, _ = drawn(tensor)
            covered = None if heatmap is None else thumbnail(_covered(image, tensor, heatmap), self.size)
            yield sample, thumbnail(image, self.size), covered

    def _class_heatmaps(self, samples: Sequence[int]) -> dict[int, torch.Tensor]:
        """Return heatmaps (height, width), with relevance from the class or target that a sample stands for."""
        rows = self.atlas.places(np.array(samples))
        targets, predicted = self.atlas.targets[rows].tolist(), self.atlas.predictions[rows].tolist()
        if self.conditioned_on == "prediction":
            labels = predicted
        else:
            labels = [target if target >= 0 else guess for target, guess in zip(targets, predicted, strict=True)]
        known = [(sample, label) for sample, label in zip(samples, labels, strict=True) if label >= 0]
        if self.conditioned_on == "layer" or not known:
            return {}
        maps = self._reference_maps(next(iter(self.atlas)))
        images = [self._read(sample) for sample, _ in known]
        heatmaps: dict[int, torch.Tensor] = {}
        for indices in of_one_shape(images):
            inputs = maps.inputs([images[index] for index in indices])
            starts = reference_starts(self.atlas, [known[index][1] for index in indices], self.conditioned_on)
            attr = self.subject.attribution(
                inputs, [{"y": [start]} for start in starts], self.subject.composite, pairing="zip",
                batch_size=min(self.batch_size, maps.run(inputs[:1]).samples_at_once), on_device="cpu",
            )  # fmt: skip
            heatmaps |= {known[index][0]: row for index, row in zip(indices, attr.heatmap.detach(), strict=True)}
        return heatmaps


def _covered(image: Image.Image, tensor: torch.Tensor, heatmap: torch.Tensor) -> Image.Image:
    """Return a heatmap over its image, or alone where the two differ in size."""
    return overlay(image, heatmap) if tensor.shape[1:] == heatmap.shape else heatmap_image(heatmap)
