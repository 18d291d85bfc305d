"""Evaluation: whether the concepts that relevance names matter to the model, and heatmaps are right."""

from .comparison import compared_areas, compared_curves
from .curves import FlippingCurves
from .evaluation import Evaluation
from .impact import ConceptImpact

__all__ = ["ConceptImpact", "Evaluation", "FlippingCurves", "compared_areas", "compared_curves"]
