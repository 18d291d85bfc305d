"""Steps without weights: pass, plain gradient, contributions to sums and affine maps, gates and products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch

from ..errors import CompositeError
from ..graph.graph import Node, Ref
from ..graph.operations import Kind, Trait
from ..graph.recording.record import Recording
from .kernels.max_pool import max_pool_transpose
from .node_functions import (
    affine_map,
    inputs_of,
    linearised_function,
    output_of,
    true_function,
    values_of,
    with_constants,
)
from .relevance import Relevance, Scaling
from .sample_dependence import Samples, mapper_by_sample
from .step import Absorbed, Backward, Given, Message, Step, arriving, only, sum_to
from .vjp import Transposed

Mapper = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From what is multiplied and a node's output to the product of its shape, such as ``given / stabilized output``."""


def factor_of(mapper: Mapper, z: torch.Tensor) -> torch.Tensor:
    """Return what a mapper multiplies with, in the shape of a node's output."""
    return mapper(z.new_ones(()), z)


@dataclass(frozen=True, eq=False)
class PassStep(Step):
    """Relevance goes on unchanged: activations, folded norms."""

    to: Ref

    def prepare(self, recording: Recording) -> Backward:
        node, shape = self.node(recording), recording.graph.shape(self.to)
        if not _broadcasts(shape, node.shape):
            raise CompositeError(
                f"the rule Pass at {node.name!r} needs an input of its output's shape {tuple(node.shape)}; "
                f"got {tuple(shape)}"
            )
        if shape == node.shape:
            return lambda message: [(self.to, arriving(message))]
        return lambda message: [(self.to, sum_to(only(message), shape))]

    def absorbed(self, recording: Recording) -> Absorbed:
        return Absorbed(torch.zeros(()))


def _broadcasts(shape: torch.Size, target: torch.Size) -> bool:
    """Return whether a shape broadcasts to another."""
    if len(shape) > len(target):
        return False
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return all(size in (1, target_size) for size, target_size in pairs)


@dataclass(frozen=True, eq=False)
class StopStep(Step):
    """Relevance ends here: inputs, detached values."""

    def prepare(self, recording: Recording) -> Backward:
        return lambda message: []


@dataclass(frozen=True, eq=False)
class GradientStep(Step):
    """Relevance is multiplied with the Jacobian of the node's own computation."""

    to: tuple[Ref, ...]

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        values = inputs_of(recording, node, self.to)
        pooled = max_pool_transpose(node, values[0])
        if pooled is not None:
            return lambda message: [(self.to[0], Relevance(pooled(only(message)), owned=True))]
        if node.kind is Kind.BATCH_NORM:
            return self._times(affine_map(with_constants(node, recording))[0])
        pull = Transposed(true_function(node, recording, self.to), values, of=node)
        floats = [i for i, shape in enumerate(node.shapes) if shape is not None]
        alone = len(self.to) == 1 and recording.graph.shape(self.to[0]) == node.shape
        if node.kind is Kind.ACTIVATION and alone and not node.is_module:
            (slope,) = pull([torch.ones_like(pull.outputs[0])[None]])
            return self._times(slope[0])

        def backward(message: Message) -> Given:
            parts = [None if part is None else part.whole() for part in message]
            return list(zip(self.to, pull([parts[i] for i in floats]), strict=True))

        return backward

    def _times(self, slope: torch.Tensor) -> Backward:
        """Return the step of a node that is element-wise."""
        scaled = Scaling(slope)
        return lambda message: [(self.to[0], Relevance(scaled(arriving(message)), owned=True))]

    def absorbed(self, recording: Recording) -> Absorbed | None:
        return Absorbed() if self.node(recording).kind is Kind.STRUCTURAL else None


@dataclass(frozen=True, eq=False)
class ConcatenationStep(Step):
    """Each of the joined tensors gets the relevance of its own part, without a copy of it.

    Relevance that is still to be multiplied with the joined tensor is, in each part, still to be multiplied with the
    tensor that was joined, so that what its other readers send up can be summed before that.
    """

    to: tuple[Ref, ...]

    def prepare(self, recording: Recording) -> Backward:
        node, known = self.node(recording), recording.working
        joined, axis = node.argument("tensors"), node.argument("dim", 0) % len(node.shape)
        shapes = [recording.graph.shape(part) if isinstance(part, Ref) else part.shape for part in joined]
        # torch ignores a tensor of shape (0,), whatever the shape of the others
        sizes = [shape[axis] if len(shape) == len(node.shape) else 0 for shape in shapes]
        parts = [
            (ref, stop - size, size)
            for ref, size, stop in zip(joined, sizes, accumulate(sizes), strict=True)
            if isinstance(ref, Ref) and ref in self.to
        ]
        kept: dict[int, tuple[torch.Tensor, list[torch.Tensor]]] = {}

        def divided(factor: torch.Tensor) -> list[torch.Tensor]:
            """Return the same parts for the same factor again: what follows keeps its products with them."""
            if factor is known.get(Ref(self.index)):
                return [values_of(recording, [ref])[0] for ref, _, _ in parts]
            if id(factor) not in kept:
                kept[id(factor)] = factor, [factor.narrow(axis, start, size) for _, start, size in parts]
            return kept[id(factor)][1]

        def backward(message: Message) -> Given:
            whole = arriving(message)
            factors = [None] * len(parts) if whole.factor is None else divided(whole.factor)
            return [
                (ref, Relevance(whole.rows.narrow(axis + 1, start, size), factor, owned=whole.owned))
                for (ref, start, size), factor in zip(parts, factors, strict=True)
            ]

        return backward

    def absorbed(self, recording: Recording) -> Absorbed:
        return Absorbed()


@dataclass(frozen=True, eq=False)
class ContributionStep(Step):
    """Each input receives what it contributes: ``x_i * J_i^T mapper(R, z)``.

    The contribution of each factor of a product is the whole product, so that they share it: see `shares`.
    """

    to: tuple[Ref, ...]
    mapper: Mapper

    @property
    def parameters_in(self) -> Mapper:
        return self.mapper

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        inputs = inputs_of(recording, node, self.to)
        if node.spec.signs and not node.kwargs and len(node.args) == 2 and len(self.to) == 2:
            return self._sum(recording, inputs, sign=node.spec.signs[1])
        if node.kind is Kind.BATCH_NORM:
            return self._norm(recording, inputs[0])
        pull = Transposed(linearised_function(node, recording, self.to), inputs, of=node)
        scaled = Scaling(factor_of(self._mapper(recording, pull.outputs[0]), pull.outputs[0]))
        factors = [x if share == 1 else x * share for x, share in zip(inputs, shares(node, self.to), strict=True)]

        def backward(message: Message) -> Given:
            pulled = pull([scaled(arriving(message))])
            return [(ref, Relevance(part, x)) for ref, part, x in zip(self.to, pulled, factors, strict=True)]

        return backward

    def _mapper(self, recording: Recording, z: torch.Tensor) -> Mapper:
        """Return the mapper, applied to each sample alone if it depends on others."""
        output = Ref(self.index)
        return mapper_by_sample(self.mapper, z, Samples(recording, output, output), rule=self.rule)

    def divisor_at_zero(self, z: torch.Tensor) -> torch.Tensor:
        """Return an output, and where it is zero the rule's divisor: coefficients times it pass unchanged there."""
        divisor = 1 / factor_of(self.mapper, z)
        return torch.where((z == 0) & divisor.isfinite(), divisor, z)

    def _norm(self, recording: Recording, x: torch.Tensor) -> Backward:
        scale, shift = affine_map(with_constants(self.node(recording), recording))
        z = output_of(recording, Ref(self.index))
        z = torch.addcmul(shift, x, scale) if z is None else z
        scaled = Scaling(self._mapper(recording, z)(scale, z))
        return lambda message: [(self.to[0], Relevance(scaled(arriving(message)), x, owned=True))]

    def _sum(self, recording: Recording, inputs: list[torch.Tensor], *, sign: int) -> Backward:
        first, second = inputs
        z = output_of(recording, Ref(self.index))
        z = first + sign * second if z is None else z
        scaled = Scaling(factor_of(self._mapper(recording, z), z))
        factors = first, second if sign == 1 else -second

        def backward(message: Message) -> Given:
            rows = scaled(arriving(message))
            return [(ref, _summed(rows, x)) for ref, x in zip(self.to, factors, strict=True)]

        return backward

    def absorbed(self, recording: Recording) -> Absorbed:
        node = self.node(recording)
        run, inputs = linearised_function(node, recording, self.to), inputs_of(recording, node, self.to)
        (z,), (constant,) = run(*inputs), run(*map(torch.zeros_like, inputs))
        factor = factor_of(self.mapper, z)
        return Absorbed(constant * factor, 1 - z * factor)


def _summed(rows: torch.Tensor, factor: torch.Tensor) -> Relevance:
    """Return rows times a factor, summed over what the factor's shape was broadcast along."""
    if rows.shape[1:] == factor.shape:
        return Relevance(rows, factor)
    return Relevance(sum_to(rows * factor, factor.shape), owned=True)


def shares(node: Node, to: tuple[Ref, ...]) -> list[float]:
    """Return the part of its contribution that each input of a node keeps: equal parts for the factors of a product.

    A variance is the product of deviations with themselves.
    """
    if node.spec.has(Trait.QUADRATIC):
        return [0.5]
    factors = [ref for ref in node.spec.arguments(node.args, node.kwargs, node.spec.factors) if ref in to]
    return [1 / len(factors) if ref in factors else 1.0 for ref in to]


@dataclass(frozen=True, eq=False)
class GateStep(Step):
    """A signal keeps the relevance of its product with a gate; several signals share it equally."""

    to: tuple[Ref, ...]

    def prepare(self, recording: Recording) -> Backward:
        shapes = [recording.graph.shape(ref) for ref in self.to]
        if shapes == [self.node(recording).shape]:
            return lambda message: [(self.to[0], arriving(message))]

        def backward(message: Message) -> Given:
            part = only(message) / len(self.to)
            return [(ref, sum_to(part, shape)) for ref, shape in zip(self.to, shapes, strict=True)]

        return backward

    def absorbed(self, recording: Recording) -> Absorbed:
        return Absorbed(torch.zeros(()))
