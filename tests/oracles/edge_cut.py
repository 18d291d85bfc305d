"""Path exclusion by cutting edges of the fx graph.

An edge alone does not know which conditioned node a path through it passed before, and an edge that is fine for one
path may be forbidden for another. So the graph has one copy of each node for each conditioned node that may come next
below it on a path to the output (its *state*); edges on no path that counts are detached.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from .detached import DetachedNonlinearities
from .fx_graph import trace
from .start import output_tensor
from .whole_model import FORWARD_TOLERANCE, Mask, float64_copy

State = fx.Node | None
OUT_OF_PLACE: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def fx_edge_cut(model: nn.Module, x: torch.Tensor, selection: torch.Tensor, masks: Mapping[str, Mask]) -> torch.Tensor:
    """Input relevance of the paths whose conditioned nodes form a maximal chain.

    Parameters
    ----------
    model : nn.Module
        A model that torch.fx can trace, in evaluation mode.
    x, selection : Tensor
        As for ``whole_model_relevance``.
    masks : mapping of str to callable
        For each node name, as torchvision's feature extraction names it, a function that multiplies relevance.

    Returns
    -------
    Tensor
        Input relevance in float64, of the input's shape.
    """
    own = float64_copy(model)
    for module in own.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    nodes, names = trace(own)
    named = {name: node for node, name in names.items()}
    cut = _CutGraph(own, nodes, {named[name]: mask for name, mask in masks.items()})
    leaf = x.detach().double().clone().requires_grad_()
    with torch.no_grad():
        expected = output_tensor(own(leaf))
    with DetachedNonlinearities():
        output = output_tensor(cut(leaf))
    error = float((output.detach() - expected).norm() / expected.norm())
    if not error < FORWARD_TOLERANCE:
        raise ValueError(f"the cut graph differs from the model: relative error {error:.1e}")
    if not output.requires_grad:
        return torch.zeros_like(leaf)
    (factor,) = torch.autograd.grad((output * selection.double()).sum(), leaf)
    return leaf.detach() * factor


class _CutGraph:
    """Interpreter of an fx graph that detaches every edge on no path that counts."""

    def __init__(self, model: nn.Module, nodes: list[fx.Node], masks: Mapping[fx.Node, Mask]) -> None:
        self._model, self._nodes, self._masks = model, nodes, masks
        self._above: dict[fx.Node, set[fx.Node]] = {}
        for node in nodes:
            inputs = node.all_input_nodes
            self._above[node] = set(inputs).union(*(self._above[source] for source in inputs))
        self._following = {state: self._covered(state) for state in (None, *masks)}
        self._plain: dict[fx.Node, Any] = {}
        self._copies: dict[tuple[fx.Node, State], Any] = {}

    def __call__(self, x: torch.Tensor) -> Any:
        """Output of the model; its gradient is that of the paths that count."""
        states: list[State] = [None, *self._masks]
        for node in self._nodes:
            self._plain[node] = self._run(node, x.detach(), self._plain.__getitem__)
            for state in states:
                if self._open(node, state):
                    self._copies[node, state] = self._copy(node, state, x)
        return self._copies.get((self._nodes[-1], None), self._plain[self._nodes[-1]])

    def _copy(self, node: fx.Node, state: State, x: torch.Tensor) -> Any:
        """Value of a node for paths whose last conditioned node towards the output's side is ``state``."""
        inner = node if node in self._masks else state
        value = self._run(node, x, lambda source: self._copies.get((source, inner), self._plain[source]))
        if node in self._masks and isinstance(value, torch.Tensor) and value.requires_grad:
            value = value.clone()
            value.register_hook(self._masks[node])  # type: ignore[no-untyped-call]
        return value

    def _open(self, node: fx.Node, state: State) -> bool:
        """Whether a path that passed ``state`` last, and now comes to ``node``, can still count."""
        if state is not None and node not in self._above[state]:
            return False
        following = self._following[state]
        return node in following or (
            node not in self._masks and (not following or any(n in self._above[node] for n in following))
        )

    def _covered(self, state: State) -> set[fx.Node]:
        """Conditioned nodes right upstream of a conditioned node, or of the output."""
        below = {node for node in self._masks if state is None or node in self._above[state]}
        return {node for node in below if not any(node in self._above[other] for other in below)}

    def _run(self, node: fx.Node, x: torch.Tensor, value_of: Callable[[fx.Node], Any]) -> Any:
        """Value of a node, given those of its inputs."""
        if node.op == "placeholder":
            return x
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self._model)
        args = fx.node.map_arg(node.args, value_of)
        kwargs = fx.node.map_arg(node.kwargs, value_of)
        if node.op == "output":
            return args[0]
        if node.op == "call_module":
            return self._model.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if kwargs.get("inplace"):
            kwargs = {**kwargs, "inplace": False}
        function: Any = node.target
        return OUT_OF_PLACE.get(function, function)(*args, **kwargs)
