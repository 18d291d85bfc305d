"""Layers of a concept graph, and the edges between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..attribution.layer_values import find_layer
from ..errors import ConditionError, InputError, UnreachableLayerError
from ..graph.graph import Ref
from ..graph.operations import Kind
from ..graph.path_exclusion import nearest_upstream
from ..propagation.run import Run

__all__ = ["LayerGraph"]


class LayerGraph:
    """The layers below a root, by name, and for each those that feed it with no other of them between.

    Parameters
    ----------
    run : Run
    model : torch.nn.Module
    root : str
        ``"y"`` for the model output.
    wanted : str, module type, sequence of them, or None
        As `crp_kit.build_atlas` takes them; ``None`` for all convolutions and linear layers below the root.

    Raises
    ------
    UnknownLayerError
        If a name or pattern matches nothing.
    UnreachableLayerError
        If a layer that is named does not feed the root, or none does.
    """

    def __init__(self, run: Run, model: nn.Module, root: str, wanted: Any) -> None:
        self.root = root
        self.refs = {root: find_layer(run, root)}
        below = run.plan.flow.from_start(self.refs[root]) - {self.refs[root]}
        chosen = _linear_layers(run, below) if wanted is None else _chosen(run, model, wanted, self.refs[root])
        if not chosen:
            raise UnreachableLayerError(f"no layer feeds {root!r}, so there is nothing to decompose it into")
        self.refs |= chosen
        names = {ref: name for name, ref in self.refs.items()}
        fed = nearest_upstream(run.plan.flow.carrying, list(names))  # a layer inside a gate feeds nothing
        self.children = {name: tuple(names[one] for one in fed[ref]) for name, ref in self.refs.items()}

    def within(self, steps: int) -> list[str]:
        """Return the layers at most so many steps below the root, in execution order, the root last."""
        names = {self.root}
        for _ in range(steps):
            names |= {child for name in names for child in self.children[name]}
        return sorted(names, key=self.refs.__getitem__)


def _linear_layers(run: Run, below: frozenset[Ref]) -> dict[str, Ref]:
    """Return the convolutions and linear layers among the outputs that can be decomposed further."""
    suitable = sorted(below & run.plan.flow.reaching_input)
    return {
        run.graph.label(ref): ref
        for ref in suitable
        if run.graph.node(ref).kind is Kind.LINEAR and run.channel_axes.get(ref) is not None
    }


def _chosen(run: Run, model: nn.Module, wanted: Any, root: Ref) -> dict[str, Ref]:
    """Return the layers that names, patterns and module types mean, among those that feed the root."""
    from ..attribution.layer_choice import select_layers

    single = isinstance(wanted, (str, type)) or not isinstance(wanted, Iterable)
    choices = [wanted] if single else list(wanted)
    if not choices:
        raise InputError("no layers to decompose into: name one at least, or leave layers out for all that feed")
    below, names = run.plan.flow.from_start(root) - {root}, dict[Ref, str]()
    for choice in choices:
        named = isinstance(choice, str) and choice in run.graph.names
        for name in select_layers(run, model, choice):
            ref = find_layer(run, name)
            if ref in below:
                other = names.setdefault(ref, name)
                if named and other != name:
                    raise ConditionError(f"{other!r} and {name!r} are one node: name it once")
            elif named and ref != root:
                raise UnreachableLayerError(
                    f"{name!r} does not feed {_shown(run, root)}: no relevance reaches it from there. It is "
                    f"behind it, beside it, or inside a gate (a factor that multiplies a signal)"
                )
    return {names[ref]: ref for ref in sorted(names)}


def _shown(run: Run, root: Ref) -> str:
    return "the model output" if root == run.graph.output else repr(run.graph.label(root))
