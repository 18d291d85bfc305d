"""Targets: what relevance starts from, where that is more than a class."""

from .base import Target
from .classes import Class, Contrast, Value
from .functions import Function, Similarity
from .regions import Region

__all__ = ["Class", "Contrast", "Function", "Region", "Similarity", "Target", "Value"]
