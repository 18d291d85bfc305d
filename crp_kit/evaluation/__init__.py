"""Evaluation: whether the concepts that relevance names matter to the model, and heatmaps are right."""

from .comparison import compared_areas, compared_curves
from .curves import FlippingCurves
from .evaluation import Evaluation
from .impact import ConceptImpact
from .localisation_tables import ConceptLocalisation, Localisation

__all__ = [
    "ConceptImpact",
    "ConceptLocalisation",
    "Evaluation",
    "FlippingCurves",
    "Localisation",
    "compared_areas",
    "compared_curves",
]
