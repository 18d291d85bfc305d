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
    from .concepts import ChannelConcept, Concept, NeuronConcept
    from .conditions import ConditionSet
    from .errors import CrpKitError, CrpKitWarning
    from .graph.trace import ModelGraph, get_layer_names, trace_model_graph
    from .result import Attribution

__all__ = [
    "Attribution",
    "ChannelConcept",
    "Concept",
    "ConceptAtlas",
    "CondAttribution",
    "ConditionSet",
    "CrpKitError",
    "CrpKitWarning",
    "ModelGraph",
    "NeuronConcept",
    "__version__",
    "atlas",
    "build_atlas",
    "data",
    "get_layer_names",
    "image",
    "merge_atlases",
    "plot",
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
    "CrpKitError": "errors",
    "CrpKitWarning": "errors",
    "ModelGraph": "graph.trace",
    "NeuronConcept": "concepts",
    "build_atlas": "atlas",
    "get_layer_names": "graph.trace",
    "merge_atlases": "atlas",
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
