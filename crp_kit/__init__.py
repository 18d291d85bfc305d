"""Concept Relevance Propagation on PyTorch and zennit.

Which concepts a vision model used, where in the image, and what each concept looks like in the data. Names are imported
when they are first used, so that ``import crp_kit`` itself is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .lazy_names import lazy_name
from .version import __version__

if TYPE_CHECKING:
    from . import atlas, data, targets
    from .allocator import FreedMemory, keep_freed_memory
    from .atlas import (
        BuildOptions,
        ConceptAtlas,
        Origin,
        annotate_atlas,
        compare_atlases,
        export_atlas,
        merge_atlases,
        verify_atlas,
    )
    from .attribution.cond_attribution import CondAttribution
    from .attribution.conservation import ConservationReport
    from .attribution.result import Attribution
    from .concept_graph import ConceptGraph
    from .concepts import (
        ChannelConcept,
        Concept,
        DictionaryConcept,
        DirectionConcept,
        HeadConcept,
        NeuronConcept,
        TokenConcept,
        load_directions,
    )
    from .conditions import ConditionSet
    from .data.preprocess import Preprocess
    from .data.sources import load_data
    from .errors import CrpKitError, CrpKitWarning
    from .evaluation import Evaluation
    from .graph.model_graph import ModelGraph, get_layer_names, trace_model_graph
    from .graph.operations import OperationSpec
    from .graph.registry import register_operation
    from .inspection import check_model, rule_table, show_layer_indices
    from .models import LoadedModel, load_model
    from .models.detectors import detector
    from .region_map import RegionMap
    from .study import Study
    from .views import image, plot
    from .views.report import ReportOptions

__all__ = [
    "Attribution",
    "BuildOptions",
    "ChannelConcept",
    "Concept",
    "ConceptAtlas",
    "ConceptGraph",
    "CondAttribution",
    "ConditionSet",
    "ConservationReport",
    "CrpKitError",
    "CrpKitWarning",
    "DictionaryConcept",
    "DirectionConcept",
    "Evaluation",
    "FreedMemory",
    "HeadConcept",
    "LoadedModel",
    "ModelGraph",
    "NeuronConcept",
    "OperationSpec",
    "Origin",
    "Preprocess",
    "RegionMap",
    "ReportOptions",
    "Study",
    "TokenConcept",
    "__version__",
    "annotate_atlas",
    "atlas",
    "check_model",
    "compare_atlases",
    "data",
    "detector",
    "export_atlas",
    "get_layer_names",
    "image",
    "keep_freed_memory",
    "load_data",
    "load_directions",
    "load_model",
    "merge_atlases",
    "plot",
    "register_operation",
    "rule_table",
    "show_layer_indices",
    "targets",
    "trace_model_graph",
    "verify_atlas",
]

_HOME = {
    "Attribution": "attribution.result",
    "BuildOptions": "atlas",
    "ChannelConcept": "concepts",
    "Concept": "concepts",
    "ConceptAtlas": "atlas",
    "ConceptGraph": "concept_graph",
    "CondAttribution": "attribution.cond_attribution",
    "ConditionSet": "conditions",
    "ConservationReport": "attribution.conservation",
    "CrpKitError": "errors",
    "CrpKitWarning": "errors",
    "DictionaryConcept": "concepts",
    "DirectionConcept": "concepts",
    "Evaluation": "evaluation",
    "FreedMemory": "allocator",
    "HeadConcept": "concepts",
    "LoadedModel": "models",
    "ModelGraph": "graph.model_graph",
    "NeuronConcept": "concepts",
    "OperationSpec": "graph.operations",
    "Origin": "atlas",
    "Preprocess": "data.preprocess",
    "RegionMap": "region_map",
    "ReportOptions": "views.report",
    "Study": "study",
    "TokenConcept": "concepts",
    "annotate_atlas": "atlas",
    "check_model": "inspection",
    "compare_atlases": "atlas",
    "detector": "models.detectors",
    "export_atlas": "atlas",
    "get_layer_names": "graph.model_graph",
    "keep_freed_memory": "allocator",
    "load_directions": "concepts",
    "load_data": "data.sources",
    "load_model": "models",
    "merge_atlases": "atlas",
    "register_operation": "graph.registry",
    "rule_table": "inspection",
    "show_layer_indices": "inspection",
    "trace_model_graph": "graph.model_graph",
    "verify_atlas": "atlas",
}
_MODULES = {"atlas": "atlas", "data": "data", "image": "views.image", "plot": "views.plot", "targets": "targets"}


def __getattr__(name: str) -> Any:
    """Import a public name, or a public module, when it is first used."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return lazy_name(__name__, _HOME, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *__all__])
