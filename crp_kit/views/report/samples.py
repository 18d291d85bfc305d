"""Reference samples of many concepts at once, as pictures: image, heatmap, receptive field of the strongest neuron."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, get_args

import numpy as np
import torch

from ...atlas.file.header import MODES, Mode
from ...atlas.query.reference_maps import (
    Box,
    ReferenceLayer,
    ReferenceMaps,
    attribute_references,
    neurons_at,
    of_one_shape,
    reference_sample,
    start_areas,
)
from ...atlas.query.reference_starts import ConditionedOn, reference_labels, reference_starts
from ...attribution.axes import known_class_axis
from ...errors import InputError
from ..look import Look
from .image_cache import ImageCache
from .reference_pictures import RankedSample, ReferencePictures, ReferenceSample, Row

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.query.rankings import SampleRanking
    from ...attribution.result import Attribution
    from ...attribution.subject import Subject
    from ...data.samples import NumberedSamples
    from ...targets import Target

__all__ = ["ReferenceSample", "ReferenceSamples", "SampleSource"]

_SHARED = 3
"""Heatmaps of one sample, at least, that are made from one forward: fewer are quicker beside those of other samples."""
_HELD = 1 << 28
"""Bytes of images, heatmaps and pictures that are in memory at once."""
_KEPT_IMAGES = 1 << 26
"""Bytes of images that are kept, since concepts share many of their samples."""

Ranked: TypeAlias = "Mapping[tuple[int, Mode], list[RankedSample]]"
ReferenceSamples: TypeAlias = "Mapping[tuple[int, Mode], list[ReferenceSample]]"
"""By concept and ranking, best first."""


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
        look: Look,
    ) -> None:
        if conditioned_on not in get_args(ConditionedOn):
            raise InputError(f"conditioned_on is 'class', 'prediction' or 'layer'; got {conditioned_on!r}")
        self.subject, self.atlas, self.batch_size = subject, atlas, batch_size
        self.conditioned_on: ConditionedOn = conditioned_on
        self.references, self.receptive_field, self.size, self.look = references, receptive_field, size, look
        self.remarks: dict[str, str] = {}
        """By layer: the reason why something is not shown."""
        self.changed_images: set[str] = set()
        """Layers with images whose values or channels are not shown as they are."""
        self.outlined = False
        """Whether a picture has a line around where relevance starts."""
        self.same_rules = True
        """Whether the heatmaps have the rules that the atlas was made with."""
        self.read = ImageCache(lambda number: _shown(subject.samples, number), _KEPT_IMAGES)

    def sheets(
        self, layer: str, ids: Sequence[int], *, per_sheet: int, between: Callable[[], None]
    ) -> Iterator[tuple[Sequence[int], ReferenceSamples]]:
        """Yield the concepts of each sheet, and their reference samples by concept and ranking, best first.

        As many sheets as bounded memory holds are made together, since a sample that several concepts show goes through
        the model once for all of them. `between` is called before each forward.
        """
        group: list[Sequence[int]] = []
        ranked: Ranked = {}
        for start in range(0, len(ids), per_sheet):
            part = ids[start : start + per_sheet]
            further = self._rankings(layer, part)
            if group and self._bytes({**ranked, **further}) > _HELD:
                yield from self._made(layer, group, ranked, between)
                group, ranked = [], {}
            group, ranked = [*group, part], {**ranked, **further}
        yield from self._made(layer, group, ranked, between)

    def of(self, layer: str, ids: Sequence[int]) -> ReferenceSamples:
        """Return the reference samples of concepts of a layer, by concept and ranking, best first."""
        return self._of(layer, self._rankings(layer, ids), lambda: None)

    def _rankings(self, layer: str, ids: Sequence[int]) -> Ranked:
        scores = self.atlas[layer]
        keys = [(concept, mode) for concept in ids for mode in MODES]
        return {key: self._ranked(key[0], scores.score(key[1]).top(key[0], self.references)) for key in keys}

    def _bytes(self, ranked: Ranked) -> int:
        """Return what images, heatmaps and pictures of reference samples take, if all images are as the first one."""
        entries = [entry for several in ranked.values() for entry in several]
        image = self.read(entries[0].sample) if entries else torch.empty(0, 0, 0)
        maps = len({entry.row for entry in entries}) * image[0].numel() * 4  # without the channels
        images = len({entry.sample for entry in entries}) * image.numel() * image.element_size()
        return maps + images + len(entries) * 4 * 3 * self.size**2

    def _made(
        self, layer: str, group: Sequence[Sequence[int]], ranked: Ranked, between: Callable[[], None]
    ) -> Iterator[tuple[Sequence[int], ReferenceSamples]]:
        samples = self._of(layer, ranked, between)
        for part in group:
            yield part, {(concept, mode): samples[concept, mode] for concept in part for mode in MODES}

    def _of(self, layer: str, ranked: Ranked, between: Callable[[], None]) -> ReferenceSamples:
        distinct = dict.fromkeys(entry for entries in ranked.values() for entry in entries)
        rows = list(dict.fromkeys(entry.row for entry in distinct))
        maps, boxes, areas = self._maps(layer, rows, list(distinct) if self.receptive_field else [], between)
        pictures = ReferencePictures(self.read, self.name_of, self.look, self.size, maps, boxes, areas)
        shown = {
            (concept, mode): [
                pictures.sample(entry, best=mode == "relevance" and not rank) for rank, entry in enumerate(entries)
            ]
            for (concept, mode), entries in ranked.items()
        }
        if pictures.changed:
            self.changed_images.add(layer)
        return shown

    def of_first_shape(self, samples: Sequence[int]) -> list[int]:
        """Return the samples that have the first one's shape."""
        return [samples[index] for index in next(of_one_shape([self.read(sample) for sample in samples]))]

    def inputs(self, layer: str, samples: Sequence[int]) -> torch.Tensor:
        """Return model inputs, (sample, channel, *place): of the samples that have the first one's shape."""
        return self.reference_maps(layer).inputs([self.read(sample) for sample in self.of_first_shape(samples)])

    def reference_maps(self, layer: str) -> ReferenceMaps:
        """Return what makes heatmaps of a layer's concepts."""
        return ReferenceMaps(self.subject, self.atlas[layer].info, 0, self.batch_size)

    def _ranked(self, concept: int, table: SampleRanking) -> list[RankedSample]:
        labels = reference_labels(self.atlas, table, self.conditioned_on)
        columns = zip(table.sample.tolist(), labels, table.position.tolist(), table.score.tolist(), strict=True)
        return [RankedSample(sample, concept, *rest) for sample, *rest in columns]

    def _maps(
        self, layer: str, rows: Sequence[Row], entries: Sequence[RankedSample], between: Callable[[], None]
    ) -> tuple[dict[Row, torch.Tensor], dict[tuple[int, int, int], Box], dict[Row, torch.Tensor | None]]:
        """Return heatmaps (*place) by row, boxes by neuron, and by row where relevance starts."""
        maps = self.reference_maps(layer)
        heatmaps: dict[Row, torch.Tensor] = {}
        boxes: dict[tuple[int, int, int], Box] = {}
        areas: dict[Row, torch.Tensor | None] = {}
        images = [self.read(sample) for sample, _, _ in rows]
        for indices in of_one_shape(images):
            example = maps.inputs([images[indices[0]]])
            run = maps.run(example)
            model_layer, axis = maps.layer(run), known_class_axis(run)
            del run
            self.same_rules &= model_layer.rules == self.atlas.header.composite
            for part in _together([rows[index] for index in indices], model_layer.samples_at_once):
                between()
                shown, starts = self._heatmaps(maps, model_layer, part)
                heatmaps |= dict(zip(part, shown.heatmap.detach(), strict=True))
                areas |= dict(zip(part, start_areas(shown, starts, axis), strict=True))
            samples = {rows[index][0] for index in indices}
            seen = [entry for entry in entries if entry.sample in samples]
            boxes |= self._boxes(maps, model_layer, example, seen)
        self.outlined |= any(area is not None for area in areas.values())
        return heatmaps, boxes, areas

    def _heatmaps(
        self, maps: ReferenceMaps, model_layer: ReferenceLayer, rows: Sequence[Row]
    ) -> tuple[Attribution, Sequence[int | Target | None]]:
        """Return conditional heatmaps, (row, *place), and their starts; all of one sample share a forward."""
        samples, ids, labels = zip(*rows, strict=True)
        shown = samples[:1] if len(set(samples)) == 1 else samples
        starts = reference_starts(
            self.atlas, labels, self.conditioned_on, samples=self.subject.samples, numbers=samples
        )
        attr = attribute_references(
            self.subject,
            maps.inputs([self.read(sample) for sample in shown]),
            maps.info.name,
            ids=ids,
            concept=model_layer.concept,
            starts=starts,
            batch_size=len(rows),
        )
        if attr.heatmap.ndim == 2 and attr.layout != "signal":
            raise InputError(f"reports show images and signals; heatmaps of this model are of {attr.layout}")
        return attr, starts

    def _boxes(
        self,
        maps: ReferenceMaps,
        model_layer: ReferenceLayer,
        example: torch.Tensor,
        entries: Sequence[RankedSample],
    ) -> dict[tuple[int, int, int], Box]:
        """Return receptive fields of neurons; none where the concept has no neurons, and a remark instead.

        `example` is a model input, (1, channel, *place).
        """
        by_concept: dict[int, list[RankedSample]] = {}
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

    def name_of(self, sample: int) -> str:
        """Return the name of a sample; its number where the data have no names."""
        names = self.atlas.identifiers
        return f"sample\u00a0{sample}" if names is None else names[int(self.atlas.places(np.array([sample]))[0])]


def _shown(samples: NumberedSamples, number: int) -> torch.Tensor:
    """Return a sample that a report has pictures of: an image (channel, height, width) or a signal (channel, time)."""
    sample = reference_sample(samples, number)
    if sample.ndim > 3:
        raise InputError(
            f"reports show images (channel, height, width) and signals (channel, time); sample {number} has shape "
            f"{tuple(sample.shape)}: study.references(atlas, layer, concept).plot() draws volumes"
        )
    return sample


def _together(rows: Sequence[Row], at_once: int) -> Iterator[list[Row]]:
    """Yield rows whose heatmaps are made together: all of one sample, if these are several, or of some samples each."""
    by_sample: dict[int, list[Row]] = {}
    for row in rows:
        by_sample.setdefault(row[0], []).append(row)
    yield from (own for own in by_sample.values() if len(own) >= _SHARED)
    others = [row for own in by_sample.values() if len(own) < _SHARED for row in own]
    for start in range(0, len(others), at_once):
        yield others[start : start + at_once]
