"""Layers of a recorded graph that a rule can be given to, numbered in execution order."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from zennit.layer import Sum
from zennit.types import SubclassMeta

from ...errors import CompositeError, UnknownLayerError
from ...graph.graph import Graph, Node
from ...graph.name_patterns import is_plain, matching
from ...graph.operations import Kind, Trait
from ..module_stand_ins import FAMILY, STAND_INS

__all__ = ["Layer", "Layers", "Types", "type_text"]

Types = type | tuple[type, ...]

_NO_LAYER = (Kind.INPUT, Kind.DETACHED)
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Layer:
    """A node that a rule can be given to.

    Parameters
    ----------
    index : int
        Number among the layers, in execution order.
    name : str
    op : str
        Canonical name of the operation.
    modules : tuple of torch.nn.Module
        The modules for which composites are asked: its own, its stand-in.
    family : torch.nn.Module or None
        A module of the same family, for operations that none of zennit's types knows.
    """

    index: int
    name: str
    op: str
    modules: tuple[nn.Module, ...]
    family: nn.Module | None

    @property
    def type(self) -> str:
        """Name of the class that types are compared with, or of the operation if there is none."""
        return type(self.modules[0]).__name__ if self.modules else self.op

    def is_a(self, types: Types) -> bool:
        """Return whether the layer is of one of these types: its module, its stand-in, or zennit's type for both."""
        members = types if isinstance(types, tuple) else (types,)
        families = tuple(member for member in members if isinstance(member, SubclassMeta) or member is Sum)
        return any(isinstance(module, members) for module in self.modules) or isinstance(self.family, families)


class Layers:
    """The layers of a recorded graph that a rule can be given to, by index.

    Everything that computes has an index: linear layers, norms (those too that are folded into a convolution),
    activations, sums, products, poolings, softmax, whole modules that are one node, unknown operations; one for each
    time it runs. What only moves values has none: inputs, reshapes, slices, concatenations, dropout.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        nodes = [node for node in graph if _computes(node)]
        self._layers = tuple(_layer(index, node) for index, node in enumerate(nodes))
        self._by_name = {layer.name: layer for layer in self._layers}

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __getitem__(self, index: int) -> Layer:
        return self._layers[index]

    def index_of(self, name: str) -> int | None:
        """Return the index of a node, or None if it has none."""
        layer = self._by_name.get(name)
        return None if layer is None else layer.index

    def chosen(self, choice: Any) -> list[int]:
        """Return the indices that a choice means.

        Parameters
        ----------
        choice : int, str, type, slice, range, or a list or tuple of these
            Indices below zero count from the end; a slice is cut to what there is, as Python does it.

        Raises
        ------
        CompositeError
            If nothing is chosen, an index is out of range, or a name has no rule or means several layers.
        UnknownLayerError
            If there is no such name.
        """
        if isinstance(choice, (list, tuple)):
            return [index for part in choice for index in self.chosen(part)]
        if isinstance(choice, slice):
            return list(range(len(self)))[choice]
        if isinstance(choice, range):
            return [self._at(index) for index in choice]
        if isinstance(choice, int):
            return [self._at(choice)]
        return self._named(choice) if isinstance(choice, str) else self._of_type(choice)

    def _at(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            allowed = f"from 0 to {len(self) - 1}, or -1 for the last one" if len(self) else "there is none to choose"
            raise CompositeError(
                f"no layer has the index {index}: the model runs {len(self)} layers, {allowed}; see "
                f"crp_kit.show_layer_indices"
            )
        return index % len(self)

    def _of_type(self, types: type) -> list[int]:
        indices = [layer.index for layer in self if layer.is_a(types)]
        if not indices:
            known = ", ".join(sorted({layer.type for layer in self}))
            raise CompositeError(f"no layer of type {type_text(types)} runs in this model; its layers are {known}")
        return indices

    def _named(self, text: str) -> list[int]:
        layer = self._by_name.get(text)
        if layer is not None:
            return [layer.index]
        if text in self.graph.names or text in self.graph.module_names:
            return [self._inside(text)]
        matches = [self._by_name[name].index for name in matching(text, self._by_name)]
        if not matches and is_plain(text):
            raise UnknownLayerError(text, self._by_name)
        if not matches:
            near = difflib.get_close_matches(text, self._by_name, n=2) or list(self._by_name)[:2]
            raise CompositeError(
                f"no layer matches the pattern {text!r}; the names are like {', '.join(near)}; see "
                f"crp_kit.show_layer_indices"
            )
        return matches

    def _inside(self, path: str) -> int:
        """Return the one layer that the name of a module or of an output stands for."""
        node = self.graph.node(self.graph.find(path))
        layers = [layer for layer in self if layer.name.startswith(f"{path}.")]
        if not layers and node.name in self._by_name and node.name != path:
            layers = [self._by_name[node.name]]
        if not layers:
            raise CompositeError(
                f"{path!r} ({node.op}) computes nothing that a rule could change: it hands values on; see "
                f"crp_kit.show_layer_indices"
            )
        if len(layers) > 1:
            named = ", ".join(repr(layer.name) for layer in layers[:_SHOWN]) + (", …" if len(layers) > _SHOWN else "")
            raise CompositeError(
                f"{path!r} has {len(layers)} layers in it ({named}): name one of them, or say '{path}.*' for all"
            )
        return layers[0].index


def _computes(node: Node) -> bool:
    if node.kind is Kind.STRUCTURAL:
        return node.spec.has(Trait.MAXIMUM)
    return node.kind not in _NO_LAYER


def _layer(index: int, node: Node) -> Layer:
    has_own_step = node.spec.step is not None
    stand_in, family = (None, None) if has_own_step else (STAND_INS.get(node.op), FAMILY.get(node.kind))
    modules = [] if node.module is None else [node.module]
    if stand_in is not None and not any(isinstance(module, type(stand_in())) for module in modules):
        modules.append(stand_in())
    return Layer(index, node.name, node.op, tuple(modules), None if family is None else family())


def type_text(types: Any) -> str:
    """Return the names of a type or of several."""
    if isinstance(types, Iterable) and not isinstance(types, type):
        return "(" + ", ".join(map(type_text, types)) + ")"
    return getattr(types, "__name__", str(types))
