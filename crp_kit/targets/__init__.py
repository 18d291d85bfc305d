"""Targets: what relevance starts from, where that is more than a class."""

from .base import Target
from .boxes import Box
from .classes import Class, Contrast, Value
from .functions import Function, Similarity
from .regions import Region
from .text import parse_target

__all__ = ["Box", "Class", "Contrast", "Function", "Region", "Similarity", "Target", "Value", "parse_target"]
