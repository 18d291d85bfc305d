"""Evaluation: whether the concepts that relevance names matter to the model."""

from .comparison import compared_areas, compared_curves
from .curves import FlippingCurves
from .evaluation import Evaluation

__all__ = ["Evaluation", "FlippingCurves", "compared_areas", "compared_curves"]
