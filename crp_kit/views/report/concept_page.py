"""Data of the pages of concepts: reference samples, statistics, similar concepts and links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...atlas.file.header import MODES, Mode
from .context import ReportContext
from .covers import Covers
from .facts import json_number
from .links import Link, Links
from .samples import ReferenceSample, ReferenceSamples
from .sprite_sheets import SpriteSheet

__all__ = ["concept_data"]


def concept_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield, for some concepts of a layer at a time, their sheet of pictures and the data of their pages."""
    for number, (layer, ids) in enumerate(report.chosen.items()):
        report.covers[layer] = covers = Covers(report.site, number)
        sheets = report.source.sheets(layer, ids, per_sheet=report.per_sheet, between=report.end_if_interrupted)
        for part, (concepts, samples) in enumerate(sheets):
            report.end_if_interrupted()
            name = f"layer-{number}-{part}"
            yield name, _sheet_data(report, layer, (concepts, samples), name)
        covers.close()


def _sheet_data(
    report: ReportContext, layer: str, shown: tuple[Sequence[int], ReferenceSamples], name: str
) -> dict[str, Any]:
    """Return the data of the concepts that share a sheet of pictures, and write that."""
    ids, samples = shown
    sheet, concepts = SpriteSheet(report.source.size), []
    for concept in ids:
        report.show(sample.sample for mode in MODES for sample in samples[concept, mode])
        ranked = {
            mode: [_sample_data(report, sheet, sample, concept) for sample in samples[concept, mode]] for mode in MODES
        }
        concepts.append(_concept_data(report, layer, concept, ranked))
        report.covers[layer].add(next(iter(samples[concept, "relevance"]), None))
        report.bar.update()
    sheet.save(report.site.picture(name))
    return {"sheet": [f"{name}.webp", *sheet.geometry], "concepts": concepts}


def _concept_data(report: ReportContext, layer: str, concept: int, ranked: Mapping[Mode, Any]) -> dict[str, Any]:
    """Return the numbers of a concept, its reference samples, and the concepts that are similar or linked to it."""
    facts = report.facts[layer]
    up, down = report.links.of(layer, concept) if isinstance(report.links, Links) else ((), ())
    return {
        "concept": concept,
        "moments": facts.moments(concept),
        "references": ranked,
        "histogram": facts.histogram(concept),
        "similar": facts.similar(concept),
        "up": [_link_data(report, link) for link in up],
        "down": [_link_data(report, link) for link in down],
    }


def _sample_data(report: ReportContext, sheet: SpriteSheet, sample: ReferenceSample, concept: int) -> list[Any]:
    """Return a reference sample as data: name, class, score, the cells of its pictures, its number; -1 for none."""
    image = sheet.cell((sample.sample,), sample.image)
    heatmap = sheet.cell((sample.sample, concept, sample.label), sample.heatmap)
    crop = -1 if sample.crop is None else sheet.cell((sample.sample, sample.box), sample.crop)
    label = sample.label if report.atlas.has_classes else -1
    return [sample.name, label, json_number(sample.score), [image, heatmap, crop], sample.sample]


def _link_data(report: ReportContext, link: Link) -> list[Any]:
    """Return a link as data: number of the layer in the report or -1, its name, concept, weight."""
    number = list(report.chosen).index(link.layer) if link.concept in report.chosen.get(link.layer, ()) else -1
    return [number, link.layer, link.concept, json_number(link.weight)]
