"""The base class of rule maps, and the rules that a map gives the nodes of one recorded graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from torch import nn
from zennit.composites import NameMapComposite
from zennit.core import Composite, Hook

from ...conditions import OutputSelector
from ...errors import CompositeError
from ...graph.elementwise import Elementwise, declarations, declared_paths
from ...graph.graph import Graph
from ...graph.recording.record import record, seen_through
from ...graph.recording.shadow import make_shadow
from ..parameters import SavedRule, portable, short_rule
from .layer_index import Layers, Types, type_text

__all__ = ["EVERYWHERE", "NodeRules", "RuleMap", "resolved"]

EVERYWHERE = slice(None)
_OF_A_RUN = ("module_map", "handles", "hook_refs")
"""Attributes of a composite that belong to a run, not to its rules."""


class RuleMap(Composite):  # type: ignore[misc]
    """Rules for some of the layers of a model: the base class of all rule maps.

    Parameters
    ----------
    where : int, str, type, slice, range or list
        The layers, as `crp_kit.rules.maps.layer_index.Layers.chosen` takes them.
    rules : sequence of (type or tuple of type or None, zennit Hook or None)
        The first pair whose type a layer is of decides; ``None`` means layers of any type. A rule ``None`` means that
        the layer has no rule of its own: the plain gradient, or crp-kit's rule for the operation.
    said : str
        `where` as the caller wrote it.
    canonizers : sequence of zennit Canonizer
        Applied to a private copy of the model before it is recorded.
    """

    def __init__(
        self, where: Any, rules: Iterable[tuple[Types | None, Hook | None]], said: str = "", canonizers: Any = ()
    ) -> None:
        super().__init__(module_map=self._unbound, canonizers=list(canonizers))
        self.where, self.rules, self.said = where, tuple(rules), said

    def assigned(self, layers: Layers) -> dict[int, Hook | None]:
        """Return the rules by index of layer.

        Raises
        ------
        CompositeError, UnknownLayerError
            If the model has no layer of the index, name, pattern or type that is asked for.
        """
        rules = {index: self._first(layers[index].is_a) for index in layers.chosen(self.where)}
        return {index: rule for index, first in rules.items() for rule in first}

    def anywhere(self, module: nn.Module) -> tuple[Hook | None, ...]:
        """Return the rule that a module would have at any index, as a tuple; empty if this map has none for it."""
        return self._first(lambda types: isinstance(module, types)) if self.where == EVERYWHERE else ()

    def _first(self, is_a: Callable[[Types], bool]) -> tuple[Hook | None, ...]:
        return next(((rule,) for types, rule in self.rules if types is None or is_a(types)), ())

    def bind(
        self,
        model: nn.Module,
        sample: Any,
        *,
        output: OutputSelector = None,
        elementwise: Elementwise | Iterable[Elementwise] = (),
    ) -> NameMapComposite:
        """Return the same rules by name, for this model: a composite that zennit itself can use.

        Parameters
        ----------
        model : torch.nn.Module
            It is left as it is.
        sample : torch.Tensor, tuple or dict
            Model input; a batch of one is enough.
        output : str, int or callable, optional
            Which part of the model's output counts, if that is not one tensor.
        elementwise : module types, str, or several of them, optional
            Modules that are element-wise, as for `crp_kit.CondAttribution`.

        Returns
        -------
        zennit.composites.NameMapComposite
            zennit gives rules to modules only; rules for functional operations count where crp-kit uses it.

        Raises
        ------
        CompositeError
            If one module runs several times under several rules, which zennit cannot do, or as for `assigned`.
        """
        shadow = make_shadow(model, private=bool(self.canonizers))
        for canonizer in self.canonizers:
            canonizer.apply(shadow)
        declared = declared_paths(shadow, declarations(elementwise))
        opaque, _ = seen_through(shadow, sample, output=output, elementwise=declared)
        graph = record(shadow, sample, output=output, opaque=opaque, elementwise=declared).graph
        return NameMapComposite(_by_name(graph, resolved(self, graph).rules), canonizers=list(self.canonizers))

    def register(self, module: nn.Module) -> NoReturn:
        """Refuse: which layers are meant is not known yet.

        Raises
        ------
        CompositeError
            Always.
        """
        self._unbound({}, "", module)

    def _unbound(self, ctx: Any, name: str, module: nn.Module) -> NoReturn:
        raise CompositeError(
            f"{type(self).__name__} needs to know which layers the model runs, and in what order: call "
            f".bind(model, sample) for a composite that zennit can use by itself or combine with others"
        )

    def __repr__(self) -> str:
        rules = [short_rule(rule) if rule is not None else "None" for _, rule in self.rules]
        if self.rules and self.rules[0][0] is not None:
            pairs = [f"{type_text(types)}: {rule}" for (types, _), rule in zip(self.rules, rules, strict=True)]
            rules = ["{" + ", ".join(pairs) + "}"]
        return f"{type(self).__name__}({', '.join([self.said, *rules] if self.said else rules)})"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy zennit's rules as their arguments: they consist of functions that cannot be pickled."""
        kept = {name: value for name, value in vars(self).items() if name not in _OF_A_RUN}
        return {**kept, "rules": tuple((types, portable(rule)) for types, rule in self.rules)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Composite.__init__(self, module_map=self._unbound, canonizers=state["canonizers"])
        self.__dict__.update(state)
        saved = state["rules"]
        self.rules = tuple((types, rule.rule() if isinstance(rule, SavedRule) else rule) for types, rule in saved)


class NodeRules(Composite):  # type: ignore[misc]
    """The rules that a map gives the nodes of one recorded graph.

    Parameters
    ----------
    maps : RuleMap
    graph : Graph
    """

    def __init__(self, maps: RuleMap, graph: Graph) -> None:
        super().__init__(module_map=self._anywhere, canonizers=list(maps.canonizers))
        layers = Layers(graph)
        self.maps = maps
        self.rules = {layers[index].name: rule for index, rule in maps.assigned(layers).items()}

    def _anywhere(self, ctx: Any, name: str, module: nn.Module) -> Hook | None:
        return next(iter(self.maps.anywhere(module)), None)


def resolved(composite: Composite | None, graph: Graph) -> Any:
    """Return a composite for one recorded graph: maps with the rule of each node, any other as it is."""
    return NodeRules(composite, graph) if isinstance(composite, RuleMap) else composite


def _by_name(graph: Graph, rules: Mapping[str, Hook | None]) -> list[tuple[tuple[str, ...], Hook]]:
    """Return zennit's map by name: module paths, and names of functional nodes."""
    rule_by_module: dict[str, tuple[str, Hook | None]] = {}
    pairs: list[tuple[tuple[str, ...], Hook]] = []
    for node in graph:
        rule = rules.get(node.name)
        if node.module is not None:
            first, other = rule_by_module.setdefault(node.owner, (node.name, rule))
            if other is not rule:
                raise CompositeError(
                    f"{first!r} and {node.name!r} are calls of one module under different rules, and zennit has one "
                    f"rule for each module: use the maps themselves in crp-kit, or give both calls one rule"
                )
        if rule is not None and (node.module is not None or node.name not in graph.module_names):
            names = (node.owner, node.name) if node.module is not None else (node.name,)
            pairs.append((tuple(dict.fromkeys(names)), rule))
    return pairs
