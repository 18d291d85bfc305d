"""Data of the pages of classes: the concepts that serve each class most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .context import ReportContext

__all__ = ["CLASSES_PER_FILE", "class_data"]

CLASSES_PER_FILE = 64


def class_data(report: ReportContext) -> Iterator[tuple[str, Any]]:
    """Yield, for some classes at a time, the concepts of every layer that serve them most."""
    count = report.atlas.header.n_classes
    for part, start in enumerate(range(0, count, CLASSES_PER_FILE)):
        classes = range(start, min(start + CLASSES_PER_FILE, count))
        yield f"classes-{part}", [[facts.concepts_of(cls) for facts in report.facts.values()] for cls in classes]
