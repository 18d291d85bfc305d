"""The traced model graph as users see it: layers, their inputs and users, shapes, and parallel paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from ..conditions import ConditionSet, OutputSelector, parse_conditions
from ..errors import InputError
from ..tables import shape_text, text_table
from .graph import Graph, Ref
from .operations import Kind
from .path_exclusion import Walk, nearest_upstream, parallel_edges
from .recording.record import Recording, record, seen_through
from .recording.shadow import make_shadow
from .relevance_edges import Flow


class ModelGraph:
    """The traced graph of a model. Made by `trace_model_graph`.

    Parameters
    ----------
    graph : Graph
        The recorded graph.
    layer_names : sequence of str or None
        The layers to speak of; ``None`` for every node.
    """

    def __init__(self, graph: Graph, layer_names: Sequence[str] | None = None) -> None:
        self._graph, self._flow = graph, Flow(graph)
        self._asked: dict[Ref, str] = {}
        for name in layer_names or ():
            self._asked.setdefault(graph.find(name), name)
        everything = [Ref(n.index, i) for n in graph for i, shape in enumerate(n.shapes) if shape is not None]
        self._layers = sorted(self._asked) or [ref for ref in everything if graph.node(ref).kind is not Kind.INPUT]

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers, in execution order."""
        return [self._label(ref) for ref in self._layers]

    def find_input_layers(self, layer_name: str) -> list[str]:
        """Return the layers that feed a layer, with none of the graph's layers between.

        Parameters
        ----------
        layer_name : str
            Name of a node of the recorded graph, one of `layer_names` or another.

        Returns
        -------
        list of str
            In execution order; empty for a layer that only the model input feeds.

        Raises
        ------
        UnknownLayerError
            If there is no such layer.
        """
        ref = self._graph.find(layer_name)
        return [self._label(feeding) for feeding in self._feeding(ref)[ref]]

    def find_users(self, layer_name: str) -> list[str]:
        """Return the layers that a layer feeds, with none of the graph's layers between.

        Parameters
        ----------
        layer_name : str
            Name of a node of the recorded graph, one of `layer_names` or another.

        Returns
        -------
        list of str
            In execution order; empty for a layer that no other one reads.

        Raises
        ------
        UnknownLayerError
            If there is no such layer.
        """
        ref = self._graph.find(layer_name)
        return [self._label(user) for user, feeding in self._feeding(ref).items() if ref in feeding]

    def shape(self, layer_name: str) -> torch.Size:
        """Return the shape of a layer's output for one sample, without the batch axis.

        Parameters
        ----------
        layer_name : str
            Name of a node of the recorded graph, one of `layer_names` or another.

        Returns
        -------
        torch.Size
            Such as (channel, height, width).

        Raises
        ------
        UnknownLayerError
            If there is no such layer.
        """
        return self._graph.sample_shape(self._graph.find(layer_name))

    def parallel_nodes(self, condition: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the edges that path exclusion cuts under a condition set.

        Parameters
        ----------
        condition : dict
            A condition set; only the layers it names matter.

        Returns
        -------
        list of (str, str)
            (node, reader of that node), in execution order: connections that would carry relevance past the conditioned
            layers.
        """
        edges = parallel_edges(self._walk(ConditionSet.of(condition)))
        return [(self._graph.label(ref), self._graph.nodes[index].name) for ref, index in edges]

    def exclude_parallel_layers(self, conditions: Any) -> list[dict[str, list[Any]]]:
        """Return the condition sets with the graph's parallel layers added as ``[]``.

        A layer is added if it carries relevance only past the conditioned layers: all of its connections are cut.

        Parameters
        ----------
        conditions : dict or list of dict
            Condition sets; only the layers that they name matter.

        Returns
        -------
        list of dict
            In the order of `conditions`.

        Raises
        ------
        ConditionError
            If a condition set is not valid.
        UnknownLayerError, UnreachableLayerError
            If there is no layer of such a name, or no relevance can pass it.
        """
        return [self._excluded(condition) for condition in parse_conditions(conditions)]

    def _excluded(self, condition: ConditionSet) -> dict[str, list[Any]]:
        walk = self._walk(condition)
        kept = {index for segment in walk.segments() for index in segment.nodes} | {r.node for r in walk.conditioned}
        carrying = walk.flow.from_start(walk.start) & walk.flow.reaching_input
        added = [ref for ref in self._layers if ref.node not in kept and ref in carrying]
        closed: dict[str, list[Any]] = {self._label(ref): [] for ref in added}
        return {**condition.as_dict(), **closed}

    def _walk(self, condition: ConditionSet) -> Walk:
        refs = tuple(dict.fromkeys(self._graph.find(name) for name in condition.layer_names))
        walk = Walk(self._flow, self._graph.output, refs)
        walk.check()
        return walk

    @cached_property
    def _nearest(self) -> Mapping[Ref, tuple[Ref, ...]]:
        return self._feeding_each(self._layers)

    def _feeding(self, ref: Ref) -> Mapping[Ref, tuple[Ref, ...]]:
        """Return what feeds each of the layers, and `ref`, which may be one more."""
        return self._nearest if ref in self._nearest else self._feeding_each(sorted([*self._layers, ref]))

    def _feeding_each(self, layers: Sequence[Ref]) -> Mapping[Ref, tuple[Ref, ...]]:
        """Return the nearest layers upstream of each, gates included."""
        return nearest_upstream([node.inputs for node in self._graph], layers)

    def _label(self, ref: Ref) -> str:
        return self._asked.get(ref) or self._graph.label(ref)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        graph = self._graph
        rows = [
            (self._label(ref), graph.node(ref).op, shape_text(graph.shape(ref)), f"<- {_joined(map(self._label, up))}")
            for ref, up in self._nearest.items()
        ]
        return "\n".join([f"ModelGraph of {len(rows)} layers (name, operation, shape, fed by)", *text_table(rows)])


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names) or "the model input"


def trace_model_graph(
    model: torch.nn.Module,
    sample: Any,
    layer_names: Sequence[str] | None = None,
    *,
    output: OutputSelector = None,
) -> ModelGraph:
    """Run a model once and return its traced graph.

    Parameters
    ----------
    model : torch.nn.Module
        It is left as it is.
    sample : torch.Tensor, tuple or dict
        Model input, (batch, channel, height, width) for images; a batch of one is enough.
    layer_names : sequence of str, optional
        The layers to connect, such as all convolutions; every recorded node by default. See `get_layer_names`.
    output : str, int or callable, optional
        Which part of the model's output counts, if that is not one tensor.

    Returns
    -------
    ModelGraph

    Raises
    ------
    UnknownLayerError
        If a name means no node of the graph.
    ModelError
        If the forward fails or the output is no tensor.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> trace_model_graph(model, torch.zeros(1, 3, 4, 4), ["0", "3"])
    ModelGraph of 2 layers (name, operation, shape, fed by)
    0  conv2d  1x4x2x2  <- the model input
    3  linear  1x2      <- 0
    """
    return ModelGraph(record_once(model, sample, output=output).graph, layer_names)


def record_once(model: torch.nn.Module, sample: Any, *, output: OutputSelector = None) -> Recording:
    """Record a model from scratch: shadow copy, search for hidden parts, forward."""
    shadow = make_shadow(model)
    opaque, known = seen_through(shadow, sample, output=output)
    return record(shadow, sample, output=output, opaque=opaque, known=known)


def get_layer_names(
    model: torch.nn.Module, types: type | tuple[type, ...] | Sequence[type] | None = None, *, pattern: str | None = None
) -> list[str]:
    """Return the names of a model's modules.

    Parameters
    ----------
    model : torch.nn.Module
        The model, which is not run.
    types : type or sequence of type, optional
        Module types to keep, such as ``torch.nn.Conv2d``; by default every module without children.
    pattern : str, optional
        Regular expression that the whole name has to match.

    Returns
    -------
    list of str
        In the order of registration. Names of functional nodes (``layer1.0.add``) are in ``trace_model_graph(...)``.

    Raises
    ------
    InputError
        If `types` is something else, such as a sample.

    Examples
    --------
    >>> get_layer_names(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()), torch.nn.Conv2d)
    ['0']
    """
    chosen = None if types is None else tuple(types) if isinstance(types, Sequence) else (types,)
    if chosen is not None and not all(isinstance(kind, type) for kind in chosen):
        raise InputError(
            f"types is one type of modules or several, such as torch.nn.Conv2d; got {type(types).__name__}. Names of "
            f"all nodes for a sample are in trace_model_graph(model, sample).layer_names"
        )
    return [
        name
        for name, module in model.named_modules()
        if name
        and (isinstance(module, chosen) if chosen is not None else not any(True for _ in module.children()))
        and (pattern is None or re.fullmatch(pattern, name))
    ]
