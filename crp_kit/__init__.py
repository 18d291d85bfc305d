"""Concept Relevance Propagation on PyTorch and zennit.

Which concepts a vision model used, where in the image, and what each concept looks like in the data.
"""

from .attribution import CondAttribution
from .concepts import ChannelConcept, Concept, NeuronConcept
from .conditions import ConditionSet
from .errors import CrpKitError, CrpKitWarning
from .graph.trace import ModelGraph, get_layer_names, trace_model_graph
from .result import Attribution

__version__ = "0.1.0"

__all__ = [
    "Attribution",
    "ChannelConcept",
    "Concept",
    "CondAttribution",
    "ConditionSet",
    "CrpKitError",
    "CrpKitWarning",
    "ModelGraph",
    "NeuronConcept",
    "get_layer_names",
    "trace_model_graph",
]
