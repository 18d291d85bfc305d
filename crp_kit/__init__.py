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
    from .concept_graph import ConceptGraph
    from .concepts import ChannelConcept, Concept, HeadConcept, NeuronConcept, TokenConcept
    from .conditions import ConditionSet
    from .diagnostics import ConservationReport
    from .errors import CrpKitError, CrpKitWarning
    from .graph.trace import ModelGraph, get_layer_names, trace_model_graph
    from .inspection import check_model, rule_table, show_layer_indices
    from .regions import RegionMap, region_map
    from .report import build_report
    from .result import Attribution
    from .virelay import export_virelay

__all__ = [
    "Attribution",
    "ChannelConcept",
    "Concept",
    "ConceptAtlas",
    "ConceptGraph",
    "CondAttribution",
    "ConditionSet",
    "ConservationReport",
    "CrpKitError",
    "CrpKitWarning",
    "HeadConcept",
    "ModelGraph",
    "NeuronConcept",
    "RegionMap",
    "TokenConcept",
    "__version__",
    "atlas",
    "build_atlas",
    "build_report",
    "check_model",
    "data",
    "export_virelay",
    "get_layer_names",
    "image",
    "merge_atlases",
    "plot",
    "region_map",
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
    "ConceptGraph": "concept_graph",
    "CondAttribution": "attribution",
    "ConditionSet": "conditions",
    "ConservationReport": "diagnostics",
    "CrpKitError": "errors",
    "CrpKitWarning": "errors",
    "HeadConcept": "concepts",
    "ModelGraph": "graph.trace",
    "NeuronConcept": "concepts",
    "RegionMap": "regions",
    "TokenConcept": "concepts",
    "build_atlas": "atlas",
    "build_report": "report",
    "check_model": "inspection",
    "export_virelay": "virelay",
    "get_layer_names": "graph.trace",
    "merge_atlases": "atlas",
    "region_map": "regions",
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
