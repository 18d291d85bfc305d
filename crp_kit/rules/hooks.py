"""zennit's hooks on one unit, executed for many conditions at once.

A ``BasicHook`` declares terms (modified inputs, parameters and outputs), a gradient mapper and a reducer. The modified
forwards depend on the sample alone, so they run once. If mapper and reducer multiply element by element, which is so
for every rule of zennit and is checked for any other, relevance becomes ``sum_i h_i * J_i^T (f_i * R)`` with factors
that all conditions share. A term whose factors are zero is left out. Any other ``Hook`` runs through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook, ParamMod
from zennit.rules import NoMod

from ..errors import CompositeError, CrpKitError
from .relevance import Relevance, Scaling, is_zero
from .step import Losses, Pull, Transposed, working
from .transposes import ChannelPull, channel_transpose, linear_transpose
from .units import LinearUnit

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


@dataclass(eq=False)
class ModifiedUnit:
    """A unit under a rule: its parameters as each term modifies them, made when they are first asked for, and kept.

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
                found = {name: value.detach() for name, value in modified.named_parameters(recurse=False)}
            self.known[term, bias_only] = {k: v for k, v in found.items() if not bias_only or k == "bias"}
        return self.known[term, bias_only]


def hook_backward(
    rule: Hook,
    unit: torch.nn.Module,
    x: torch.Tensor,
    *,
    where: str,
    modified: ModifiedUnit | None = None,
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
    modified : ModifiedUnit, optional
        The unit under a `BasicHook`, if some of it may be known already.
    hidden : bool, optional
        ``torch.func`` cannot follow the unit.

    Raises
    ------
    CompositeError
        If the rule fails on this unit, here or in the function that is returned.
    """
    with _blamed(rule, where):
        if isinstance(rule, BasicHook):
            terms = _terms(unit, x, modified or ModifiedUnit(rule, lambda: unit), hidden=hidden)
            pull = _basic(rule, terms, x)
        else:
            pull = _foreign(rule, unit, x)

    shape = x.shape

    def guarded(relevance: Relevance) -> Relevance:
        with _blamed(rule, where):
            found = pull(relevance)
        if found.rows.shape[1:] != shape:
            raise CompositeError(
                f"the rule {type(rule).__name__} at {where!r} gives relevance of shape {tuple(found.rows.shape[1:])} "
                f"for an input of shape {tuple(shape)}"
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


@dataclass(frozen=True)
class _Part:
    """A term of which something is left: what its relevance is multiplied with above and below its transpose."""

    above: Scaling
    pull: Pull
    pull_channel: ChannelPull | None
    fresh: bool
    below: torch.Tensor | None

    def __call__(self, relevance: Relevance) -> Relevance:
        if relevance.channel is None or self.pull_channel is None:
            rows = self.pull(self.above(relevance))
        else:
            rows = self.pull_channel(self.above.in_channel(relevance, relevance.channel), relevance.channel)
        return Relevance(rows, self.below, owned=self.fresh)


@dataclass
class _Term:
    input: torch.Tensor
    output: torch.Tensor
    pull: Pull
    pull_channel: ChannelPull | None = None
    """The same from one channel of each row, where that is known to take less."""
    fresh: bool = False
    """Whether what is pulled is the caller's own."""
    silent: bool = False
    """Whether the modified input is known to be zero everywhere."""


def hook_losses(
    rule: Hook, unit: torch.nn.Module, x: torch.Tensor, *, where: str, modified: ModifiedUnit | None = None
) -> Losses | None:
    """Return what a rule keeps at a unit that is an affine map, or None for a rule that is not such a sum of terms.

    Relevance ``R`` goes with a factor ``f_t`` to each term ``z_t = A_t h_t + b_t``, and comes back as ``c_t h_t`` times
    the gradient. Constants take ``sum_t c_t f_t b_t`` of it, and the stabilizer ``1 - sum_t c_t f_t z_t``.
    """
    if not isinstance(rule, BasicHook):
        return None
    known = modified or ModifiedUnit(rule, lambda: unit)
    with _blamed(rule, where):
        terms = _terms(unit, x, known)
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    if _shared_inputs(inputs) or not (_is_zennits(rule) or _multiplies(rule, inputs, outputs)):
        return None
    signs = [factor.flatten()[0] for factor in _reducer_factors(rule, [torch.ones_like(value) for value in inputs])]
    expected = zip(_reducer_factors(rule, inputs), signs, inputs, strict=True)
    if not all(torch.allclose(h, sign * value) for h, sign, value in expected):
        return None
    above = _as_list(rule.gradient_mapper(torch.ones_like(outputs[0]), outputs), len(terms))
    constants, kept = torch.zeros_like(outputs[0]), torch.zeros_like(outputs[0])
    for place, (term, sign, factor) in enumerate(zip(terms, signs, above, strict=True)):
        if isinstance(unit, LinearUnit):
            zero = unit.of_zeros(known.parameters(place, bias_only=True), term.output)
        else:
            zero = torch.func.functional_call(unit, known.parameters(place), (torch.zeros_like(term.input),))
        constants = constants + sign * factor * zero
        kept = kept + sign * factor * term.output
    return Losses(constants, 1 - kept)


def _terms(unit: torch.nn.Module, x: torch.Tensor, known: ModifiedUnit, *, hidden: bool = False) -> list[_Term]:
    """Evaluate the modified forwards and their transposes."""
    rule = known.rule
    modifiers = zip(rule.input_modifiers, rule.param_modifiers, rule.output_modifiers, strict=True)
    found: list[_Term] = []
    for place, (modify_input, modify_parameters, modify_output) in enumerate(modifiers):
        h, changed = modify_input(x), partial(known.parameters, place)
        if isinstance(unit, LinearUnit):
            unmodified = h is x and type(modify_parameters) is NoMod and not modify_parameters.zero_params
            plain = known.output() if unmodified and _is_zennits(rule) else None
            like = found[0].output if found else None
            found.append(_linear_term(unit, h, modify_output, changed, like=like, plain=plain))
        else:
            found.append(_term(unit, h, modify_output, changed(), hidden=hidden))
    return found


def _basic(rule: BasicHook, terms: Sequence[_Term], x: torch.Tensor) -> Callable[[Relevance], Relevance]:
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    if not _shared_inputs(inputs) and (_is_zennits(rule) or _multiplies(rule, inputs, outputs)):
        return _factored(rule, terms, x)
    by_row = _row_by_row(rule, terms)
    return lambda relevance: Relevance(by_row(working(relevance.whole())), owned=True)


def _linear_term(
    unit: LinearUnit,
    x: torch.Tensor,
    modify_output: Callable[[torch.Tensor], torch.Tensor],
    parameters: Callable[..., dict[str, torch.Tensor]],
    *,
    like: torch.Tensor | None = None,
    plain: torch.Tensor | None = None,
) -> _Term:
    """Evaluate one modified forward of a linear unit, unless it is `plain` or, for an input of zeros, `like` others."""
    if like is not None and is_zero(x):  # the half of an input that a ReLU left nothing of
        full = cache(lambda: _linear_term(unit, x, modify_output, parameters))
        output = modify_output(unit.of_zeros(parameters(bias_only=True), like))
        return _Term(x, output, lambda s: full().pull(s), silent=True)
    changed = parameters()
    if plain is None:
        plain = torch.func.functional_call(unit, changed, (x,))
    output, weight = modify_output(plain), changed["weight"]
    pull = linear_transpose(unit, weight, x.shape)
    if pull is None or output is not plain:
        return _term(unit, x, modify_output, changed)
    return _Term(x, output, pull, channel_transpose(unit, weight, x.shape), fresh=True)


def _term(
    unit: torch.nn.Module,
    x: torch.Tensor,
    modify_output: Callable[[torch.Tensor], torch.Tensor],
    parameters: dict[str, torch.Tensor],
    *,
    hidden: bool = False,
) -> _Term:
    """Evaluate one modified forward and its transpose."""

    def run(value: torch.Tensor) -> list[torch.Tensor]:
        return [modify_output(torch.func.functional_call(unit, parameters, (value,)))]

    transposed = Transposed(run, [x], hidden=hidden)
    return _Term(x, transposed.outputs[0], lambda s: transposed([s])[0])


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
    known = _is_zennits(rule)
    one = outputs[0].new_ones(()) if known else torch.ones_like(outputs[0])
    above = _as_list(rule.gradient_mapper(one, outputs), len(terms))
    below = _known_factors(rule, inputs) if known else _reducer_factors(rule, inputs)
    kept: list[_Part] = []
    for f, term, h in zip((one.expand_as(outputs[0]) for one in above), terms, below, strict=True):
        if (h is not None and (term.silent or is_zero(h))) or is_zero(f):
            continue
        alike = (one for one in (x, *(part.below for part in kept)) if _are_equal(one, h))
        kept.append(_Part(Scaling(f), term.pull, term.pull_channel, term.fresh, next(alike, h)))
    zero, shape = x.new_zeros(()), x.shape

    def pull(relevance: Relevance) -> Relevance:
        total: Relevance | None = None
        heard = [part for part in kept if not part.above.silences(relevance)] or kept[-1:] if len(kept) > 1 else kept
        for part in heard:
            given = part(relevance if part is heard[-1] else relevance.shared())
            total = given if total is None else total.plus(given)
        return Relevance(zero.expand(len(relevance.rows), *shape)) if total is None else total

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
    """Return the same for zennit's own rules, without a factor of one."""
    found: list[torch.Tensor | None] = []
    for value, (one, two) in zip(inputs, _factors_at_numbers(rule), strict=True):
        if one == two:
            found.append(None if one == 1 else torch.full_like(value, one))
        else:
            found.append(value if one == 1 else value * one)
    return found


@lru_cache(maxsize=256)
def _factors_at_numbers(rule: BasicHook) -> list[tuple[float, float]]:
    """Return the factors of a reducer for inputs of one and of two.

    The reducers of zennit's own rules multiply a gradient with a number, or with a number times the modified input:
    these two tell which.
    """
    at_one, at_two = (
        [float(factor) for factor in _reducer_factors(rule, [number] * len(rule.input_modifiers))]
        for number in torch.tensor([1, 2], dtype=torch.float64)
    )
    return list(zip(at_one, at_two, strict=True))


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
