"""Matplotlib figures: conditional heatmaps, the most relevant concepts, reference samples, and the demo's."""

from .demo import ConceptView, SampleView, demo_figure
from .maps import concept_bars, heatmaps
from .panels import to_png
from .samples import ReferenceView, compare_modes, references

__all__ = [
    "ConceptView",
    "ReferenceView",
    "SampleView",
    "compare_modes",
    "concept_bars",
    "demo_figure",
    "heatmaps",
    "references",
    "to_png",
]
