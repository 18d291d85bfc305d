"""Choice of layers: names, patterns and module types become nodes of the graph, in its order."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from ..errors import InputError, UnknownLayerError
from ..graph.activations import activation_behind
from ..graph.graph import Graph, Ref
from ..graph.name_patterns import is_plain, matching
from ..graph.operations import Kind
from ..graph.recording.shadow import unwrap
from ..propagation.run import Run

__all__ = ["LayerChoice", "select_layers", "suitable_layers"]

LayerChoice = str | type[nn.Module]


def select_layers(run: Run, model: nn.Module, wanted: LayerChoice | Iterable[LayerChoice]) -> tuple[str, ...]:
    """Return the names of the chosen layers in graph order, each node once.

    Parameters
    ----------
    run : Run
    model : torch.nn.Module
    wanted : str, module type, or several of them
        A name means its node. Any other string is a pattern for whole names: a regular expression, such as
        ``"layer[34].*conv3"``, or with wild cards, such as ``"features.*"``. Patterns and types choose among the nodes
        at which relevance can arrive and whose channels the graph knows. Of a node and the one behind its activation
        function, a pattern that fits both chooses the latter: relevance is the same, and a high value means more.

    Raises
    ------
    UnknownLayerError
        If a name or pattern matches nothing.
    InputError
        If nothing is chosen.
    """
    single = isinstance(wanted, (str, type)) or not isinstance(wanted, Iterable)
    choices: Sequence[Any] = [wanted] if single else list(wanted)  # type: ignore[arg-type]
    if not choices:
        raise InputError("no layers: name one at least, by its name, a pattern or a module type")
    for choice in choices:
        if not isinstance(choice, (str, type)):
            raise InputError(f"a layer is chosen by a name, a pattern or a module type; got {type(choice).__name__}")
    suitable = suitable_layers(run)
    names: dict[Ref, str] = {}
    for choice in choices:
        for name in _matching(run.graph, unwrap(model), choice, suitable):
            names.setdefault(run.graph.find(name), name)
    return tuple(names[ref] for ref in sorted(names))


def suitable_layers(run: Run) -> dict[str, Ref]:
    """Return the nodes at which relevance can arrive and whose channels are known, by their own names."""
    graph, reached = run.graph, run.plan.flow.from_start(run.graph.output)
    refs = (Ref(node.index, i) for node in graph for i in range(len(node.shapes)) if node.kind is not Kind.INPUT)
    return {
        graph.label(ref): ref
        for ref in refs
        if ref in reached and ref != graph.output and run.channel_axes.get(ref) is not None
    }


def _matching(graph: Graph, model: nn.Module, choice: LayerChoice, suitable: dict[str, Ref]) -> list[str]:
    if isinstance(choice, type):
        outputs = set(suitable.values())
        of_type = [name for name, module in model.named_modules() if isinstance(module, choice)]
        recordable = [name for name in of_type if graph.names.get(name) in outputs]
        if not recordable:
            raise InputError(f"no layer of type {choice.__name__} runs in this model and can be recorded")
        return recordable
    if choice in graph.names or choice in graph.module_names:
        graph.find(choice)
        return [choice]
    known = [
        *suitable,
        *(name for name in graph.names if name not in suitable and graph.names[name] in suitable.values()),
    ]
    matches = matching(choice, known)
    if not matches:
        if is_plain(choice):
            raise UnknownLayerError(choice, graph.names)
        near = difflib.get_close_matches(choice, known, n=2)
        raise InputError(
            f"no layer matches the pattern {choice!r}; the names are like {', '.join(near or list(suitable)[:3])}"
        )
    return _behind_activations(graph, {name: suitable.get(name, graph.names.get(name)) for name in matches})


def _behind_activations(graph: Graph, refs: dict[str, Ref | None]) -> list[str]:
    """Return the names of nodes but of those whose values another one of them has behind the activation function."""
    chosen = set(refs.values())
    return [name for name, ref in refs.items() if ref is None or activation_behind(graph, ref) not in chosen]
