"""Matplotlib figures: conditional heatmaps, the most relevant concepts, reference samples, and the demo's."""

from .demo import ConceptView, SampleView, demo_figure
from .maps import concept_bars, heatmaps
from .panels import to_png
from .samples import Viewable, compare_modes, references
from .sheets import ReferenceView

__all__ = [
    "ConceptView",
    "ReferenceView",
    "SampleView",
    "Viewable",
    "compare_modes",
    "concept_bars",
    "demo_figure",
    "heatmaps",
    "references",
    "to_png",
]
