"""Inspection of a model before a run: the rule of each node, layer indices for rule maps, and a check."""

from .check import Finding, ModelCheck, check_model
from .layer_guide import LayerGuide, layer_guide
from .layers import LayerIndex, LayerIndices, show_layer_indices
from .table import RuleRow, RuleTable, rule_table

__all__ = [
    "Finding",
    "LayerGuide",
    "LayerIndex",
    "LayerIndices",
    "ModelCheck",
    "RuleRow",
    "RuleTable",
    "check_model",
    "layer_guide",
    "rule_table",
    "show_layer_indices",
]
