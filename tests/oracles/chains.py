"""Path exclusion by definition: inclusion-exclusion over the maximal chains of the conditioned nodes.

A path counts if the conditioned nodes on it form a maximal chain of all conditioned nodes, which are ordered by "lies
upstream of". Relevance with masks on a set of nodes and zeros on the other conditioned nodes is what flows on paths
that pass no node outside this set; an alternating sum over the subsets of a chain leaves the paths that pass all of it.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

import torch
from torch import nn
from torch.autograd.graph import Node

from .whole_model import Mask, OracleRun

Order = Mapping[str, frozenset[str]]
Chain = tuple[str, ...]


def upstream(model: nn.Module, x: torch.Tensor, selection: torch.Tensor, names: Iterable[str]) -> Order:
    """For each named module the named modules upstream of it, from which relevance flows through it to the output."""
    return order_of(OracleRun(model, x, selection, names))


def order_of(run: OracleRun) -> Order:
    """Order of a run's nodes: for each the ones that its gradient reaches on the way to the input.

    Raises
    ------
    ValueError
        If the output's gradient does not reach a node, that is, if the node carries no relevance.
    """
    owners: dict[Node, set[str]] = {}
    for name, edge in run.edges.items():
        owners.setdefault(edge.node, set()).add(name)
    origin = run.root
    reached = _reached(origin, owners)
    silent = sorted(set(run.edges) - reached)
    if silent:
        raise ValueError(f"nodes that carry no relevance: {silent}")
    return {name: frozenset(_reached(edge.node, owners)) for name, edge in run.edges.items()}


def covered(order: Order, name: str | None = None) -> list[str]:
    """Nodes right upstream of a node, none between; for ``None``, of the output."""
    below = set(order) if name is None else order[name]
    return sorted(node for node in below if not any(node in order[other] for other in below))


def maximal_chains(order: Order, name: str | None = None) -> list[Chain]:
    """All chains from the output, or from below a node, to a node that has none upstream, downstream nodes first."""
    following = covered(order, name)
    if not following:
        return [()]
    return [(node, *rest) for node in following for rest in maximal_chains(order, node)]


def inclusion_exclusion(
    model: nn.Module, x: torch.Tensor, selection: torch.Tensor, masks: Mapping[str, Mask]
) -> torch.Tensor:
    """Input relevance of the paths whose conditioned nodes form a maximal chain; parameters as for ``masked``."""
    return maximal_chain_relevance(OracleRun(model, x, selection, masks), masks)


def maximal_chain_relevance(run: OracleRun, masks: Mapping[str, Mask]) -> torch.Tensor:
    """The same of a run that has been made with the masked modules among its names."""
    everything = order_of(run)
    order = {name: everything[name] & masks.keys() for name in masks}
    flows = _Flows(run, masks, ())
    return _total([flows.exactly(chain)[0] for chain in maximal_chains(order)])


def recorded_inclusion_exclusion(
    model: nn.Module, x: torch.Tensor, selection: torch.Tensor, masks: Mapping[str, Mask], record: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Relevance that arrives at module outputs, before their own masks, on beginnings of the paths that count.

    Parameters
    ----------
    model, x, selection, masks
        As for ``masked``.
    record : iterable of str
        Modules, conditioned ones or others, at whose output relevance is read.

    Returns
    -------
    dict of str to Tensor
        For each recorded module the relevance of its output in float64.
    """
    record = list(record)
    run = OracleRun(model, x, selection, {*masks, *record})
    everything = order_of(run)
    order = {name: everything[name] & masks.keys() for name in masks}
    flows = _Flows(run, masks, record)
    result = {}
    for place in record:
        ends = everything[place] | {place}
        chains = [chain for chain in _beginnings(order) if place not in chain and _leads_on(order, chain, ends)]
        zero = torch.zeros_like(run.values[place])
        result[place] = _total([zero, *(flows.exactly(chain)[1][place] for chain in chains)])
    return result


class _Flows:
    """Relevance on the paths that pass exactly given conditioned nodes."""

    def __init__(self, run: OracleRun, masks: Mapping[str, Mask], record: Iterable[str]) -> None:
        self._run, self._masks, self._record = run, masks, tuple(record)
        self._known: dict[frozenset[str], tuple[torch.Tensor, dict[str, torch.Tensor]]] = {}

    def exactly(self, chain: Chain) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Relevance at the input and at the recorded nodes of paths whose conditioned nodes are those of the chain."""
        signed = [
            ((-1) ** (len(chain) - size), self._at_most(frozenset(subset)))
            for size in range(len(chain) + 1)
            for subset in combinations(chain, size)
        ]
        arrived = {name: _total([sign * flow[1][name] for sign, flow in signed]) for name in self._record}
        return _total([sign * flow[0] for sign, flow in signed]), arrived

    def _at_most(self, nodes: frozenset[str]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Relevance of paths that pass no conditioned node but the given ones."""
        if nodes not in self._known:
            masks = {name: mask if name in nodes else torch.zeros_like for name, mask in self._masks.items()}
            self._known[nodes] = self._run.relevances(masks, self._record)
        return self._known[nodes]


def _beginnings(order: Order) -> Iterator[Chain]:
    """Each beginning of a maximal chain once, the empty one too."""
    chains = maximal_chains(order)
    yield from sorted({chain[:length] for chain in chains for length in range(len(chain) + 1)})


def _leads_on(order: Order, chain: Chain, ends: frozenset[str]) -> bool:
    """Whether a path may go on from a chain by way of a place, given what lies upstream of that."""
    following = covered(order, chain[-1] if chain else None)
    return not following or any(name in ends for name in following)


def _reached(origin: Node, owners: Mapping[Node, set[str]]) -> set[str]:
    """Names of the nodes that the gradient of one node, itself left out, reaches."""
    found: set[str] = set()
    seen: set[Node] = {origin}
    waiting = [origin]
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                found |= owners.get(node, set())
                waiting.append(node)
    return found


def _total(terms: list[torch.Tensor]) -> torch.Tensor:
    """Sum of tensors."""
    return torch.stack(terms).sum(0)
