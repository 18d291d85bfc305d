"""Softmax by its Taylor expansion; fused attention under the uniform rule, as its products and softmax one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..graph.graph import Node, Ref
from ..graph.recording.record import Recording
from ..numerics import working
from ..rules.attnlrp import SoftmaxTaylor, softmax_axis, softmax_taylor
from .node_functions import inputs_of
from .own_steps import Mapper, factor_of
from .relevance import Scaling
from .sample_dependence import Samples, mapper_by_sample
from .step import Backward, Given, Message, Step, arriving, only, sum_to

__all__ = ["AttentionStep", "SoftmaxStep"]


@dataclass(frozen=True, eq=False)
class SoftmaxStep(Step):
    """A softmax by its Taylor expansion.

    Parameters
    ----------
    to : Ref
    hook : SoftmaxTaylor
    """

    to: Ref
    hook: SoftmaxTaylor

    @property
    def parameters_in(self) -> SoftmaxTaylor:
        return self.hook

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        (x,) = inputs_of(recording, node, [self.to])
        dim = softmax_axis(node.argument("dim"), x.ndim)
        weights = torch.softmax(x, dim)
        return lambda message: [(self.to, softmax_taylor(x, weights, only(message), dim))]


@dataclass(frozen=True, eq=False)
class AttentionStep(Step):
    """``scaled_dot_product_attention``: halves for the factors of both products, softmax by its Taylor expansion.

    An additive mask is a constant summand, which keeps what it contributes.

    Parameters
    ----------
    to : tuple of Ref
        Those of query, key and value that depend on the input.
    mapper : callable
        From relevance, or another multiplicand, and a product's output to relevance over that output.
    """

    to: tuple[Ref, ...]
    mapper: Mapper

    @property
    def parameters_in(self) -> Mapper:
        return self.mapper

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        query, key, value = (_tensor(node, recording, name) for name in ("query", "key", "value"))
        shapes = [tensor.shape for tensor in (query, key, value)]
        if node.argument("enable_gqa"):
            heads = query.shape[-3]
            key, value = (tensor.repeat_interleave(heads // tensor.shape[-3], -3) for tensor in (key, value))
        scale = node.argument("scale")
        key = key * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        scores = query @ key.transpose(-1, -2)
        masked = _masked(node, recording, scores)
        weights = torch.softmax(masked, -1).masked_fill((masked == -math.inf).all(-1, keepdim=True), 0.0)
        out = weights @ value
        output = Ref(self.index)
        mapper = mapper_by_sample(self.mapper, out, Samples(recording, output, output), rule=self.rule)
        scaled, within = Scaling(factor_of(mapper, out)), mapper(scores, scores) * weights / 4
        refs = [node.argument(name) for name in ("query", "key", "value")]

        def backward(message: Message) -> Given:
            factors = scaled(arriving(message))
            upon_weights = factors @ value.transpose(-1, -2)
            upon_scores = within * (upon_weights - (weights * upon_weights).sum(-1, keepdim=True))
            parts = (
                query * (upon_scores @ key),
                key * (upon_scores.transpose(-1, -2) @ query),
                value * (weights.transpose(-1, -2) @ factors) / 2,
            )
            return [
                (ref, sum_to(_ungrouped(part, shape), shape))
                for ref, part, shape in zip(refs, parts, shapes, strict=True)
                if isinstance(ref, Ref) and ref in self.to
            ]

        return backward


def _tensor(node: Node, recording: Recording, name: str) -> torch.Tensor:
    """Return the value of an argument in working precision."""
    argument = node.argument(name)
    value: Any = recording.value(argument) if isinstance(argument, Ref) else argument
    return working(value).detach()


def _masked(node: Node, recording: Recording, scores: torch.Tensor) -> torch.Tensor:
    """Return the scores as softmax gets them, with the additive mask added and masked positions at minus infinity."""
    if node.argument("is_causal"):
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    if node.argument("attn_mask") is None:
        return scores
    mask = node.argument("attn_mask")
    mask = recording.value(mask) if isinstance(mask, Ref) else mask
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + working(mask)


def _ungrouped(relevance: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Sum over the queries' heads that shared one head of keys or values."""
    heads = shape[-3] if len(shape) > 2 else relevance.shape[-3]
    if relevance.shape[-3] == heads:
        return relevance
    return relevance.reshape(*relevance.shape[:-3], heads, -1, *relevance.shape[-2:]).sum(-3)
