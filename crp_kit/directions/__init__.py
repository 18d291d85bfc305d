"""Directions of a study's data: fitted to a layer, and of two groups of samples."""

from .fit import FitOptions, fitted_directions
from .vectors import concept_vector

__all__ = ["FitOptions", "concept_vector", "fitted_directions"]
