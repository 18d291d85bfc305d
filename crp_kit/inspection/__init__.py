"""What is done where: the rule of each node, the indices by which rules can be given, and what to know before a run."""

from .check import Finding, ModelCheck, check_model
from .layers import LayerIndex, LayerIndices, show_layer_indices
from .table import RuleRow, RuleTable, rule_table

__all__ = [
    "Finding",
    "LayerIndex",
    "LayerIndices",
    "ModelCheck",
    "RuleRow",
    "RuleTable",
    "check_model",
    "rule_table",
    "show_layer_indices",
]
