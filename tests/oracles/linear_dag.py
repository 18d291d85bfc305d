"""Small random networks of linear nodes, and their relevance by listing every path.

Without biases and activations, LRP-0 relevance of the input is the input times the sum, over all paths to the output,
of the product of the matrices and masks along the path.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

INPUT = -1
OUTPUT = "output"
Mask = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Dag:
    """Structure of a network.

    Attributes
    ----------
    sources : tuple of tuple of int
        For each node, in execution order, the earlier nodes that feed it; ``INPUT`` is the input.
    concatenated : tuple of bool
        For each node whether its sources are concatenated, else they are added.
    shortcut : bool
        Whether the input is added to the output.
    """

    sources: tuple[tuple[int, ...], ...]
    concatenated: tuple[bool, ...]
    shortcut: bool = False

    @property
    def ends(self) -> tuple[int, ...]:
        """Nodes that feed no other; the output is their sum."""
        used = {source for sources in self.sources for source in sources}
        return tuple(node for node in range(len(self.sources)) if node not in used)


class LinearDag(nn.Module):
    """Network of bias-free linear nodes ``n0``, ``n1``, … with random float64 weights.

    Parameters
    ----------
    dag : Dag
        Its structure.
    width : int
        Channels of the input, each node, and the output.
    seed : int
        Seed of the weights.
    """

    def __init__(self, dag: Dag, width: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.dag, self.width = dag, width
        generator = torch.Generator().manual_seed(seed)
        for node, sources in enumerate(dag.sources):
            inputs = width * len(sources) if dag.concatenated[node] else width
            layer = nn.Linear(inputs, width, bias=False, dtype=torch.float64).requires_grad_(False)
            layer.weight.normal_(generator=generator)
            self.add_module(f"n{node}", layer)

    def values(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Output of each node, and the input, for an input (batch, width)."""
        values = {INPUT: x}
        for node, sources in enumerate(self.dag.sources):
            parts = [values[source] for source in sources]
            merged = torch.cat(parts, 1) if self.dag.concatenated[node] else _added(parts)
            values[node] = self.get_submodule(f"n{node}")(merged)
        return values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of the nodes that feed no other, (batch, width), for an input (batch, width)."""
        values = self.values(x)
        ends = [values[node] for node in self.dag.ends]
        return _added([*ends, x] if self.dag.shortcut else ends)


def random_dag(seed: int, *, nodes: int = 6, width: int = 3) -> LinearDag:
    """Network of a random structure with several uses of each node.

    Parameters
    ----------
    seed : int
        Seed of structure and weights.
    nodes, width : int
        Number of linear nodes, and of channels.
    """
    draw = random.Random(seed)
    sources = []
    for node in range(nodes):
        earlier = [INPUT, *range(node)]
        sources.append(tuple(sorted(draw.sample(earlier, min(len(earlier), draw.choice([1, 2, 2, 3]))))))
    concatenated = tuple(draw.random() < 0.3 for _ in range(nodes))
    return LinearDag(Dag(tuple(sources), concatenated, draw.random() < 0.5), width, seed)


def brute_force(module: LinearDag, x: torch.Tensor, y_index: int, masks: Mapping[str, Mask]) -> torch.Tensor:
    """Input relevance of the paths whose conditioned nodes form a maximal chain, path by path.

    Parameters
    ----------
    module : LinearDag
        The network.
    x : Tensor
        Input (batch, width).
    y_index : int
        Output channel where relevance starts.
    masks : mapping of str to callable
        For each conditioned node, ``"n0"`` and so on, a function that multiplies relevance (batch, width).

    Returns
    -------
    Tensor
        Input relevance (batch, width).
    """
    total = torch.zeros_like(x)
    for path in _counting_paths(module.dag, masks):
        total += x * _factor(module, x, y_index, masks, (*path, INPUT))
    return total


def brute_force_recorded(
    module: LinearDag, x: torch.Tensor, y_index: int, masks: Mapping[str, Mask], place: str
) -> torch.Tensor:
    """Relevance (batch, width) that arrives at a node, before its mask, on beginnings of the paths that count.

    Parameters
    ----------
    module, x, y_index, masks
        As for ``brute_force``.
    place : str
        Name of the node.
    """
    node = int(place[1:])
    paths = [path for path in _counting_paths(module.dag, masks) if node in path]
    total = torch.zeros_like(x)
    for beginning in sorted({path[: path.index(node) + 1] for path in paths}):
        total += module.values(x)[node] * _factor(module, x, y_index, masks, beginning)
    return total


def _factor(
    module: LinearDag, x: torch.Tensor, y_index: int, masks: Mapping[str, Mask], path: tuple[int, ...]
) -> torch.Tensor:
    """Product of masks and matrices from the output along a path to its last node, whose mask is left out."""
    factor = torch.zeros_like(x)
    factor[:, y_index] = 1.0
    for node, source in pairwise(path):
        factor = masks.get(f"n{node}", _unchanged)(factor) @ _block(module, node, source)
    return factor


def _counting_paths(dag: Dag, masks: Mapping[str, Mask]) -> list[tuple[int, ...]]:
    """Paths whose conditioned nodes form a maximal chain."""
    chains = set(_maximal_chains(dag, frozenset(int(name[1:]) for name in masks)))
    return [path for path in _paths(dag) if tuple(node for node in path if f"n{node}" in masks) in chains]


def _paths(dag: Dag) -> list[tuple[int, ...]]:
    """Every path from output to input, as the nodes on it, last node first."""

    def onward(node: int) -> Iterator[tuple[int, ...]]:
        if node == INPUT:
            yield ()
            return
        for source in dag.sources[node]:
            for rest in onward(source):
                yield (node, *rest)

    paths = [path for end in dag.ends for path in onward(end)]
    return [*paths, ()] if dag.shortcut else paths


def _maximal_chains(dag: Dag, conditioned: frozenset[int]) -> Iterator[tuple[int, ...]]:
    """Every set of pairwise ordered conditioned nodes to which none can be added, last node first."""
    above: list[set[int]] = []
    for sources in dag.sources:
        real = [source for source in sources if source != INPUT]
        above.append(set(real).union(*(above[source] for source in real)))

    def ordered(one: int, other: int) -> bool:
        return one in above[other] or other in above[one]

    nodes = sorted(conditioned, reverse=True)
    for number in range(2 ** len(nodes)):
        chain = [node for place, node in enumerate(nodes) if number >> place & 1]
        if not all(ordered(one, other) for one in chain for other in chain if one != other):
            continue
        if not any(all(ordered(node, other) for other in chain) for node in conditioned - set(chain)):
            yield tuple(chain)


def _block(module: LinearDag, node: int, source: int) -> torch.Tensor:
    """Matrix from one source of a node to the node."""
    weight = module.get_parameter(f"n{node}.weight")
    if not module.dag.concatenated[node]:
        return weight
    place = module.dag.sources[node].index(source)
    return weight[:, place * module.width : (place + 1) * module.width]


def _added(parts: list[torch.Tensor]) -> torch.Tensor:
    """Sum of tensors by the operator ``+``."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _unchanged(factor: torch.Tensor) -> torch.Tensor:
    """The factor itself."""
    return factor
