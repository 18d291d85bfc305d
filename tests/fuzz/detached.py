"""Forms of operations whose gradient is what an oracle wants: LRP-0 factors, or the plain gradient.

Under LRP-0 (design, section 3) relevance is input times the gradient of a function in which each constant factor is
detached: activations ``x * (f(x) / x)``, gates, attention weights, deviations of norms, denominators. Two live factors
of a product share it. In the plain form nothing is detached but what the program itself detaches. No fused norm is
differentiated: torch's own gradients of them are wrong for some memory formats.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

Mask = Callable[[torch.Tensor], torch.Tensor]
Function = Callable[..., torch.Tensor]


class Forms:
    """What a program's oracle lines call ``q``.

    Parameters
    ----------
    gradient : bool
        The plain gradient, instead of LRP-0.
    masks : dict, optional
        What the factor that flows back into a named module's output is changed by.

    Attributes
    ----------
    values, factors : dict
        By module name, the value of its output, and after a backward the factor that arrived before its mask.
    nodes : dict
        The outputs themselves.
    smallest : float
        The smallest absolute value, zeros aside, that a live tensor has: LRP-0 divides by it.
    exposed : bool
        Whether LRP-0 is not defined: an activation that is not zero at zero met an input near zero, or summands cancel.
    """

    def __init__(self, *, gradient: bool = False, masks: Mapping[str, Mask] | None = None) -> None:
        self.gradient, self.masks = gradient, masks or {}
        self.values: dict[str, torch.Tensor] = {}
        self.factors: dict[str, torch.Tensor] = {}
        self.nodes: dict[str, torch.Tensor] = {}
        self.smallest, self.exposed = math.inf, False
        self._calls: Counter[str] = Counter()

    # ------------------------------------------------------------------ observation

    def see(self, *values: Any) -> None:
        """Note how near to zero live values are."""
        for value in values:
            if isinstance(value, torch.Tensor) and value.requires_grad:
                sizes = value.detach().abs()
                sizes = sizes[sizes > 0]
                if sizes.numel():
                    self.smallest = min(self.smallest, float(sizes.min()))

    def total(self, value: torch.Tensor, summand: torch.Tensor) -> torch.Tensor:
        """A sum, noted if it is exactly zero though a summand is not: LRP-0 divides zero by zero there."""
        self.exposed |= bool(((value == 0) & (summand != 0)).any())
        return value

    def node(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Output of a module's next call, as a tensor of its own, masked on the way back."""
        call, self._calls[name] = self._calls[name], self._calls[name] + 1
        name = f"{name}_{call}" if call else name
        if not value.requires_grad:
            return value
        value = value.clone()
        self.see(value)
        self.values[name], self.nodes[name] = value.detach().clone(), value

        def arrive(factor: torch.Tensor) -> torch.Tensor:
            self.factors[name] = factor
            return self.masks[name](factor) if name in self.masks else factor

        value.register_hook(arrive)
        return value.clone()

    # ------------------------------------------------------------------ factors

    def c(self, value: torch.Tensor) -> torch.Tensor:
        """A constant factor under LRP: a gate, a weight, a deviation, a denominator."""
        return value if self.gradient else value.detach().clone()

    def act(self, function: Function, x: torch.Tensor) -> torch.Tensor:
        """Element-wise function: input times the constant ratio of output and input."""
        if self.gradient or not x.requires_grad:
            return function(x)
        fixed = x.detach().clone()
        value = function(fixed.clone())
        near = fixed.abs() < 1e-4
        self.exposed |= bool((near & (value.abs() > 1e-2)).any())
        ratio = torch.where(fixed == 0, 0.0, value / torch.where(fixed == 0, 1.0, fixed))
        return x * ratio + (value - fixed * ratio)

    def halves(self, function: Function, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Product of two live factors, which share."""
        if self.gradient:
            return function(first, second)
        result = (function(first, self.c(second)) + function(self.c(first), second)) / 2
        self.see(result)
        return result

    def write(self, target: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """A value, written into a tensor in place."""
        return target.copy_(value)

    # ------------------------------------------------------------------ parts as views into which autograd may write

    def split(self, x: torch.Tensor, sizes: list[int], dim: int) -> tuple[torch.Tensor, ...]:
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return tuple(x.narrow(dim, start, size) for start, size in zip(starts, sizes, strict=True))

    def unbind(self, x: torch.Tensor, dim: int) -> tuple[torch.Tensor, ...]:
        return tuple(x.select(dim, index) for index in range(x.shape[dim]))

    # ------------------------------------------------------------------ norms, never fused

    def batch_norm(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return x * scale.view(shape) + (norm.bias - norm.running_mean * scale).view(shape)

    def standardised(self, x: torch.Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> torch.Tensor:
        """Signal minus its mean, divided by its deviation, which counts as a constant."""
        mean = x.mean(dims, keepdim=True)
        centred = x - mean
        if mean.numel() < x.numel():
            self.total(centred, x)
        self.see(centred)
        return centred / self.c(torch.sqrt(centred.square().mean(dims, keepdim=True) + eps))

    def layer_norm(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        dims = tuple(range(-len(norm.normalized_shape), 0))
        return self.standardised(x, dims) * norm.weight + norm.bias

    def group_norm(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        grouped = x.reshape(x.shape[0], norm.num_groups, -1)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return self.standardised(grouped, (-1,)).reshape(x.shape) * norm.weight.view(shape) + norm.bias.view(shape)

    def instance_norm(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        normal = self.standardised(x, tuple(range(2, x.ndim)))
        return normal * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else normal

    # ------------------------------------------------------------------ attention

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention with constant weights; a boolean mask says what takes part."""
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        return self.c(scores.softmax(-1)) @ value

    def causal(self, length: int, width: int) -> torch.Tensor:
        """Mask of positions that are not behind."""
        return torch.ones(length, width, dtype=torch.bool).tril()

    def multi_head(self, layer: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
        """Self-attention of (batch, token, feature) with constant weights."""
        size = layer.embed_dim
        query, key, value = (
            self._heads(x @ weight.T + bias, layer.num_heads)
            for weight, bias in zip(layer.in_proj_weight.split(size), layer.in_proj_bias.split(size), strict=True)
        )
        mixed = self.attention(query, key, value).transpose(1, 2).reshape(x.shape)
        return mixed @ layer.out_proj.weight.T + layer.out_proj.bias

    @staticmethod
    def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    def encoder_layer(self, layer: nn.TransformerEncoderLayer, x: torch.Tensor) -> torch.Tensor:
        """Post-norm encoder layer."""
        x = self.layer_norm(layer.norm1, x + self.multi_head(layer.self_attn, x))
        return self.layer_norm(layer.norm2, x + layer.linear2(self.act(torch.relu, layer.linear1(x))))
