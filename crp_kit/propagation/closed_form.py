"""What is known of zennit's own rules: that they multiply element by element, with which factors, and what they clamp.

All of it is found by trying a rule on a few numbers, so that it holds for the release of zennit that is installed.
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

__all__ = ["KnownRule", "by_term", "is_declared", "known_rule", "reducer_factors"]

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
"""Rules whose mapper and reducer are known to multiply element by element."""
_NUMBERS = torch.tensor([1, 2], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class KnownRule:
    """A rule of zennit's whose relevance is ``sum_i h_i * J_i^T (f_i * R)``.

    Parameters
    ----------
    quick : zennit BasicHook
        A rule with the same gradient mapper, but perhaps a quicker stabilizer.
    factors : tuple of (float, float)
        The factor of each term's gradient in the reducer, for modified inputs of one and of two. It is a number, or a
        number times the modified input: these two tell which.
    whole : tuple of (bool or None)
        Whether the modified input of a term is all of an input that is nowhere below zero (True), or zero (False).
    """

    quick: BasicHook
    factors: tuple[tuple[float, float], ...]
    whole: tuple[bool | None, ...]

    def above(self, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what relevance is multiplied with before each term's transpose, in the shape of the outputs."""
        mapped = self.quick.gradient_mapper(outputs[0].new_ones(()), list(outputs))
        return [factor.expand_as(outputs[0]) for factor in by_term(mapped, len(outputs))]

    def below(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        """Return what it is multiplied with after that, or None for a factor of one."""
        found: list[torch.Tensor | None] = []
        for value, (one, two) in zip(inputs, self.factors, strict=True):
            if one == two:
                found.append(None if one == 1 else torch.full_like(value, one))
            else:
                found.append(value if one == 1 else value * one)
        return found

    def inputs(self, x: torch.Tensor) -> list[torch.Tensor | None]:
        """Return the modified inputs that are no other than `x`, or zero everywhere; None for all others."""
        if all(whole is None for whole in self.whole) or not x.numel() or not bool(x.amin() >= 0):
            return [None] * len(self.whole)
        zero = x.new_zeros(()).expand_as(x)
        return [None if whole is None else x if whole else zero for whole in self.whole]


def is_declared(rule: Hook | None) -> TypeGuard[BasicHook]:
    """Return whether a rule is all that it declares in terms of modifiers; one with a backward of its own is not."""
    return isinstance(rule, BasicHook) and getattr(rule.backward, "__func__", None) is BasicHook.backward


def known_rule(rule: BasicHook) -> KnownRule | None:
    """Return what is known of a rule, if it is zennit's own in all that counts."""
    functions = (*rule.input_modifiers, rule.gradient_mapper, rule.reducer)
    if type(rule) not in _KNOWN or not all(one.__module__ in _MODULES for one in functions):
        return None
    known = _found.get(rule)
    if known is None or not known[0].agrees(functions):
        known = _found[rule] = _Made.of(functions), KnownRule(_quick(rule), _factors(rule), _whole(rule))
    return known[1]


@dataclass(frozen=True)
class _Made:
    """What a rule was made of when it was looked at; all of it may be changed in place."""

    functions: tuple[Any, ...]
    cells: tuple[CellType, ...]
    contents: tuple[Any, ...]
    stabilizers: tuple[tuple[Stabilizer, dict[str, Any]], ...]

    @classmethod
    def of(cls, functions: tuple[Any, ...]) -> _Made:
        cells = tuple(cell for one in functions for cell in getattr(one, "__closure__", None) or ())
        contents = tuple(cell.cell_contents for cell in cells)
        stabilizers = tuple((one, dict(vars(one))) for one in contents if isinstance(one, Stabilizer))
        return cls(functions, cells, contents, stabilizers)

    def agrees(self, functions: tuple[Any, ...]) -> bool:
        """Return whether a rule is still made of the same."""
        return (
            functions == self.functions
            and all(cell.cell_contents is one for cell, one in zip(self.cells, self.contents, strict=True))
            and all(vars(one) == before for one, before in self.stabilizers)
        )


_MODULES = (zennit_rules.__name__, torch.ones_like.__module__)
_found: WeakKeyDictionary[BasicHook, tuple[_Made, KnownRule]] = WeakKeyDictionary()


def _quick(rule: BasicHook) -> BasicHook:
    """Return the rule made anew with a quick stabilizer, if it has one that adds a number and all else is found."""
    parameters = rule_parameters(rule)
    name = "epsilon" if "epsilon" in parameters else "stabilizer"
    epsilon = parameters.get(name)
    if not isinstance(epsilon, float) or parameters.keys() != inspect.signature(type(rule)).parameters.keys():
        return rule.copy()
    return type(rule)(**{**parameters, name: QuickStabilizer(epsilon)})


def _factors(rule: BasicHook) -> tuple[tuple[float, float], ...]:
    at_one, at_two = (
        [float(factor) for factor in reducer_factors(rule, [number] * len(rule.input_modifiers))] for number in _NUMBERS
    )
    return tuple(zip(at_one, at_two, strict=True))


def _whole(rule: BasicHook) -> tuple[bool | None, ...]:
    if type(rule) not in _CLAMPING:
        return (None,) * len(rule.input_modifiers)
    found = [modify(_NUMBERS) for modify in rule.input_modifiers]
    return tuple(True if torch.equal(one, _NUMBERS) else None if one.any() else False for one in found)


def reducer_factors(rule: BasicHook, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the factor of each term's gradient in a rule's reducer."""
    zeros = [torch.zeros_like(value) for value in inputs]
    factors = []
    for place in range(len(inputs)):
        gradients = [torch.ones_like(value) if i == place else zeros[i] for i, value in enumerate(inputs)]
        factors.append(rule.reducer(inputs, gradients))
    return factors


def by_term(mapped: Any, count: int) -> list[torch.Tensor]:
    """Return what a gradient mapper gives as one tensor for each term."""
    parts = [mapped] * count if isinstance(mapped, torch.Tensor) else list(mapped)
    if len(parts) != count:
        raise CompositeError(
            f"a gradient mapper gives one tensor for each of the rule's {count} terms; got {len(parts)}"
        )
    return parts
