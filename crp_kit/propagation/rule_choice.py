"""Choice of rules: a zennit composite decides for each node of a recorded graph, module by module, in execution order.

Functional operations are shown to the composite as stand-in modules (``zennit.layer.Sum`` for ``+``, ``torch.nn.ReLU``
for ``relu`` …).
"""

from __future__ import annotations

from typing import Any

from torch import nn
from zennit.core import Composite, Hook

from ..graph.graph import Graph, Node
from ..graph.registry import spec_of
from ..rules.maps.base import NodeRules, RuleMap
from ..rules.module_stand_ins import FAMILY, STAND_INS

__all__ = ["RuleChooser", "is_lrp", "modules_with_rule_of_their_own"]


class RuleChooser:
    """Asks a composite for the rule of each node, in execution order."""

    def __init__(self, composite: Composite | None, graph: Graph) -> None:
        self.composite, self.graph = composite, graph
        self.context: dict[Any, Any] = {}

    def ask(self, name: str, module: nn.Module) -> Hook | None:
        if self.composite is None:
            return None
        hook: Hook | None = self.composite.module_map(self.context, name, module)
        return hook

    def try_out(self, name: str, module: nn.Module) -> Hook | None:
        """Ask without consequences for later questions, such as which layer counts as the first."""
        if self.composite is None:
            return None
        hook: Hook | None = self.composite.module_map(_copied(self.context), name, module)
        return hook

    def rule(self, node: Node) -> Hook | None:
        """Return the rule of a node, by its module, its stand-in or its family."""
        if isinstance(self.composite, NodeRules):
            return self.composite.rules.get(node.name)
        shown = [node.module] if node.module is not None else []
        has_own_step = node.spec.step is not None
        of_other_kind = node.kind is not spec_of(node.op).kind  # by its arguments: such a clamp is no activation
        stand_in = None if has_own_step or of_other_kind else STAND_INS.get(node.op)
        if stand_in is not None and not any(isinstance(module, type(stand_in())) for module in shown):
            shown.append(stand_in())
        for module in shown:
            hook = self.ask(self._name(node, module), module)
            if hook is not None:
                return hook
        family = None if has_own_step else FAMILY.get(node.kind)
        return self.try_out("", family()) if family is not None else None

    def _name(self, node: Node, module: nn.Module) -> str:
        """Return the name to ask with: the node's own, unless only the module's path means something."""
        path = node.owner if node.module is not None else ""
        if not path or path == node.name:
            return node.name
        unnamed, by_node, by_path = (self.try_out(name, module) for name in ("", node.name, path))
        return node.name if by_node is not unnamed or by_path is unnamed else path


def _copied(context: dict[Any, Any]) -> dict[Any, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in context.items()}


def is_lrp(composite: Composite | None) -> bool:
    """Return whether a composite propagates relevance, rather than a modified gradient: it has a rule for layers."""
    if composite is None:
        return False
    return any(composite.module_map({}, "", STAND_INS[op]()) is not None for op in ("linear", "conv2d", "conv1d"))


def modules_with_rule_of_their_own(composite: Composite | None, graph: Graph, shadow: nn.Module) -> frozenset[str]:
    """Return the paths of modules that ran and have a rule in the composite, but of which no node is the whole.

    Such a module has to be one node, or else its rule would be applied nowhere.
    """
    if composite is None or isinstance(composite, RuleMap):
        return frozenset()
    whole = {id(node.module) for node in graph}
    inside = tuple(f"{node.owner}." for node in graph if node.is_module and node.owner)
    return frozenset(
        path
        for path, module in shadow.named_modules()
        if (not path or path in graph.names)
        and id(module) not in whole
        and not path.startswith(inside)
        and not isinstance(module, (nn.MultiheadAttention, nn.modules.batchnorm._BatchNorm))  # calls in it have rules
        and composite.module_map({}, path, module) is not None
    )
