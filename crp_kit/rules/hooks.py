"""zennit's hooks on one unit, executed for many conditions at once.

A ``BasicHook`` declares terms (modified inputs, parameters and outputs), a gradient mapper and a reducer. The modified
forwards depend on the sample alone, so they run once. If mapper and reducer multiply element by element, which is so
for every rule of zennit and is checked for any other, relevance becomes ``sum_i h_i * J_i^T (f_i * R)`` with factors
that all conditions share. A term whose factors are zero is left out. Any other ``Hook`` runs through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook, ParamMod

from ..errors import CompositeError, CrpKitError
from .relevance import Relevance, Scaling
from .step import Losses, Pull, Transposed, working
from .units import LinearUnit, linear_transpose

_EXACT = (
    zennit_rules.Epsilon,
    zennit_rules.Gamma,
    zennit_rules.ZPlus,
    zennit_rules.AlphaBeta,
    zennit_rules.ZBox,
    zennit_rules.Norm,
    zennit_rules.WSquare,
    zennit_rules.Flat,
)
"""Rules whose mapper and reducer are known to multiply element by element."""

Parameters = list[dict[str, torch.Tensor]]


def hook_backward(
    rule: Hook,
    unit: torch.nn.Module,
    x: torch.Tensor,
    *,
    where: str,
    parameters: Parameters | None = None,
    hidden: bool = False,
) -> Callable[[Relevance], Relevance]:
    """Return the function from the relevance at a unit's output to that at its input.

    Parameters
    ----------
    rule : zennit Hook
    unit : torch.nn.Module
    x : torch.Tensor
        The unit's input.
    where : str
        Name of the node, for errors.
    parameters : list of dict, optional
        From `modified_parameters`, if they are known already.
    hidden : bool, optional
        ``torch.func`` cannot follow the unit.

    Raises
    ------
    CompositeError
        If the rule fails on this unit, here or in the function that is returned.
    """
    with _blamed(rule, where):
        if isinstance(rule, BasicHook):
            known = modified_parameters(rule, unit, where=where) if parameters is None else parameters
            pull = _basic(rule, unit, x, parameters=known, hidden=hidden)
        else:
            pull = _foreign(rule, unit, x)

    def guarded(relevance: Relevance) -> Relevance:
        with _blamed(rule, where):
            found = pull(relevance)
        if found.rows.shape[1:] != x.shape:
            raise CompositeError(
                f"the rule {type(rule).__name__} at {where!r} gives relevance of shape {tuple(found.rows.shape[1:])} "
                f"for an input of shape {tuple(x.shape)}"
            )
        return found

    return guarded


@contextmanager
def _blamed(rule: Hook, where: str) -> Iterator[None]:
    """Say at which node a rule failed."""
    try:
        yield
    except (CrpKitError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        raise CompositeError(f"the rule {type(rule).__name__} fails at {where!r}: {error}") from error


# ---------------------------------------------------------------------- BasicHook


@dataclass
class _Term:
    input: torch.Tensor
    output: torch.Tensor
    pull: Pull
    fresh: bool = False
    """Whether what `pull` returns is the caller's own."""
    silent: bool = False
    """Whether the modified input is known to be zero everywhere."""


def modified_parameters(rule: BasicHook, unit: torch.nn.Module, *, where: str) -> Parameters:
    """Return, for each term of a rule, the parameters of the unit as the rule modifies them."""
    found = []
    with _blamed(rule, where):
        for modifier in rule.param_modifiers:
            with ParamMod.ensure(modifier)(unit) as modified:
                found.append({name: value.detach() for name, value in modified.named_parameters(recurse=False)})
    return found


def hook_losses(rule: Hook, unit: torch.nn.Module, x: torch.Tensor, *, where: str) -> Losses | None:
    """Return what a rule keeps at a unit that is an affine map, or None for a rule that is not such a sum of terms.

    Relevance ``R`` goes with a factor ``f_t`` to each term ``z_t = A_t h_t + b_t``, and comes back as ``c_t h_t`` times
    the gradient. Constants take ``sum_t c_t f_t b_t`` of it, and the stabilizer ``1 - sum_t c_t f_t z_t``.
    """
    if not isinstance(rule, BasicHook):
        return None
    parameters = modified_parameters(rule, unit, where=where)
    terms = _terms(rule, unit, x, parameters, hidden=False)
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    if _shared_inputs(inputs) or not (_is_zennits(rule) or _multiplies(rule, inputs, outputs)):
        return None
    signs = [factor.flatten()[0] for factor in _reducer_factors(rule, [torch.ones_like(value) for value in inputs])]
    expected = zip(_reducer_factors(rule, inputs), signs, inputs, strict=True)
    if not all(torch.allclose(h, sign * value) for h, sign, value in expected):
        return None
    above = _as_list(rule.gradient_mapper(torch.ones_like(outputs[0]), outputs), len(terms))
    constants, kept = torch.zeros_like(outputs[0]), torch.zeros_like(outputs[0])
    for term, changed, sign, factor in zip(terms, parameters, signs, above, strict=True):
        zero = torch.func.functional_call(unit, changed, (torch.zeros_like(term.input),))
        constants = constants + sign * factor * zero
        kept = kept + sign * factor * term.output
    return Losses(constants, 1 - kept)


def _terms(
    rule: BasicHook, unit: torch.nn.Module, x: torch.Tensor, parameters: Parameters, *, hidden: bool
) -> list[_Term]:
    modifiers = zip(rule.input_modifiers, rule.output_modifiers, parameters, strict=True)
    found: list[_Term] = []
    for modify_input, modify_output, changed in modifiers:
        like = found[0].output if found else None
        found.append(_term(unit, modify_input(x), modify_output, changed, like=like, hidden=hidden))
    return found


def _basic(
    rule: BasicHook, unit: torch.nn.Module, x: torch.Tensor, *, parameters: Parameters, hidden: bool
) -> Callable[[Relevance], Relevance]:
    terms = _terms(rule, unit, x, parameters, hidden=hidden)
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    if not _shared_inputs(inputs) and (_is_zennits(rule) or _multiplies(rule, inputs, outputs)):
        return _factored(rule, terms, x)
    by_row = _row_by_row(rule, terms)
    return lambda relevance: Relevance(by_row(working(relevance.whole())), owned=True)


def _term(
    unit: torch.nn.Module,
    x: torch.Tensor,
    modify_output: Any,
    parameters: dict[str, torch.Tensor],
    *,
    like: torch.Tensor | None,
    hidden: bool,
) -> _Term:
    """Evaluate one modified forward, whose output is `like` another, and its transpose."""
    if isinstance(unit, LinearUnit):
        silent = like is not None and _is_zero(x)  # the half of an input that a ReLU left nothing of
        if silent and like is not None:
            plain = unit.of_zeros(parameters, like)
        else:
            plain = torch.func.functional_call(unit, parameters, (x,))
        pull, output = linear_transpose(unit, parameters["weight"], x), modify_output(plain)
        if pull is not None and output is plain:
            return _Term(x, output, pull, fresh=True, silent=silent)

    def run(value: torch.Tensor) -> list[torch.Tensor]:
        return [modify_output(torch.func.functional_call(unit, parameters, (value,)))]

    transposed = Transposed(run, [x], hidden=hidden)
    return _Term(x, transposed.outputs[0], lambda s: transposed([s])[0])


def _is_zero(value: torch.Tensor) -> bool:
    """Return whether all values are zero; a NaN is none. Much faster on the CPU than ``any``."""
    return value.numel() == 0 or not any(torch.stack(torch.aminmax(value)).tolist())


def _is_zennits(rule: BasicHook) -> bool:
    """Return whether a rule is zennit's own in all that counts."""
    functions = (rule.gradient_mapper, rule.reducer)
    return type(rule) in _EXACT and all(one.__module__ == zennit_rules.__name__ for one in functions)


def _shared_inputs(inputs: Sequence[torch.Tensor]) -> list[list[int]]:
    """Groups of terms that have the very same input tensor: autograd gives each of them their total gradient."""
    groups: dict[int, list[int]] = {}
    for place, value in enumerate(inputs):
        groups.setdefault(id(value), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _row_by_row(rule: BasicHook, terms: Sequence[_Term]) -> Pull:
    """Return a rule that need not be linear in relevance; only its transposes run for many conditions at once."""
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    shared = _shared_inputs(inputs)

    def pull(relevance: torch.Tensor) -> torch.Tensor:
        mapped = [_as_list(rule.gradient_mapper(row, outputs), len(terms)) for row in relevance]
        pulled = [
            term.pull(torch.stack([row[i] for row in mapped]).to(term.output.dtype)) for i, term in enumerate(terms)
        ]
        for group in shared:
            total = torch.stack([pulled[i] for i in group]).sum(0)
            for i in group:
                pulled[i] = total
        return torch.stack([rule.reducer(inputs, [one[row] for one in pulled]) for row in range(relevance.shape[0])])

    return pull


def _factored(rule: BasicHook, terms: Sequence[_Term], x: torch.Tensor) -> Callable[[Relevance], Relevance]:
    """Return the rule as a sum of terms with two factors each, leaving out those that are zero.

    Terms with the same factor at the input are summed before it. Where that is the input itself, the very tensor is the
    factor, so that what other readers of it send up can be summed before it too.
    """
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    above = _as_list(rule.gradient_mapper(torch.ones_like(outputs[0]), outputs), len(terms))
    below = _known_factors(rule, inputs) if _is_zennits(rule) else _reducer_factors(rule, inputs)
    kept: list[tuple[Scaling, _Term, torch.Tensor | None]] = []
    for f, term, h in zip(above, terms, below, strict=True):
        if (h is not None and (term.silent or _is_zero(h))) or _is_zero(f):
            continue
        alike = (one for one in (x, *(other for _, _, other in kept)) if _are_equal(one, h))
        kept.append((Scaling(f), term, next(alike, h)))
    zero = x.new_zeros(())

    def pull(relevance: Relevance) -> Relevance:
        total: Relevance | None = None
        for place, (scaled, term, h) in enumerate(kept):
            arriving = relevance if place + 1 == len(kept) else relevance.shared()
            part = Relevance(term.pull(scaled(arriving)), h, owned=term.fresh)
            total = part if total is None else total.plus(part)
        return Relevance(zero.expand(len(relevance.rows), *x.shape)) if total is None else total

    return pull


def _as_list(mapped: Any, count: int) -> list[torch.Tensor]:
    parts = [mapped] * count if isinstance(mapped, torch.Tensor) else list(mapped)
    if len(parts) != count:
        raise CompositeError(
            f"a gradient mapper gives one tensor for each of the rule's {count} terms; got {len(parts)}"
        )
    return parts


def _reducer_factors(rule: BasicHook, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the factor of each term's gradient in the reducer."""
    zeros = [torch.zeros_like(value) for value in inputs]
    factors = []
    for place in range(len(inputs)):
        gradients = [torch.ones_like(value) if i == place else zeros[i] for i, value in enumerate(inputs)]
        factors.append(rule.reducer(inputs, gradients))
    return factors


def _known_factors(rule: BasicHook, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    """Return the same for zennit's own rules, without a factor of one.

    Their reducers multiply a gradient with a number, or with a number times the modified input: two numbers tell which.
    """
    at_one, at_two = (
        [float(factor) for factor in _reducer_factors(rule, [value.new_full((), number) for value in inputs])]
        for number in (1, 2)
    )
    found: list[torch.Tensor | None] = []
    for value, one, two in zip(inputs, at_one, at_two, strict=True):
        if one == two:
            found.append(None if one == 1 else torch.full_like(value, one))
        else:
            found.append(value if one == 1 else value * one)
    return found


def _are_equal(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    return first is second or (first is not None and second is not None and torch.equal(first, second))


def _multiplies(rule: BasicHook, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> bool:
    """Return whether mapper and reducer only multiply element by element, by trying numbers of every magnitude."""
    generator = torch.Generator().manual_seed(0)

    def tried(like: torch.Tensor) -> torch.Tensor:
        exponents = torch.rand(like.shape, generator=generator) * 16 - 8
        return (torch.randn(like.shape, generator=generator) * 10**exponents).to(like)

    relevance, gradients = tried(outputs[0]), [tried(value) for value in inputs]
    ones = _as_list(rule.gradient_mapper(torch.ones_like(relevance), list(outputs)), len(outputs))
    mapped = _as_list(rule.gradient_mapper(relevance, list(outputs)), len(outputs))
    if not all(_same(a * relevance, b) for a, b in zip(ones, mapped, strict=True)):
        return False
    parts = [h * g for h, g in zip(_reducer_factors(rule, inputs), gradients, strict=True)]
    return _same(rule.reducer(list(inputs), gradients), torch.stack(parts).sum(0))


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Compare value by value, without an absolute tolerance: small relevance counts as much as large."""
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=0.0, equal_nan=True)


# ---------------------------------------------------------------------- any other Hook


def _foreign(hook: Hook, unit: torch.nn.Module, x: torch.Tensor) -> Callable[[Relevance], Relevance]:
    """Return what zennit's own hook does, through autograd on this unit alone, row by row."""

    def one_row(relevance: torch.Tensor) -> torch.Tensor:
        copy = hook.copy()
        handles = copy.register(unit)
        try:
            with torch.enable_grad():
                leaf = x.detach().clone().requires_grad_()
                output = unit(leaf)
            found: torch.Tensor = torch.autograd.grad(output, leaf, relevance.to(output.dtype))[0]
        finally:
            handles.remove()
        return found

    return lambda relevance: Relevance(torch.stack([one_row(row) for row in working(relevance.whole())]), owned=True)
