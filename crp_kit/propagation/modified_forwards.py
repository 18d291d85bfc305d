"""Terms of a rule at one unit: modified forwards, which depend on the sample alone, and their transposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from zennit.core import BasicHook, Hook, ParamMod
from zennit.rules import Flat, NoMod

from .closed_form import is_declared, known_rule
from .effective_weights import CallUnit, LinearUnit, NormUnit
from .kernels.transposed_conv import ChannelPull, channel_transpose, linear_transpose
from .relevance import is_zero
from .step import Pull
from .vjp import Transposed

__all__ = ["ModifiedUnit", "Term", "modifies_parameters", "terms_of"]


@dataclass(eq=False)
class ModifiedUnit:
    """A unit under a rule: its parameters as each term modifies them, computed when first asked for, and kept.

    A term whose input is zero needs the bias alone.

    Parameters
    ----------
    rule : zennit BasicHook
    make : callable
        Returns the unit with its own parameters.
    known : dict, optional
        Where modified parameters are kept, by term and whether the bias is all of them.
    output : callable, optional
        Returns the unit's own output for its input if that is known already, otherwise None.
    """

    rule: BasicHook
    make: Callable[[], torch.nn.Module]
    known: dict[tuple[int, bool], dict[str, torch.Tensor]] = field(default_factory=dict)
    output: Callable[[], torch.Tensor | None] = lambda: None

    def parameters(self, term: int, *, bias_only: bool = False) -> dict[str, torch.Tensor]:
        """Return the parameters of a term, by name."""
        if (term, bias_only) not in self.known:
            with ParamMod.ensure(self.rule.param_modifiers[term])(self.make()) as modified:
                own = {name: value.detach() for name, value in modified.named_parameters(recurse=False)}
            self.known[term, bias_only] = {k: v for k, v in own.items() if not bias_only or k == "bias"}
        return self.known[term, bias_only]


@dataclass
class Term:
    """One term of a rule at one unit.

    Parameters
    ----------
    input, output : torch.Tensor
        As the rule modifies them.
    pull : Pull
        The transpose of its modified forward.
    pull_channel : ChannelPull or None
        The same from one channel of each row, where that is known to take less time.
    fresh : bool
        Whether `pull` returns new memory, which the caller owns (see `crp_kit.propagation.relevance`).
    zero_input : bool
        Whether the modified input is known to be zero everywhere.
    """

    input: torch.Tensor
    output: torch.Tensor
    pull: Pull
    pull_channel: ChannelPull | None = None
    fresh: bool = False
    zero_input: bool = False


def modifies_parameters(rule: Hook | None) -> bool:
    """Return whether a rule may compute with other parameters than those of the unit."""
    return is_declared(rule) and not all(_keeps_parameters(modify) for modify in rule.param_modifiers)


def _keeps_parameters(modify: Any) -> bool:
    return type(modify) is NoMod and not modify.zero_params


def terms_of(unit: torch.nn.Module, x: torch.Tensor, modified: ModifiedUnit) -> list[Term]:
    """Evaluate the modified forwards and their transposes."""
    rule, known = modified.rule, known_rule(modified.rule)
    modifiers = zip(rule.input_modifiers, rule.param_modifiers, rule.output_modifiers, strict=True)
    inputs = [None] * len(rule.input_modifiers) if known is None else known.inputs(x)
    terms: list[Term] = []
    for number, (modify_input, modify_parameters, modify_output) in enumerate(modifiers):
        known_input, parameters = inputs[number], partial(modified.parameters, number)
        h = modify_input(x) if known_input is None else known_input
        if isinstance(unit, LinearUnit):
            unmodified = h is x and _keeps_parameters(modify_parameters)
            plain = modified.output() if unmodified and known is not None else None
            zero = bool(terms) and (is_zero(h) if known_input is None else h is not x)
            like = terms[0].output if zero else None
            flat = type(rule) is Flat
            terms.append(_linear_term(unit, h, modify_output, parameters, like=like, plain=plain, flat=flat))
        else:
            terms.append(_term(unit, h, modify_output, parameters()))
    return terms


def _linear_term(
    unit: LinearUnit,
    x: torch.Tensor,
    modify_output: Callable[[torch.Tensor], torch.Tensor],
    parameters: Callable[..., dict[str, torch.Tensor]],
    *,
    like: torch.Tensor | None = None,
    plain: torch.Tensor | None = None,
    flat: bool = False,
) -> Term:
    """Evaluate one modified forward of a linear unit.

    It is not run where its output is known: it is `plain` without a modification, and a bias in the shape of `like`,
    which is given for an input of zeros.
    """
    if like is not None:  # behind a ReLU, the negative part of an input
        full = cache(lambda: _linear_term(unit, x, modify_output, parameters))
        output = modify_output(unit.of_zeros(parameters(bias_only=True), like))
        return Term(x, output, lambda s: full().pull(s), zero_input=True)
    modified = parameters()
    if plain is None:
        plain = unit.output(x, **modified)
    output, weight = modify_output(plain), modified["weight"]
    pull = linear_transpose(unit, weight, x.shape, flat=flat)
    if pull is None or output is not plain:
        return _term(unit, x, modify_output, modified)
    return Term(x, output, pull, channel_transpose(unit, weight, x.shape), fresh=True)


def _term(
    unit: torch.nn.Module,
    x: torch.Tensor,
    modify_output: Callable[[torch.Tensor], torch.Tensor],
    parameters: dict[str, torch.Tensor],
) -> Term:
    """Evaluate one modified forward of any unit, and its transpose by autograd."""

    def run(value: torch.Tensor) -> list[torch.Tensor]:
        own = value if isinstance(unit, (LinearUnit, CallUnit, NormUnit)) else value.clone()  # modules may write to it
        return [modify_output(torch.func.functional_call(unit, parameters, (own,)))]

    transposed = Transposed(run, [x], of=unit)
    return Term(x, transposed.outputs[0], lambda s: transposed([s])[0])
