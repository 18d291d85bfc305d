"""Rule maps: composites from rules by module type, name, pattern or layer index."""

from .rule_maps import (
    FirstLayerMap,
    FirstLayerTypeMap,
    FirstNTypeMap,
    GlobalMap,
    GlobalTypeMap,
    LastLayerMap,
    LastLayerTypeMap,
    LayerMap,
    RangeMap,
    RangeTypeMap,
    RuleMap,
    compose,
)

__all__ = [
    "FirstLayerMap",
    "FirstLayerTypeMap",
    "FirstNTypeMap",
    "GlobalMap",
    "GlobalTypeMap",
    "LastLayerMap",
    "LastLayerTypeMap",
    "LayerMap",
    "RangeMap",
    "RangeTypeMap",
    "RuleMap",
    "compose",
]
