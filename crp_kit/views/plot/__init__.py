"""Matplotlib figures: heatmaps, concepts, reference samples, region maps, statistics, conservation, the demo."""

from .bars import bars
from .class_dots import class_means, class_presence
from .composites import composites
from .concept_graph import concept_graph
from .conservation import conservation
from .contrast import contrast
from .demo import ConceptView, SampleView, demo_figure
from .distributions import distributions
from .evaluations import concept_impact
from .flipping import flipping_curves
from .localisation import concept_localisation, localisation
from .maps import concept_bars, heatmaps
from .narrow import in_width
from .panels import to_png
from .reference_view import ReferenceView
from .references import compare_modes, references
from .region_view import ReferencePicture, RegionView, region_view
from .regions import regions
from .robustness import randomisation, sensitivity
from .signals import signals
from .similarities import cross_similarities, similarities
from .split_concept import split_concept
from .statistics import named_concepts, percentiles, strategies, word_names
from .value_bars import value_bars
from .volumes import volumes

__all__ = [
    "ConceptView",
    "ReferencePicture",
    "ReferenceView",
    "RegionView",
    "SampleView",
    "bars",
    "class_means",
    "class_presence",
    "compare_modes",
    "composites",
    "concept_bars",
    "concept_graph",
    "concept_impact",
    "concept_localisation",
    "conservation",
    "contrast",
    "cross_similarities",
    "demo_figure",
    "distributions",
    "flipping_curves",
    "heatmaps",
    "in_width",
    "localisation",
    "named_concepts",
    "percentiles",
    "randomisation",
    "references",
    "region_view",
    "regions",
    "sensitivity",
    "signals",
    "similarities",
    "split_concept",
    "strategies",
    "to_png",
    "value_bars",
    "volumes",
    "word_names",
]
