"""Evaluation: whether the concepts that relevance names matter to the model, and heatmaps are right."""

from .comparison import compared_areas, compared_curves, joined_curves
from .composite_table import CompositeTable
from .curves import FlippingCurves
from .evaluation import Evaluation
from .impact import ConceptImpact
from .localisation_tables import ConceptLocalisation, Localisation
from .result_file import load_result
from .robustness_tables import Randomisation, Sensitivity

__all__ = [
    "CompositeTable",
    "ConceptImpact",
    "ConceptLocalisation",
    "Evaluation",
    "FlippingCurves",
    "Localisation",
    "Randomisation",
    "Sensitivity",
    "compared_areas",
    "compared_curves",
    "joined_curves",
    "load_result",
]
