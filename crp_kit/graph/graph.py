"""The recorded graph: nodes in execution order, names, and who reads whom. Pure structure, values apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar

import torch

from ..errors import ConditionError, UnknownLayerError
from ..tables import shape_text, text_table
from .nested import Ref, leaves, mapped
from .operations import Kind, OperationSpec, Trait

__all__ = ["Graph", "Node", "Ref", "kept_on_graph"]

_Result = TypeVar("_Result")


def kept_on_graph(func: Callable[[Graph], _Result]) -> Callable[[Graph], _Result]:
    """Let a function of a graph be computed once for each graph, on which the result is kept."""
    key = f"{func.__module__}.{func.__name__}"

    @wraps(func)
    def kept(graph: Graph) -> _Result:
        if key not in vars(graph):
            vars(graph)[key] = func(graph)
        result: _Result = vars(graph)[key]
        return result

    return kept


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One torch call that the forward made with something that depends on the input.

    Parameters
    ----------
    index : int
        Position in execution order.
    spec : OperationSpec
        The operation, and what it is under LRP.
    owner : str
        Path of the innermost module that was running.
    func : callable
        Recomputes the result from `args` and `kwargs` with tensors in place of each `Ref`.
    args, kwargs
        What it was called with; a `Ref` stands where another node's output was passed.
    shapes : tuple of torch.Size or None
        Shape of each output; ``None`` for an output that is not a floating-point tensor.
    module : torch.nn.Module or None
        The module of which this is the only call, if there is one.
    name : str
        Unique in the graph, see `crp_kit.graph.recording.node_names`.
    """

    index: int
    spec: OperationSpec
    owner: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[torch.Size | None, ...]
    module: torch.nn.Module | None = None
    name: str = ""

    def __repr__(self) -> str:
        return f"Node({self.index}, {', '.join(self.summary())})"

    def summary(self) -> tuple[str, str, str]:
        """Return the name, the operation and the shapes of the outputs, as tables have them."""
        return self.name, self.op, ", ".join(shape_text(shape) for shape in self.shapes if shape is not None)

    @property
    def op(self) -> str:
        """Canonical name of the operation, for messages and tables; algorithms ask `spec` instead."""
        return self.spec.name

    @cached_property
    def kind(self) -> Kind:
        return self.spec.kind

    @cached_property
    def is_module(self) -> bool:
        """Whether a whole module is the node, and its inside is not recorded."""
        return self.spec.has(Trait.MODULE)

    @property
    def shape(self) -> torch.Size:
        """Shape of the first floating-point output."""
        return next(shape for shape in self.shapes if shape is not None)

    @cached_property
    def inputs(self) -> tuple[Ref, ...]:
        """The distinct outputs of other nodes that this call reads, in order of appearance."""
        return tuple(dict.fromkeys([leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Ref)]))

    @cached_property
    def value_inputs(self) -> tuple[Ref, ...]:
        """Those of its inputs whose values it reads, not only their shape, type or device."""
        if not self.spec.like:
            return self.inputs
        read = {leaf for leaf in leaves(self.spec.values_read(self.args, self.kwargs)) if isinstance(leaf, Ref)}
        return tuple(ref for ref in self.inputs if ref in read)

    def argument(self, name: str, default: Any = None) -> Any:
        """Return one argument by its parameter name."""
        return self.spec.argument(self.args, self.kwargs, name, default=default)

    def playing(self, names: tuple[str, ...]) -> tuple[Ref, ...]:
        """Return the distinct outputs of other nodes among arguments of some names, such as ``spec.factors``."""
        if not names:
            return ()
        read = self.spec.arguments(self.args, self.kwargs, names)
        return tuple(dict.fromkeys([ref for ref in read if isinstance(ref, Ref)]))

    def call(self, values: Mapping[Ref, torch.Tensor]) -> list[Any]:
        """Recompute the outputs from values for each `Ref`."""
        args, kwargs = mapped((self.args, self.kwargs), values.__getitem__, Ref)
        return leaves(self.func(*args, **kwargs))


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A recorded graph.

    Parameters
    ----------
    nodes : tuple of Node
        In execution order; the first ones are the model's inputs.
    output : Ref
        The model output that is attributed.
    names : dict
        Every name that may be used for a node, and the output it means; several names may mean one node.
    module_names : tuple of str
        Every module path of the model, also those that the forward never ran.
    batch : int
        Number of samples of the recorded forward.
    detached : frozenset of int
        Nodes from whose output no gradient leads back to what they read: they detach it, or ran under
        ``torch.no_grad``.
    named_after : Any, optional
        Runs of modules and names of calls, from which the names of the nodes follow.
    """

    nodes: tuple[Node, ...]
    output: Ref
    names: Mapping[str, Ref]
    module_names: tuple[str, ...] = ()
    batch: int = 1
    detached: frozenset[int] = frozenset()
    named_after: Any = ()

    def __repr__(self) -> str:
        rows = [node.summary() for node in self.nodes]
        return "\n".join([f"Graph of {len(rows)} nodes (name, operation, shape)", *text_table(rows)])

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def node(self, ref: Ref) -> Node:
        return self.nodes[ref.node]

    def shape(self, ref: Ref) -> torch.Size:
        """Shape of an output, batch axis included."""
        shape = self.nodes[ref.node].shapes[ref.output]
        if shape is None:
            raise ConditionError(f"{self.nodes[ref.node].name!r} has no floating-point output {ref.output}")
        return shape

    def sample_shape(self, ref: Ref) -> torch.Size:
        """Shape of an output for one sample, without the batch axis.

        Outputs that fold windows or heads into the batch axis keep them as their first axis.
        """
        shape = self.shape(ref)
        if not shape or shape[0] % self.batch:
            raise ConditionError(
                f"{self.nodes[ref.node].name!r} has an output of shape {tuple(shape)} for {self.batch} samples: "
                f"its first axis is not the batch axis, so it cannot be conditioned or recorded"
            )
        return shape[1:] if shape[0] == self.batch else torch.Size((shape[0] // self.batch, *shape[1:]))

    def find(self, name: str) -> Ref:
        """Return the output that a name means.

        Raises
        ------
        UnknownLayerError
            If there is no such name, or the module exists but the forward never ran it.
        """
        ref = self.names.get(name)
        if ref is not None:
            return ref
        outputs = [known for known in self.names if known.rpartition(":")[0] == name]
        if outputs:
            message = f"{name!r} has {len(outputs)} outputs ({', '.join(outputs)}): name one"
            raise UnknownLayerError(name, outputs, message)
        if name in self.module_names:
            raise UnknownLayerError(name, self.names, self._absence(name))
        raise UnknownLayerError(name, self.names)

    def _absence(self, name: str) -> str:
        """Return why a module of the model is no node."""
        for node in self.nodes:
            if node.is_module and (not node.owner or name.startswith(f"{node.owner}.")):
                return (
                    f"{name!r} lies inside {node.name!r}, which is one node: its inside cannot be recorded (a scripted "
                    f"module, a custom autograd function, sparse tensors), the composite has one rule for it, or it "
                    f"is declared elementwise"
                )
        return f"the forward never runs {name!r}, or makes no tensor there that depends on the input"

    def label(self, ref: Ref) -> str:
        """Return the name that the graph itself gives an output."""
        node = self.nodes[ref.node]
        has_more_outputs = sum(shape is not None for shape in node.shapes) > 1
        return f"{node.name}:{ref.output}" if has_more_outputs else node.name

    @cached_property
    def users(self) -> Mapping[Ref, tuple[int, ...]]:
        """Indices of the nodes that read each output."""
        readers: dict[Ref, list[int]] = {}
        for node in self.nodes:
            for ref in node.inputs:
                readers.setdefault(ref, []).append(node.index)
        return {ref: tuple(indices) for ref, indices in readers.items()}

    @cached_property
    def constants(self) -> frozenset[int]:
        """Nodes from whose output no gradient leads back to the input: detached ones, and what reads only such."""
        constants: set[int] = set()
        for node in self.nodes:
            read = {ref.node for ref in node.value_inputs}
            reads_constants = bool(read) and read <= constants
            if node.index in self.detached or reads_constants:
                constants.add(node.index)
        return frozenset(constants)

    @cached_property
    def structure(self) -> tuple[Any, ...]:
        """Equal for two recordings of the same calls, whatever their shapes."""
        return (self.output, *((node.spec, node.owner, node.name, node.inputs) for node in self.nodes))

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """Equal for two recordings whose relevance rules can be the same; an operation registered since is another."""
        return (self.output, *((node.spec, node.owner, node.name, node.shapes, node.inputs) for node in self.nodes))
