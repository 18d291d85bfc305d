"""Concept Relevance Propagation on PyTorch and zennit.

Which concepts a vision model used, where in the image, and what each concept looks like in the data. Names are imported
when they are first used, so that ``import crp_kit`` itself is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import atlas, data, image, plot
    from .atlas import ConceptAtlas, build_atlas, merge_atlases, verify_atlas
    from .attribution import CondAttribution
    from .concepts import ChannelConcept, Concept, HeadConcept, NeuronConcept, TokenConcept
    from .conditions import ConditionSet
    from .diagnostics import ConservationReport
    from .errors import CrpKitError, CrpKitWarning
    from .graph.trace import ModelGraph, get_layer_names, trace_model_graph
    from .inspection import check_model, rule_table, show_layer_indices
    from .result import Attribution

__all__ = [
    "Attribution",
    "ChannelConcept",
    "Concept",
    "ConceptAtlas",
    "CondAttribution",
    "ConditionSet",
    "ConservationReport",
    "CrpKitError",
    "CrpKitWarning",
    "HeadConcept",
    "ModelGraph",
    "NeuronConcept",
    "TokenConcept",
    "__version__",
    "atlas",
    "build_atlas",
    "check_model",
    "data",
    "get_layer_names",
    "image",
    "merge_atlases",
    "plot",
    "rule_table",
    "show_layer_indices",
    "trace_model_graph",
    "verify_atlas",
]

_HOME = {
    "Attribution": "result",
    "ChannelConcept": "concepts",
    "Concept": "concepts",
    "ConceptAtlas": "atlas",
    "CondAttribution": "attribution",
    "ConditionSet": "conditions",
    "ConservationReport": "diagnostics",
    "CrpKitError": "errors",
    "CrpKitWarning": "errors",
    "HeadConcept": "concepts",
    "ModelGraph": "graph.trace",
    "NeuronConcept": "concepts",
    "TokenConcept": "concepts",
    "build_atlas": "atlas",
    "check_model": "inspection",
    "get_layer_names": "graph.trace",
    "merge_atlases": "atlas",
    "rule_table": "inspection",
    "show_layer_indices": "inspection",
    "trace_model_graph": "graph.trace",
    "verify_atlas": "atlas",
}


def __getattr__(name: str) -> Any:
    """Import a public name, or a public module, when it is first used."""
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *__all__])
