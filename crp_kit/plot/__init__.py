"""Matplotlib figures: conditional heatmaps, relevant concepts, reference samples, conservation, and the demo's."""

from .conservation import conservation
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
    "conservation",
    "demo_figure",
    "heatmaps",
    "references",
    "to_png",
]
