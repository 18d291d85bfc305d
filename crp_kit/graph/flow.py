"""Where relevance can flow: which inputs of a node carry it, and along which axis each node keeps its channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from .nodes import Graph, Node, Ref
from .ops import GATE_SOURCES, Kind


@dataclass(frozen=True, eq=False)
class Flow:
    """The edges of a recorded graph that carry relevance.

    Parameters
    ----------
    graph : Graph
    gradient : bool
        Every differentiable edge carries (plain gradients), instead of those that LRP uses: signals, not the gates that
        multiply them, numerators, not denominators, values, not attention weights.
    """

    graph: Graph
    gradient: bool = False

    @cached_property
    def carrying(self) -> tuple[tuple[Ref, ...], ...]:
        """For each node, the inputs that receive relevance from it."""
        return tuple(self._carrying(node) for node in self.graph)

    def _carrying(self, node: Node) -> tuple[Ref, ...]:
        if node.kind is Kind.DETACHED:
            return ()
        if self.gradient or node.kind is not Kind.PRODUCT:
            return node.inputs
        return signals(self.graph, node, self._is_gate)

    @cached_property
    def _gates(self) -> dict[int, bool]:
        return {}

    def _is_gate(self, operand: Any) -> bool:
        """Return whether an operand is the output of a gate, perhaps scaled, shifted, moved around."""
        if not isinstance(operand, Ref):
            return False
        found = self._gates.get(operand.node)
        if found is None:
            node = self.graph.node(operand)
            if node.op in GATE_SOURCES:
                found = True
            elif node.kind in (Kind.STRUCTURAL, Kind.AFFINE, Kind.SUM) or node.op in ("mul", "div"):
                found = bool(node.inputs) and all(self._is_gate(ref) for ref in node.inputs)
            else:
                found = False
            self._gates[operand.node] = found
        return found

    # ------------------------------------------------------------------ reachability

    @cached_property
    def reaching_input(self) -> frozenset[Ref]:
        """Return every output from which relevance can walk to the model input."""
        reaches: set[int] = set()
        for node in self.graph:
            if node.kind is Kind.INPUT or any(ref.node in reaches for ref in self.carrying[node.index]):
                reaches.add(node.index)
        return frozenset(Ref(i, j) for i in reaches for j in range(len(self.graph.nodes[i].shapes)))

    def upstream_marks(self, marked: Sequence[Ref]) -> list[int]:
        """For each node, a bit set of the marked outputs that lie strictly upstream of it."""
        bits = {ref: 1 << place for place, ref in enumerate(marked)}
        above = [0] * len(self.graph)
        for node in self.graph:
            for ref in self.carrying[node.index]:
                above[node.index] |= above[ref.node] | bits.get(ref, 0)
        return above

    def from_start(self, start: Ref) -> frozenset[Ref]:
        """Return every output that relevance from `start` can reach, `start` included."""
        reached = {start}
        for index in range(start.node, -1, -1):
            node = self.graph.nodes[index]
            if any(Ref(index, output) in reached for output in range(len(node.shapes))):
                reached.update(self.carrying[index])
        return frozenset(reached)


def signals(graph: Graph, node: Node, is_gate: Any) -> tuple[Ref, ...]:
    """Return the operands of a product that are signals.

    A gate (something behind a sigmoid, softmax or reciprocal deviation) multiplies a signal; of two operands of
    different size the smaller, broadcast one is the gate; two signals of one size share.
    """
    if node.op == "div":
        return tuple(ref for ref in node.args[:1] if isinstance(ref, Ref))
    if node.op == "scaled_dot_product_attention":
        return tuple(ref for ref in (node.argument("value"),) if isinstance(ref, Ref))
    if node.op == "einsum":
        operands = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], (tuple, list)) else node.args[1:]
    elif node.op == "baddbmm":
        operands = node.args[1:3]
    else:
        operands = (*node.args[:2], *node.kwargs.values())
    live = tuple(dict.fromkeys(one for one in operands if isinstance(one, Ref)))
    kept = tuple(ref for ref in live if not is_gate(ref)) or live[:1]
    if node.op == "mul" and len(kept) == 2:
        sizes = [math.prod(graph.shape(ref)) for ref in kept]
        if sizes[0] != sizes[1]:
            kept = (kept[sizes.index(max(sizes))],)
    if node.op == "baddbmm" and isinstance(node.args[0], Ref) and not is_gate(node.args[0]):
        kept = (node.args[0], *kept)
    return kept


def channel_axes(graph: Graph) -> Mapping[Ref, int | None]:
    """Return, for each output, the axis along which it keeps its channels (batch axis counted), or None if unknown.

    Convolutions, their norms and poolings keep channels on axis 1, linear layers and layer norms on the last; other
    operations inherit from what they read.
    """
    axes: dict[Ref, int | None] = {}
    for node in graph:
        for output, shape in enumerate(node.shapes):
            if shape is not None:
                axes[Ref(node.index, output)] = _channel_axis(graph, node, shape, axes)
    return axes


def _channel_axis(graph: Graph, node: Node, shape: torch.Size, axes: Mapping[Ref, int | None]) -> int | None:
    if len(shape) < 2:
        return None
    if node.kind in (Kind.INPUT, Kind.OPAQUE):
        return {2: 1, 4: 1, 5: 1}.get(len(shape))
    if node.op in ("linear", "addmm"):
        return len(shape) - 1
    if node.kind is Kind.LINEAR or node.op in ("batch_norm", "group_norm", "instance_norm", "local_response_norm"):
        return 1
    if node.op in ("layer_norm", "rms_norm") and len(node.argument("normalized_shape") or ()) == 1:
        return len(shape) - 1
    if len(shape) == 2:
        return 1
    sources = [ref for ref in node.inputs if axes.get(ref) is not None]
    if not sources:
        return None
    source = max(sources, key=lambda ref: math.prod(graph.shape(ref)))
    return _moved(node, graph.shape(source), shape, axes[source])


def _moved(node: Node, before: torch.Size, after: torch.Size, axis: int | None) -> int | None:
    """Follow an axis through one operation."""
    if axis is None:
        return None
    if node.op in ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT"):
        probe = torch.empty(tuple(range(2, 2 + len(before))), device="meta")
        moved = node.func(probe, *node.args[1:], **node.kwargs)
        return next((i for i, size in enumerate(moved.shape) if size == axis + 2), None)
    if node.op in ("reshape", "view", "flatten", "unflatten"):
        return _reshaped(before, after, axis)
    if len(before) == len(after):
        same = before[axis] == after[axis] or node.op in ("cat", "chunk", "split", "getitem", "narrow", "mul", "add")
        return axis if same else None
    if node.op in ("mean", "sum", "amax", "max", "squeeze", "getitem", "select", "unsqueeze", "cat"):
        kept = [i for i, size in enumerate(after) if size == before[axis]]
        return kept[0] if len(kept) == 1 and before.numel() and list(before).count(before[axis]) == 1 else None
    return None


def _reshaped(before: torch.Size, after: torch.Size, axis: int) -> int | None:
    """Follow an axis through a reshape that leaves it whole: the same elements before it and after it."""
    outer, inner = math.prod(before[:axis]), math.prod(before[axis + 1 :])
    for i, size in enumerate(after):
        if size == before[axis] and math.prod(after[:i]) == outer and math.prod(after[i + 1 :]) == inner:
            return i
    return None
