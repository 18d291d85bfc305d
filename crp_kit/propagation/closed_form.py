"""Closed form of zennit's own rules: the factors by which they multiply element-wise, and which inputs they clamp.

The numbers are determined by running a rule on a few inputs, so that they hold for the installed release of zennit.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from types import CellType
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook, Stabilizer

from ..errors import CompositeError
from ..rules.parameters import rule_parameters
from ..rules.stabilizer import QuickStabilizer

__all__ = ["KnownRule", "by_term", "is_declared", "known_rule", "mapper_factors", "reducer_factors"]

_CLAMPING = (zennit_rules.Gamma, zennit_rules.ZPlus, zennit_rules.AlphaBeta)
"""Rules whose modified inputs are the input, or its part above or below zero."""
_KNOWN = (
    *_CLAMPING,
    zennit_rules.Epsilon,
    zennit_rules.ZBox,
    zennit_rules.Norm,
    zennit_rules.WSquare,
    zennit_rules.Flat,
)
"""Rules whose mapper and reducer are known to multiply element-wise."""
_NUMBERS = torch.tensor([1, 2], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class KnownRule:
    """A rule of zennit's whose relevance is ``sum_i h_i * J_i^T (f_i * R)``.

    Parameters
    ----------
    quick : zennit BasicHook
        A rule with the same gradient mapper, but perhaps a quicker stabilizer.
    factors : tuple of (float, float)
        The factor of each term's gradient in the reducer, for modified inputs of one and of two. It is a number, if
        both are equal, or else a number times the modified input.
    whole : tuple of (bool or None)
        Whether the modified input of a term, for an input that is nowhere below zero, is that input (True) or zero
        (False); None if it is neither for certain.
    """

    quick: BasicHook
    factors: tuple[tuple[float, float], ...]
    whole: tuple[bool | None, ...]

    def above(self, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what relevance is multiplied with before each term's transpose, in the shape of the outputs."""
        factors = mapper_factors(self.quick, outputs, outputs[0].new_ones(()))
        return [factor.expand_as(outputs[0]) for factor in factors]

    def below(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        """Return what it is multiplied with after that, or None for a factor of one."""
        factors: list[torch.Tensor | None] = []
        for value, (at_one, at_two) in zip(inputs, self.factors, strict=True):
            if at_one == at_two:
                factors.append(None if at_one == 1 else torch.full_like(value, at_one))
            else:
                factors.append(value if at_one == 1 else value * at_one)
        return factors

    def inputs(self, x: torch.Tensor) -> list[torch.Tensor | None]:
        """Return the modified inputs that are `x` itself, or zero everywhere; None for all others."""
        if all(whole is None for whole in self.whole) or not x.numel() or not bool(x.amin() >= 0):
            return [None] * len(self.whole)
        zero = x.new_zeros(()).expand_as(x)
        return [None if whole is None else x if whole else zero for whole in self.whole]


def is_declared(rule: Hook | None) -> TypeGuard[BasicHook]:
    """Return whether a rule's modifiers, mapper and reducer are all of it; a backward of its own would be more."""
    return isinstance(rule, BasicHook) and getattr(rule.backward, "__func__", None) is BasicHook.backward


def known_rule(rule: BasicHook) -> KnownRule | None:
    """Return the closed form of a rule, if its class and all functions in it are zennit's own."""
    functions = (*rule.input_modifiers, rule.gradient_mapper, rule.reducer)
    if type(rule) not in _KNOWN or not all(function.__module__ in _MODULES for function in functions):
        return None
    parts, known = _known.get(rule, (None, None))
    if known is None or parts is None or not parts.are(functions):
        known = KnownRule(_quick(rule), _factors(rule), _whole(rule))
        _known[rule] = _RuleParts.of(functions), known
    return known


@dataclass(frozen=True)
class _RuleParts:
    """The functions of a rule, and what they held when its closed form was made; all of it may change in place."""

    functions: tuple[Any, ...]
    cells: tuple[CellType, ...]
    contents: tuple[Any, ...]
    stabilizers: tuple[tuple[Stabilizer, dict[str, Any]], ...]

    @classmethod
    def of(cls, functions: tuple[Any, ...]) -> _RuleParts:
        cells = tuple(cell for function in functions for cell in getattr(function, "__closure__", None) or ())
        contents = tuple(cell.cell_contents for cell in cells)
        stabilizers = tuple((value, dict(vars(value))) for value in contents if isinstance(value, Stabilizer))
        return cls(functions, cells, contents, stabilizers)

    def are(self, functions: tuple[Any, ...]) -> bool:
        """Return whether functions are these, and still hold the same."""
        return (
            functions == self.functions
            and all(cell.cell_contents is value for cell, value in zip(self.cells, self.contents, strict=True))
            and all(vars(stabilizer) == before for stabilizer, before in self.stabilizers)
        )


_MODULES = (zennit_rules.__name__, torch.ones_like.__module__)
_known: WeakKeyDictionary[BasicHook, tuple[_RuleParts, KnownRule]] = WeakKeyDictionary()


def _quick(rule: BasicHook) -> BasicHook:
    """Return the rule made anew with a quick stabilizer, if its own adds a number and all its parameters are known."""
    parameters = rule_parameters(rule)
    name = "epsilon" if "epsilon" in parameters else "stabilizer"
    epsilon = parameters.get(name)
    if not isinstance(epsilon, float) or parameters.keys() != inspect.signature(type(rule)).parameters.keys():
        return rule.copy()
    return type(rule)(**{**parameters, name: QuickStabilizer(epsilon)})


def _factors(rule: BasicHook) -> tuple[tuple[float, float], ...]:
    """Return `KnownRule.factors` of a rule."""
    at_one, at_two = (
        [float(factor) for factor in reducer_factors(rule, [number] * len(rule.input_modifiers))] for number in _NUMBERS
    )
    return tuple(zip(at_one, at_two, strict=True))


def _whole(rule: BasicHook) -> tuple[bool | None, ...]:
    """Return `KnownRule.whole` of a rule."""
    if type(rule) not in _CLAMPING:
        return (None,) * len(rule.input_modifiers)
    inputs = [modify(_NUMBERS) for modify in rule.input_modifiers]
    return tuple(True if torch.equal(value, _NUMBERS) else None if value.any() else False for value in inputs)


def mapper_factors(
    rule: BasicHook, outputs: Sequence[torch.Tensor], ones: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Return what a rule's gradient mapper multiplies relevance with for each term.

    Parameters
    ----------
    rule : zennit BasicHook
        Whose mapper is known, or was tried, to multiply element-wise.
    outputs : sequence of torch.Tensor
        The modified outputs, by term.
    ones : torch.Tensor, optional
        What is put in for relevance: ones of the shape of the outputs, unless a mapper is known to broadcast.
    """
    mapped = rule.gradient_mapper(torch.ones_like(outputs[0]) if ones is None else ones, list(outputs))
    return by_term(mapped, len(outputs))


def reducer_factors(rule: BasicHook, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the factor of each term's gradient in a rule's reducer."""
    zeros = [torch.zeros_like(value) for value in inputs]
    factors = []
    for term in range(len(inputs)):
        gradients = [torch.ones_like(value) if i == term else zeros[i] for i, value in enumerate(inputs)]
        factors.append(rule.reducer(inputs, gradients))
    return factors


def by_term(mapped: Any, count: int) -> list[torch.Tensor]:
    """Return the result of a gradient mapper as one tensor for each term."""
    parts = [mapped] * count if isinstance(mapped, torch.Tensor) else list(mapped)
    if len(parts) != count:
        raise CompositeError(
            f"a gradient mapper gives one tensor for each of the rule's {count} terms; got {len(parts)}"
        )
    return parts
