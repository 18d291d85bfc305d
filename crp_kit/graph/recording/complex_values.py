"""Complex numbers between real ones: all calls from real tensors to real tensors become one node.

Relevance is real, so no complex tensor is an output of a node. Rotary embeddings by complex numbers and Fourier layers
are linear maps of what they read, and get its rule; anything else, such as the absolute value of a spectrum, has none.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..graph import Ref
from ..nested import leaves, mapped, tensors
from ..operations import Kind, OperationSpec
from ..registry import spec_of
from .aliasing import memory_of
from .live_values import Draft, Tape

_LINEAR = (Kind.STRUCTURAL, Kind.AFFINE, Kind.SUM, Kind.PRODUCT)


@dataclass(frozen=True, eq=False)
class _Call:
    """A call that makes or reads complex tensors; its arguments are constants, a `Ref` or a `_Part` of another call."""

    spec: OperationSpec
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def is_linear(self) -> bool:
        """Return whether it is an affine map of all that depends on the input."""
        if self.spec.kind not in _LINEAR:
            return False
        factors, fixed = (self._live(names) for names in (self.spec.factors, self.spec.fixed))
        return factors <= 1 and not fixed

    def _live(self, names: tuple[str, ...]) -> int:
        read = self.spec.arguments(self.args, self.kwargs, names)
        return sum(isinstance(value, (Ref, _Part)) for value in read)


class _Part:
    """One output of a call; no dataclass, since it is a leaf among arguments."""

    def __init__(self, call: _Call, output: int) -> None:
        self.call, self.output = call, output


@dataclass(frozen=True)
class _Operand:
    """The place of an argument of a replay."""

    number: int


@dataclass(frozen=True)
class _Made:
    """The place of an output of an earlier step."""

    step: int
    output: int


@dataclass(frozen=True)
class Replay:
    """The calls, as a function of the real tensors and constants that they read.

    Parameters
    ----------
    steps : tuple of (callable, tuple, dict)
        Each call with its arguments.
    """

    steps: tuple[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]], ...]

    @property
    def __name__(self) -> str:
        return "complex"

    def __call__(self, *operands: Any) -> list[Any]:
        """Return the outputs of the last call."""
        made: list[list[Any]] = []
        for func, *arguments in self.steps:
            placed = mapped(arguments, lambda place: operands[place.number], _Operand)
            args, kwargs = mapped(placed, lambda place: made[place.step][place.output], _Made)
            made.append(leaves(func(*args, **kwargs)))
        return made[-1]


class ComplexValues:
    """The complex tensors of a running forward that depend on its input.

    Parameters
    ----------
    tape : Tape
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], _Part]] = {}

    def part(self, value: Any) -> _Part | None:
        """Return which output of which call a tensor is, or None if it is none of these."""
        known = self._known.get(id(value))
        return known[1] if known is not None and known[0]() is value else None

    def are_among(self, values: Iterable[torch.Tensor]) -> bool:
        """Return whether any of some tensors is one of these."""
        return bool(self._known) and any(self.part(value) is not None for value in values)

    def forget_others_of(self, written: torch.Tensor) -> None:
        """Forget those that change with a tensor that is written to, so that reading them is an unseen dependence."""
        for key, (reference, _) in list(self._known.items()):
            value = reference()
            if value is not None and value is not written and memory_of(value) == memory_of(written):
                del self._known[key]

    def note(self, draft: Draft, result: Any) -> None:
        """Keep the call that made complex tensors."""
        call = self._call(draft)
        for output, value in enumerate(leaves(result)):
            if isinstance(value, torch.Tensor):
                self._known[id(value)] = weakref.ref(value), _Part(call, output)

    def rename(self, target: torch.Tensor, new: torch.Tensor) -> None:
        """Let a tensor that was written to be what was written."""
        part = self.part(new)
        self._known.pop(id(target), None)
        if part is not None:
            self._known[id(target)] = weakref.ref(target), part

    def as_node(self, draft: Draft) -> Draft:
        """Return a call that makes real tensors of complex ones as a node that reads real tensors only."""
        operands: list[Any] = []
        steps: dict[int, int] = {}
        calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        linear = True

        def operand(value: Any) -> _Operand:
            operands.append(value)
            return _Operand(len(operands) - 1)

        def step(call: _Call) -> int:
            nonlocal linear
            if id(call) not in steps:
                linear = linear and call.is_linear()
                made = mapped((call.args, call.kwargs), lambda part: _Made(step(part.call), part.output), _Part)
                args, kwargs = mapped(mapped(made, operand, Ref), operand)
                calls.append((call.func, args, kwargs))
                steps[id(call)] = len(calls) - 1
            return steps[id(call)]

        step(self._call(draft))
        spec = spec_of("complex_map" if linear else "complex_function")
        func, title = Replay(tuple(calls)), draft.title or draft.spec.name
        return replace(draft, spec=spec, func=func, args=tuple(operands), kwargs={}, title=title)

    def is_right(self, node: Draft, result: Any) -> bool:
        """Return whether a node computes what the model did: complex memory that was shared is written unseen."""
        values = mapped(node.args, lambda ref: self._tape.values[ref.node][ref.output], Ref)
        with torch.no_grad():
            pairs = zip(tensors(node.func(*values)), tensors(result), strict=True)
            return all(torch.equal(made, value) for made, value in pairs)

    def _call(self, draft: Draft) -> _Call:
        def kept(value: torch.Tensor) -> Any:
            return self._tape.ref(value) or self.part(value) or value.detach()

        args, kwargs = mapped((draft.args, draft.kwargs), kept)
        return _Call(draft.spec, draft.func, args, kwargs)
