"""Targets: what relevance starts from, where that is more than a class."""

from .base import Target
from .binary import Binary
from .boxes import Box
from .by_class import target_by_class
from .classes import Class, Contrast, Value
from .functions import Function, Similarity
from .regions import Region
from .text import parse_target

__all__ = [
    "Binary",
    "Box",
    "Class",
    "Contrast",
    "Function",
    "Region",
    "Similarity",
    "Target",
    "Value",
    "parse_target",
    "target_by_class",
]
