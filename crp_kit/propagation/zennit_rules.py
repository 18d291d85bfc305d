"""zennit's hooks on one unit, executed for many conditions at once.

A ``BasicHook`` declares terms (modified inputs, parameters and outputs), a gradient mapper and a reducer. The modified
forwards depend on the sample alone, so they run once. If mapper and reducer multiply element-wise, which is so for
every rule of zennit and is tried for any other, relevance becomes ``sum_i h_i * J_i^T (f_i * R)`` with factors that all
conditions share. A term whose factors are zero is left out. Any other ``Hook`` runs through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from zennit.core import BasicHook, Hook
from zennit.rules import ZBox

from ..errors import CompositeError, CrpKitError
from ..numerics import working
from .closed_form import by_term, is_declared, known_rule, mapper_factors, reducer_factors
from .effective_weights import LinearUnit
from .kernels.transposed_conv import ChannelPull
from .modified_forwards import ModifiedUnit, Term, terms_of
from .relevance import Relevance, Scaling, are_zero
from .sample_dependence import Samples, sample_by_sample
from .step import Absorbed, Pull
from .vjp import ordered_like

__all__ = ["absorbed_by", "hook_backward"]

_BOUNDS = (
    ". Bounds by channel of an image do not fit a layer that reads pixels in another order: "
    "zennit.composites.EpsilonGammaBox(low=…, high=…) takes one number for all channels as well"
)


def hook_backward(
    rule: Hook,
    unit: torch.nn.Module,
    x: torch.Tensor,
    *,
    where: str,
    samples: Samples,
    modified: ModifiedUnit | None = None,
) -> Callable[[Relevance], Relevance]:
    """Return the function from relevance at a unit's output to that at its input.

    A rule that depends on more than one sample is applied to each alone.

    Parameters
    ----------
    rule : zennit Hook
    unit : torch.nn.Module
    x : torch.Tensor
        The unit's input.
    where : str
        Name of the node, for errors.
    samples : Samples
    modified : ModifiedUnit, optional
        The unit under a `BasicHook`, if some of it may be known already.

    Raises
    ------
    CompositeError
        If the rule fails on this unit, here or in the function that is returned.
    """
    whole = modified or ModifiedUnit(rule, lambda: unit)
    part = replace(whole, output=lambda: None)  # the output is known of all samples together, not of some

    def backward_at(value: torch.Tensor) -> Callable[[Relevance], Relevance]:
        if is_declared(rule):
            return _basic(rule, terms_of(unit, value, whole if value is x else part), value)
        return _by_autograd(rule, unit, value)

    with _named_in_errors(rule, where):
        pull = sample_by_sample(rule, backward_at, x, samples, where=where) or backward_at(x)

    shape = x.shape

    def checked(relevance: Relevance) -> Relevance:
        with _named_in_errors(rule, where):
            below = pull(relevance)
        if below.rows.shape[1:] != shape:
            raise CompositeError(
                f"the rule {type(rule).__name__} at {where!r} gives relevance of shape {tuple(below.rows.shape[1:])} "
                f"for an input of shape {tuple(shape)}"
            )
        return below

    return checked


@contextmanager
def _named_in_errors(rule: Hook, where: str) -> Iterator[None]:
    """Raise what fails in a rule as an error that names the rule and the node."""
    try:
        yield
    except (CrpKitError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        hint = _BOUNDS if isinstance(rule, ZBox) and "shape" in str(error) else ""
        raise CompositeError(f"the rule {type(rule).__name__} fails at {where!r}: {error}{hint}") from error


# ---------------------------------------------------------------------- BasicHook


@dataclass(frozen=True)
class _FactoredTerm:
    """A term that is not zero: its transpose, and what relevance is multiplied with above and below it.

    It does not hold the term itself, whose input and output would stay in memory.
    """

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


def absorbed_by(
    rule: Hook, unit: torch.nn.Module, x: torch.Tensor, *, where: str, modified: ModifiedUnit | None = None
) -> Absorbed | None:
    """Return what a rule absorbs at a unit that is an affine map, or None for a rule that is not such a sum of terms.

    Relevance ``R`` goes with a factor ``f_t`` to each term ``z_t = A_t h_t + b_t``, and comes back as ``c_t h_t`` times
    the gradient. Constants absorb ``sum_t c_t f_t b_t`` of it, and the stabilizer ``1 - sum_t c_t f_t z_t``.
    """
    if not is_declared(rule) or not x.numel():
        return None
    modified = modified or ModifiedUnit(rule, lambda: unit)
    with _named_in_errors(rule, where):
        terms = terms_of(unit, x, modified)
    if not _is_factored(rule, terms):
        return None
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    signs = [factor.flatten()[0] for factor in reducer_factors(rule, [torch.ones_like(value) for value in inputs])]
    expected = zip(reducer_factors(rule, inputs), signs, inputs, strict=True)
    if not all(torch.allclose(h, sign * value) for h, sign, value in expected):
        return None
    constants, returned = torch.zeros_like(outputs[0]), torch.zeros_like(outputs[0])
    for number, (term, sign, factor) in enumerate(zip(terms, signs, mapper_factors(rule, outputs), strict=True)):
        if isinstance(unit, LinearUnit):
            bias = unit.of_zeros(modified.parameters(number, bias_only=True), term.output)
        else:
            bias = torch.func.functional_call(unit, modified.parameters(number), (torch.zeros_like(term.input),))
        constants = constants + sign * factor * bias
        returned = returned + sign * factor * term.output
    return Absorbed(constants, 1 - returned)


def _is_factored(rule: BasicHook, terms: Sequence[Term]) -> bool:
    """Return whether a rule is a sum of terms that multiply element-wise."""
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    return known_rule(rule) is not None or (not _shared_inputs(inputs) and _multiplies(rule, inputs, outputs))


def _basic(rule: BasicHook, terms: Sequence[Term], x: torch.Tensor) -> Callable[[Relevance], Relevance]:
    """Return a declared rule: with factors that all rows share where it multiplies, or else row by row."""
    if _is_factored(rule, terms):
        return _factored(rule, terms, x)
    by_row = _row_by_row(rule, terms)
    return lambda relevance: Relevance(by_row(working(relevance.whole())), owned=True)


def _shared_inputs(inputs: Sequence[torch.Tensor]) -> list[list[int]]:
    """Return groups of terms that share one input tensor: autograd gives each of them their total gradient."""
    groups: dict[int, list[int]] = {}
    for term, value in enumerate(inputs):
        groups.setdefault(id(value), []).append(term)
    return [group for group in groups.values() if len(group) > 1]


def _row_by_row(rule: BasicHook, terms: Sequence[Term]) -> Pull:
    """Return a rule that need not be linear in relevance; only its transposes run for many conditions at once."""
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    shared = _shared_inputs(inputs)

    def pull(relevance: torch.Tensor) -> torch.Tensor:
        mapped = [by_term(rule.gradient_mapper(row, outputs), len(terms)) for row in relevance]
        pulled = [
            term.pull(torch.stack([row[i] for row in mapped]).to(term.output.dtype)) for i, term in enumerate(terms)
        ]
        for group in shared:
            total = torch.stack([pulled[i] for i in group]).sum(0)
            for i in group:
                pulled[i] = total
        return torch.stack([rule.reducer(inputs, [part[row] for part in pulled]) for row in range(len(relevance))])

    return pull


def _factored(rule: BasicHook, terms: Sequence[Term], x: torch.Tensor) -> Callable[[Relevance], Relevance]:
    """Return the rule as a sum of terms with two factors each, leaving out those that are zero.

    Terms with the same factor at the input are summed before it. Where that is the input itself, the very tensor is the
    factor, so that what other readers of it send up can be summed before it too.
    """
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    known = known_rule(rule)
    if known is None:
        above = mapper_factors(rule, outputs)
        below: Sequence[torch.Tensor | None] = reducer_factors(rule, inputs)
    else:
        above, below = known.above(outputs), known.below(inputs)
    factored = zip(above, terms, below, strict=True)
    candidates = [(f, term, h) for f, term, h in factored if h is None or not term.zero_input]
    if len(candidates) > 1:
        factors = [factor for f, _, h in candidates for factor in (f, h) if factor is not None]
        gone = {id(factor) for factor, is_zero in zip(factors, are_zero(factors), strict=True) if is_zero}
        candidates = [(f, term, h) for f, term, h in candidates if gone.isdisjoint((id(f), id(h)))]
    kept: list[_FactoredTerm] = []
    for f, term, h in candidates:
        alike = (factor for factor in (x, *(part.below for part in kept)) if _are_equal(factor, h))
        kept.append(_FactoredTerm(Scaling(f), term.pull, term.pull_channel, term.fresh, next(alike, h)))
    zero, shape = x.new_zeros(()), x.shape

    def pull(relevance: Relevance) -> Relevance:
        total: Relevance | None = None
        parts = [part for part in kept if not part.above.zeroes(relevance)] or kept[-1:] if len(kept) > 1 else kept
        for part in parts:
            below = part(relevance if part is parts[-1] else relevance.shared())  # only the last reader may own it
            total = below if total is None else total.plus(below)
        return Relevance(zero.expand(len(relevance.rows), *shape)) if total is None else total

    return pull


def _are_equal(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    return first is second or (first is not None and second is not None and torch.equal(first, second))


_TRIED = 64
"""Numbers of either sign, at least, on which a rule is tried."""


def _multiplies(rule: BasicHook, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> bool:
    """Return whether mapper and reducer only multiply element-wise, by trying numbers of every magnitude.

    Of few elements more draws are tried, so that no clipping or threshold goes unseen.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(like: torch.Tensor) -> torch.Tensor:
        exponents = torch.rand(like.shape, generator=generator, device="cpu") * 16 - 8
        return (torch.randn(like.shape, generator=generator, device="cpu") * 10**exponents).to(like)

    above, below = mapper_factors(rule, outputs), reducer_factors(rule, inputs)
    fewest = min(value.numel() for value in (outputs[0], *inputs))
    for _ in range(max(1, _TRIED // max(1, fewest))):
        positive, by_input = drawn(outputs[0]), [drawn(value) for value in inputs]
        for relevance, gradients in ((positive, by_input), (-positive, [-gradient for gradient in by_input])):
            mapped = by_term(rule.gradient_mapper(relevance, list(outputs)), len(outputs))
            if not all(_same(factor * relevance, part) for factor, part in zip(above, mapped, strict=True)):
                return False
            parts = [factor * gradient for factor, gradient in zip(below, gradients, strict=True)]
            if not _same(rule.reducer(list(inputs), gradients), torch.stack(parts).sum(0)):
                return False
    return True


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Compare element-wise, without an absolute tolerance: small relevance counts as much as large."""
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=0.0, equal_nan=True)


# ---------------------------------------------------------------------- any other Hook


def _by_autograd(hook: Hook, unit: torch.nn.Module, x: torch.Tensor) -> Callable[[Relevance], Relevance]:
    """Return what a hook does when it is registered: through autograd on this unit alone, row by row."""

    def one_row(relevance: torch.Tensor) -> torch.Tensor:
        copy = hook.copy()
        handles = copy.register(unit)
        try:
            with torch.enable_grad():
                leaf = x.detach().clone().requires_grad_()
                output = unit(leaf)
            seed = ordered_like(relevance.to(output.dtype)[None], output)[0]
            relevance_below: torch.Tensor = torch.autograd.grad(output, leaf, seed)[0]
        finally:
            handles.remove()
        return relevance_below

    return lambda relevance: Relevance(torch.stack([one_row(row) for row in working(relevance.whole())]), owned=True)
