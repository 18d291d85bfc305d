"""Nodes, edges and start of a concept graph. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..checks import is_integer
from ..conditions import OUTPUT, ConditionSet
from ..errors import ConditionError, CrpKitError
from ..targets import Target, parse_target

__all__ = ["ConceptEdge", "ConceptNode", "Key", "Start"]

Key: TypeAlias = tuple[str, int]
"""Layer and concept of a node. A class is a concept of ``"y"``."""


@dataclass(frozen=True)
class ConceptNode:
    """One concept in a concept graph.

    For a graph over many samples, every number is the mean over the samples.

    Parameters
    ----------
    layer : str
        ``"y"`` for the model output.
    concept : int
        Number of the concept in its layer: a channel by default; the class, for ``"y"``.
    depth : int
        Edges from the root, along the shortest path.
    relevance : float
        Relevance that reaches the concept from the root, along all paths.
    share : float
        The same as a share of the root's relevance.
    unexplained : float or None
        Share of this concept's relevance that its children do not get, so that this and the shares of the edges to the
        children sum to 1; ``None`` for a concept that was not decomposed.
    others : float or None
        The part of `unexplained` that goes to other concepts of the layers below. The rest stays in biases and
        stabilizers, or takes paths to the input that pass none of these layers.
    share_std : float or None
        Standard deviation of `share` over the samples; ``None`` for fewer than two.
    n : int
        Samples in which the concept carries relevance.
    kind : str
        The noun of the concept: ``"channel"``, ``"class"``, ``"head"``, …; ``"target"`` of a start that is no class.
    title : str
        What stands for noun and number: the identity of a target.
    """

    layer: str
    concept: int
    depth: int
    relevance: float
    share: float
    unexplained: float | None = None
    others: float | None = None
    share_std: float | None = None
    n: int = 1
    kind: str = "channel"
    title: str = ""

    @property
    def key(self) -> Key:
        """Layer and concept."""
        return self.layer, self.concept

    @property
    def decomposed(self) -> bool:
        """Whether the concept has been decomposed into children."""
        return self.unexplained is not None

    @property
    def name(self) -> str:
        """Name within the layer: ``"channel 23"``, ``"class 207"``, or ``"contrast:207,208"``."""
        return self.title or f"{self.kind} {self.concept}"


@dataclass(frozen=True)
class ConceptEdge:
    """The relevance that one concept redistributes to another one below it.

    Parameters
    ----------
    source : (str, int)
        Layer and concept that redistributes its relevance, nearer to the class.
    target : (str, int)
        Layer and concept that receives it, nearer to the input.
    relevance : float
        Signed relevance of the target under the condition of the source; the mean over the samples.
    share : float
        That relevance as a share of all that passes the source: positive where the two have one sign. The mean over
        the samples in which the source carries relevance.
    share_std : float or None
        Standard deviation of `share` over these samples; ``None`` for fewer than two.
    n : int
        Number of these samples.
    """

    source: Key
    target: Key
    relevance: float
    share: float
    share_std: float | None = None
    n: int = 1


@dataclass(frozen=True)
class Start:
    """The root of a decomposition: a class or target, a concept, or a concept as far as it serves one.

    Parameters
    ----------
    stages : tuple of (str, int)
        Layer and concept at which relevance starts, and those that it then has to pass; the last is the root.
    target : Target or str, optional
        The target that relevance starts from instead of a class of ``"y"``, whose number its class is; its identity
        where a file has no more than that.
    """

    stages: tuple[Key, ...]
    target: Target | str | None = None

    @classmethod
    def of(cls, argument: Any) -> Start:
        """Return the start that a condition set, or a pair of layer and concept, stands for.

        Raises
        ------
        ConditionError
            If it is neither, or not just one concept, one class, or one of both.
        """
        if isinstance(argument, tuple) and len(argument) == 2 and isinstance(argument[0], str):
            argument = {argument[0]: [argument[1]] if isinstance(argument[1], str) else argument[1]}
        if not isinstance(argument, Mapping):
            raise ConditionError(
                f"start is a layer and a concept, such as ('layer4.1.conv2', 23), or a condition set, such as "
                f"{{'layer4.1.conv2': [23], 'y': [207]}}; got {argument!r}"
            )
        parsed = ConditionSet.of(argument)
        named = [*parsed.layers] if parsed.targets is None else [(OUTPUT, parsed.targets), *parsed.layers]
        wrong = [(name, ids) for name, ids in named if len(ids) != 1]
        if wrong:
            raise ConditionError(
                f"a concept graph decomposes one concept; start names {len(wrong[0][1])} of {wrong[0][0]!r}"
            )
        if not 1 <= len(named) <= 1 + (parsed.targets is not None):
            raise ConditionError(
                f"start is one concept, one class, or one concept and one class; got {parsed.as_dict()!r}"
            )
        first = named[0][1][0]
        target = first if isinstance(first, Target) and named[0][0] == OUTPUT else None
        ids = [ids[0] if target is None or name != OUTPUT else target.class_number or 0 for name, ids in named]
        words = (isinstance(one, str) and name != OUTPUT for one, (name, _) in zip(ids, named, strict=True))
        if not all(is_integer(one) or is_word for one, is_word in zip(ids, words, strict=True)):
            raise ConditionError(f"a concept of a concept graph is a whole number; got {parsed.as_dict()!r}")
        return cls(tuple((name, concept) for (name, _), concept in zip(named, ids, strict=True)), target)

    @classmethod
    def read(cls, stages: tuple[Key, ...], identity: str | None) -> Start:
        """Return the start that a file has, with its target where the identity says all of it."""
        try:
            return cls(stages, None if identity is None else parse_target(identity))
        except CrpKitError:
            return cls(stages, identity)

    @property
    def root(self) -> Key:
        """Layer and concept that the graph decomposes."""
        return self.stages[-1]

    @property
    def cls(self) -> int | None:
        """The class that relevance starts from; None if it starts at a concept or a target."""
        layer, concept = self.stages[0]
        return concept if layer == OUTPUT and self.target is None else None

    def condition(self) -> dict[str, list[Any]]:
        """Return the condition set that the whole graph is under."""
        stages = {layer: [concept] for layer, concept in reversed(self.stages)}
        return stages if self.target is None else {**stages, OUTPUT: [self.target]}

    def __str__(self) -> str:
        layer, concept = self.root
        start = str(self.target) if self.cls is None else f"class {self.cls}"
        if layer == OUTPUT:
            return start
        return f"concept {concept} of {layer}" + (f", for {start}" if len(self.stages) > 1 else "")
