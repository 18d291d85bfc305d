"""Data of the pages of layers: the table of their concepts, with covers, and the classes that these serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .context import ReportContext

__all__ = ["layer_data", "served_data"]


def layer_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield the table of each layer, and where the data and covers of its concepts are."""
    for number, (layer, facts) in enumerate(report.facts.items()):
        covers = report.covers[layer]
        yield (
            f"layer-{number}",
            {"table": facts.table(), "per": report.per_sheet, "covers": covers.cells, "sheets": covers.sheets},
        )


def served_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield the classes that the concepts of each layer serve, by which lists are filtered."""
    if report.atlas.has_classes:
        for number, facts in enumerate(report.facts.values()):
            yield f"served-{number}", facts.served()
