"""Region maps: an image cut into regions, and the concept of a layer that dominates in each of them."""

from .compute import region_map
from .result import RegionMap
from .segments import segment

__all__ = ["RegionMap", "region_map", "segment"]
