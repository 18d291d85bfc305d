"""Data of the pages of samples: picture, heatmap, predictions, attributes, and what each layer saw in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...atlas.questions.matrix_rows import score_rows
from ...errors import AtlasError
from .context import ReportContext
from .facts import json_number
from .sample_pictures import sample_pictures
from .sprite_sheets import SpriteSheet

__all__ = ["SAMPLES_PER_FILE", "sample_data"]

SAMPLES_PER_FILE = 64
_CONCEPTS = 6


def sample_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield the data of the samples that other pages show, some at a time, and the names of all of them."""
    samples = list(report.shown)
    for part, start in enumerate(range(0, len(samples), SAMPLES_PER_FILE)):
        report.end_if_interrupted()
        name = f"samples-{part}"
        yield name, _part(report, samples[start : start + SAMPLES_PER_FILE], name)
    yield "sample-names", [report.source.name_of(sample) for sample in samples]


def _part(report: ReportContext, samples: Sequence[int], name: str) -> dict[str, Any]:
    """Return the data of some samples, and write their sheet of pictures."""
    sheet, data = SpriteSheet(report.source.size), []
    strongest = {layer: _strongest(report, layer, samples) for layer in report.chosen}
    for sample, image, heatmap in sample_pictures(report.source, samples):
        cells = [sheet.cell((sample, "image"), image)]
        cells.append(-1 if heatmap is None else sheet.cell((sample, "heatmap"), heatmap))
        data.append({"cells": cells, **_facts(report, sample), "layers": _layers(report, sample, strongest)})
    sheet.save(report.site.picture(name))
    return {"sheet": [f"{name}.webp", *sheet.geometry], "samples": data}


def _facts(report: ReportContext, sample: int) -> dict[str, Any]:
    """Return what the atlas knows of a sample."""
    atlas = report.atlas
    row = int(atlas.places(np.array([sample]))[0])
    return {
        "name": report.source.name_of(sample),
        "start": int(atlas.targets[row]) if atlas.has_classes else -1,
        "predictions": _predictions(report, row) if atlas.has_classes else [],
        "attributes": [[key, _text(values[row])] for key, values in atlas.attributes.items()],
    }


def _predictions(report: ReportContext, row: int) -> list[list[Any]]:
    """Return the most probable classes of a sample with their probabilities, or the predicted one without."""
    try:
        classes, probabilities = report.top_predictions
    except AtlasError:
        predicted = int(report.atlas.predictions[row])
        return [[predicted, None]] if predicted >= 0 else []
    pairs = zip(classes[row].tolist(), probabilities[row].tolist(), strict=True)
    return [[cls, json_number(probability)] for cls, probability in pairs if cls >= 0]


def _strongest(report: ReportContext, layer: str, samples: Sequence[int]) -> dict[int, list[list[Any]]]:
    """Return, by sample, numbers and scores of the strongest concepts; nothing where they are not known."""
    scores = report.atlas[layer].relevance
    if not scores.has("matrix"):
        return {}
    chosen = np.isin(report.atlas.samples, samples)
    strongest: dict[int, list[list[Any]]] = {}
    for sample, values in zip(report.atlas.samples[chosen].tolist(), score_rows(scores, chosen), strict=True):
        if np.isfinite(values).all():
            order = np.argsort(-np.abs(values), kind="stable")[:_CONCEPTS]
            strongest[sample] = [[int(concept), json_number(values[concept])] for concept in order if values[concept]]
    return strongest


def _layers(
    report: ReportContext, sample: int, strongest: Mapping[str, Mapping[int, list[list[Any]]]]
) -> list[dict[str, Any]]:
    """Return, by layer, the strongest concepts in a sample and how unusual it is, as far as that is known."""
    percentiles = [report.groups[layer].percentiles.get(sample) for layer in report.chosen]
    return [
        {"concepts": strongest[layer].get(sample, []), "percentile": None if value is None else json_number(value)}
        for layer, value in zip(report.chosen, percentiles, strict=True)
    ]


def _text(value: Any) -> str:
    """Return an attribute's value as text."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
