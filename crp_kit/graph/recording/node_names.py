"""Names for the nodes of a recorded graph, as torchvision's ``get_graph_node_names`` gives them.

A module's output has the module's path; any other call the path of the module that made it and its operation
(``layer1.0.add``); a repetition gets a suffix (``layer1.0.relu_1``). Where one path more means a node (the last call of
a block), it is an alias.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch

from ..graph import Ref


class ModuleCall(NamedTuple):
    """One run of one module.

    Parameters
    ----------
    path : str
        Module path.
    number : int
        How often the module had run before.
    start, stop : int
        Range of the nodes that were recorded meanwhile.
    whole : bool
        Whether it is one node whose inside is not recorded.
    result : Ref or None
        Its first output that depends on the input.
    """

    path: str
    number: int
    start: int
    stop: int
    whole: bool
    result: Ref | None


@dataclass(frozen=True)
class Naming:
    """Names of all nodes: `labels` by node, `aliases` for more names of outputs, `modules` path by node or None."""

    labels: list[str]
    aliases: dict[str, Ref]
    modules: list[str | None]


def assign_names(
    functional: Sequence[str],
    calls: Sequence[ModuleCall],
    by_path: Mapping[str, torch.nn.Module],
    written_through: Collection[int],
) -> Naming:
    """Name the nodes.

    Parameters
    ----------
    functional : sequence of str
        For each node its name as a call that is not a whole module: the path of the module that made it and the
        operation; for an input, the input's name.
    calls : sequence of ModuleCall
        In the order in which they ended.
    by_path : dict of str to torch.nn.Module
    written_through : collection of int
        Nodes that are no calls of the model, but views behind a write.
    """
    named_by: dict[int, ModuleCall] = {}
    modules: list[str | None] = [None] * len(functional)
    own = [0, *accumulate(index not in written_through for index in range(len(functional)))]
    for call in calls:
        alone = own[call.stop] - own[call.start] == 1
        inside = call.result is not None and call.start <= call.result.node < call.stop
        if call.result is not None and inside and _has_the_modules_name(call, by_path[call.path], alone=alone):
            named_by.setdefault(call.result.node, call)
            if alone:
                modules[call.result.node] = call.path
    reserved = {call.path for call in named_by.values()}
    labels: list[str] = []
    aliases: dict[str, Ref] = {}
    used: dict[str, int] = {}

    def unique(base: str) -> str:
        while True:
            count = used.get(base, 0)
            used[base] = count + 1
            name = base if count == 0 else f"{base}_{count}"
            if name not in taken:
                taken.add(name)
                return name

    taken: set[str] = set()
    for index, name in enumerate(functional):
        leaf = named_by.get(index)
        if leaf is not None:
            labels.append(unique(leaf.path or "model"))
        else:
            if name in reserved:
                used.setdefault(name, 1)
            labels.append(unique(name))
    for call in calls:
        if call.result is not None and call.path:
            name = f"{call.path}_{call.number}" if call.number else call.path
            aliases.setdefault(name, call.result)
    return Naming(labels, aliases, modules)


def _has_the_modules_name(call: ModuleCall, module: torch.nn.Module, *, alone: bool) -> bool:
    """Return whether the run as a whole has the module's name: torch's own layers, modules of one call or one node."""
    of_torch = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    container = isinstance(module, (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict))
    childless = set(module._modules.values()) <= {None}
    return (of_torch and not container) or (alone and (childless or (call.whole and bool(call.path))))
