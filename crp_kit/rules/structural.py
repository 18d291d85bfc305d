"""Steps without weights: pass, plain gradient, contributions to sums and affine maps, gates and products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..graph.nodes import Ref
from ..graph.ops import Kind
from ..graph.record import Recording
from .functions import linearised_function, true_function, values_of
from .step import Backward, Given, Message, Step, Transposed, sum_to

Factor = Callable[[torch.Tensor], torch.Tensor]
"""From a node's output to the factor that its relevance is multiplied with, such as ``1 / stabilized output``."""


def only(message: Message) -> torch.Tensor:
    """Return the relevance of a node with one output."""
    return next(part for part in message if part is not None)


@dataclass(frozen=True, eq=False)
class PassStep(Step):
    """Relevance goes on unchanged: activations, folded norms."""

    to: Ref

    def prepare(self, recording: Recording) -> Backward:
        shape = recording.graph.shape(self.to)
        return lambda message: [(self.to, sum_to(only(message), shape))]


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
        hidden = node.kind is Kind.OPAQUE
        function = true_function(node, recording, self.to)
        pull = Transposed(function, values_of(recording, self.to), hidden=hidden)
        floats = [i for i, shape in enumerate(node.shapes) if shape is not None]

        def backward(message: Message) -> Given:
            return list(zip(self.to, pull([message[i] for i in floats]), strict=True))

        return backward


@dataclass(frozen=True, eq=False)
class ContributionStep(Step):
    """Each input of a sum or affine map receives what it contributes: ``x_i * J_i^T (R * factor(z))``."""

    to: tuple[Ref, ...]
    factor: Factor

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        inputs = values_of(recording, self.to)
        if node.op in ("add", "sub") and not node.kwargs and len(node.args) == 2 and len(self.to) == 2:
            return self._sum(recording, inputs, sign=-1 if node.op == "sub" else 1)
        pull = Transposed(linearised_function(node, recording, self.to), inputs)
        factor = self.factor(pull.outputs[0])

        def backward(message: Message) -> Given:
            pulled = pull([only(message) * factor])
            return [(ref, x * part) for ref, x, part in zip(self.to, inputs, pulled, strict=True)]

        return backward

    def _sum(self, recording: Recording, inputs: list[torch.Tensor], *, sign: int) -> Backward:
        first, second = inputs
        factor = self.factor(first + sign * second)
        shares = first * factor, sign * second * factor

        def backward(message: Message) -> Given:
            relevance = only(message)
            return [
                (ref, sum_to(relevance * share, x.shape))
                for ref, share, x in zip(self.to, shares, inputs, strict=True)
            ]

        return backward


@dataclass(frozen=True, eq=False)
class GateStep(Step):
    """A signal keeps the relevance of its product with a gate; several signals share it equally."""

    to: tuple[Ref, ...]

    def prepare(self, recording: Recording) -> Backward:
        shapes = [recording.graph.shape(ref) for ref in self.to]

        def backward(message: Message) -> Given:
            part = only(message) / len(self.to)
            return [(ref, sum_to(part, shape)) for ref, shape in zip(self.to, shapes, strict=True)]

        return backward


@dataclass(frozen=True, eq=False)
class MixingStep(Step):
    """A matrix product: linear in each signal with all else fixed, by contribution; signals share equally."""

    to: tuple[Ref, ...]
    factor: Factor

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        parts = []
        for ref in self.to:
            (x,) = values_of(recording, [ref])
            pull = Transposed(linearised_function(node, recording, [ref]), [x])
            parts.append((ref, x, pull, self.factor(pull.outputs[0]) / len(self.to)))

        def backward(message: Message) -> Given:
            relevance = only(message)
            return [(ref, x * pull([relevance * factor])[0]) for ref, x, pull, factor in parts]

        return backward
