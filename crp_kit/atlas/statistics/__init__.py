"""Statistics of an atlas: rankings, moments and matrix of scores, each an object with its arrays, merge and checks."""

from ..file.file_tree import array_spec
from .base import ArrayField, Block, Statistic
from .group_array import GroupArray
from .table import register_statistic, unregister_statistic

__all__ = ["ArrayField", "Block", "GroupArray", "Statistic", "array_spec", "register_statistic", "unregister_statistic"]
