"""Models by name, their state dicts, checks of their parameters."""

from ..data.preprocess import Preprocess
from .load import LoadedModel, load_model

__all__ = ["LoadedModel", "Preprocess", "load_model"]
