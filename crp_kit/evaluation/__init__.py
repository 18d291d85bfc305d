"""Evaluation: whether the concepts that relevance names matter to the model."""

from .curves import FlippingCurves
from .evaluation import Evaluation

__all__ = ["Evaluation", "FlippingCurves"]
