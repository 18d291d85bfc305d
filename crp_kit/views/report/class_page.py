"""Data of the pages of classes: samples, concepts, markers, mistakes, prototypes, outliers, comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .context import ReportContext

__all__ = ["CLASSES_PER_FILE", "class_data"]

CLASSES_PER_FILE = 64
_SAMPLES = 6
"""Of each class that its page begins with."""


def class_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield, for some classes at a time, samples of each, and what every layer says of them."""
    count = report.atlas.header.n_classes if report.atlas.has_classes else 0
    for part, start in enumerate(range(0, count, CLASSES_PER_FILE)):
        report.end_if_interrupted()
        classes = range(start, min(start + CLASSES_PER_FILE, count))
        yield (
            f"classes-{part}",
            [
                {"samples": _samples(report, cls), "layers": [_layer(report, layer, cls) for layer in report.chosen]}
                for cls in classes
            ],
        )


def _samples(report: ReportContext, cls: int) -> list[int]:
    """Return samples of a class: those that pages of concepts show, lest more heatmaps are needed; else one."""
    shown, others = report.samples_of(cls)
    chosen = shown[:_SAMPLES] or others[:1]
    report.show(chosen)
    return chosen


def _layer(report: ReportContext, layer: str, cls: int) -> dict[str, Any]:
    """Return what a layer says of a class; its page shows the samples among it."""
    groups, concepts = report.groups[layer], report.facts[layer].concepts_of(cls)
    if not concepts:
        return {"concepts": []}
    prototypes, outliers = groups.prototypes(cls), groups.outliers.get(cls, [])
    report.show(outliers)
    for prototype in prototypes:
        report.show(prototype["nearest"])
    return {
        "concepts": concepts,
        "markers": groups.markers(cls),
        "mistakes": groups.mistakes(cls),
        "prototypes": prototypes,
        "compared": groups.compared(cls),
        "outliers": [[sample, groups.percentiles[sample]] for sample in outliers],
    }
