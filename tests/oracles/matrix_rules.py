"""LRP rules of an affine map, written down with its matrix, in float64, as zennit defines them.

For a map ``z_j = sum_i W_ji x_i + b_j`` a rule says which part of the relevance ``R_j`` each input ``i`` gets, and what
bias and stabilizer absorb. ``zero_bias`` leaves the bias out (zennit's ``zero_params="bias"``). `on_layer` applies a
rule to a linear layer or a convolution, whose matrix is filled in element by element.

References
----------
Bach, Binder, Montavon, Klauschen, Müller and Samek, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
Layer-Wise Relevance Propagation", PLOS ONE 2015: epsilon, alpha-beta. Montavon, Lapuschkin, Binder, Samek and Müller,
"Explaining nonlinear classification decisions with deep Taylor decomposition", Pattern Recognition 2017: z-plus,
w-square, z-box. Andéol, Kawakami, Wada, Kanamori, Müller and Montavon, "Learning Domain Invariant Representations by
Joint Wasserstein Distance Minimization", 2021: gamma for inputs of both signs. Lapuschkin, Wäldchen, Binder, Montavon,
Samek and Müller, "Unmasking Clever Hans predictors", Nature Communications 2019: flat.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

Layer = nn.Linear | nn.Conv2d
STABILIZER = 1e-6


@dataclass(frozen=True)
class Affine:
    """Map of flattened samples ``z = weight x + bias``, for each sample or for all.

    Attributes
    ----------
    weight : Tensor
        (sample or 1, output, input).
    bias : Tensor
        (sample or 1, output).
    seen : Tensor
        (output, input): one where an output has a weight for an input, be it zero.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    seen: torch.Tensor

    def after(self, first: "Affine") -> "Affine":
        """This map of what another map gives; the seen weights are those of the map that is no diagonal."""
        bias = torch.einsum("boi,bi->bo", self.weight, first.bias) + self.bias
        return Affine(self.weight @ first.weight, bias, _wider(self.seen, first.seen))


def _wider(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """What two maps, of which one is a diagonal, see together."""
    return ((one @ other) > 0).double()


@dataclass(frozen=True)
class Shared:
    """What a rule does with the relevance of one node.

    Attributes
    ----------
    inputs : Tensor
        (sample, input).
    bias, stabilizer : float
        What biases and stabilizers absorb, over all samples and outputs.
    """

    inputs: torch.Tensor
    bias: float = 0.0
    stabilizer: float = 0.0

    def plus(self, other: "Shared", factor: float = 1.0) -> "Shared":
        """Sum of this and a multiple of another."""
        return Shared(
            self.inputs + factor * other.inputs,
            self.bias + factor * other.bias,
            self.stabilizer + factor * other.stabilizer,
        )


Rule = Callable[[Affine, torch.Tensor, torch.Tensor], Shared]
"""From an affine map, its input (sample, input) and its output's relevance (sample, output) to what becomes of it."""


def shared(parts: torch.Tensor, bias: torch.Tensor, relevance: torch.Tensor, stabilizer: float) -> Shared:
    """Relevance in proportion to parts (sample, output, input) of their sum with a bias (sample, output)."""
    total = parts.sum(2) + bias
    added = stabilizer * (1 - 2 * (total < 0).double())
    ratio = relevance / (total + added)
    inputs = torch.einsum("boi,bo->bi", parts, ratio)
    return Shared(inputs, float((bias * ratio).sum()), float((added * ratio).sum()))


def epsilon(epsilon: float = STABILIZER, *, zero_bias: bool = False) -> Rule:
    """Rule in proportion to ``W_ji x_i``; ``epsilon`` is added to the denominator with its sign."""

    def rule(affine: Affine, x: torch.Tensor, relevance: torch.Tensor) -> Shared:
        return shared(affine.weight * x[:, None], _bias(affine, zero_bias), relevance, epsilon)

    return rule


def alpha_beta(
    alpha: float = 2.0, beta: float = 1.0, stabilizer: float = STABILIZER, *, zero_bias: bool = False
) -> Rule:
    """Rule of ``alpha`` times the shares in positive, minus ``beta`` times those in negative ``W_ji x_i``."""

    def rule(affine: Affine, x: torch.Tensor, relevance: torch.Tensor) -> Shared:
        parts, bias = affine.weight * x[:, None], _bias(affine, zero_bias)
        positive = shared(parts.clamp(min=0), bias.clamp(min=0), alpha * relevance, stabilizer)
        return positive.plus(shared(parts.clamp(max=0), bias.clamp(max=0), beta * relevance, stabilizer), -1.0)

    return rule


def zplus(stabilizer: float = STABILIZER, *, zero_bias: bool = False) -> Rule:
    """Rule in proportion to the positive ones of ``W_ji x_i``; a positive bias keeps its share."""
    return alpha_beta(1.0, 0.0, stabilizer, zero_bias=zero_bias)


def gamma(gamma: float = 0.25, stabilizer: float = STABILIZER, *, zero_bias: bool = False) -> Rule:
    """Rule in proportion to ``W_ji x_i``, those with the sign of the output ``z_j`` times ``1 + gamma``.

    The sign of the output is that of the unmodified map, with its bias even under ``zero_bias``. A bias counts, with
    the same factor, whatever its sign. Outputs that are zero give nothing.
    """

    def rule(affine: Affine, x: torch.Tensor, relevance: torch.Tensor) -> Shared:
        parts, bias = affine.weight * x[:, None], _bias(affine, zero_bias).expand(len(x), -1)
        output = parts.sum(2) + affine.bias
        total = Shared(torch.zeros_like(x), 0.0, float(relevance[output == 0].sum()))
        for sign in (1.0, -1.0):
            favoured, above = (part * (1 + gamma * (part * sign > 0).double()) for part in (parts, bias))
            total = total.plus(shared(favoured, above, relevance * (output * sign > 0), stabilizer))
        return total

    return rule


def flat(stabilizer: float = STABILIZER) -> Rule:
    """Rule of equal shares for all inputs that an output sees; there is no bias."""

    def rule(affine: Affine, x: torch.Tensor, relevance: torch.Tensor) -> Shared:
        return shared(affine.seen.expand(len(x), -1, -1), torch.zeros_like(relevance), relevance, stabilizer)

    return rule


def wsquare(stabilizer: float = STABILIZER, *, zero_bias: bool = False) -> Rule:
    """Rule in proportion to ``W_ji ** 2``; the squared bias keeps its share."""

    def rule(affine: Affine, x: torch.Tensor, relevance: torch.Tensor) -> Shared:
        squares = (affine.weight**2).expand(len(x), -1, -1)
        return shared(squares, _bias(affine, zero_bias) ** 2, relevance, stabilizer)

    return rule


def zbox(low: float, high: float, stabilizer: float = STABILIZER) -> Rule:
    """Rule in proportion to ``W_ji x_i - max(W_ji, 0) low - min(W_ji, 0) high``.

    The positive part of the bias is subtracted with the one, its negative part with the other: no bias is left.
    """

    def rule(affine: Affine, x: torch.Tensor, relevance: torch.Tensor) -> Shared:
        weight = affine.weight
        parts = weight * x[:, None] - weight.clamp(min=0) * low - weight.clamp(max=0) * high
        return shared(parts, torch.zeros_like(relevance), relevance, stabilizer)

    return rule


def _bias(affine: Affine, zero_bias: bool) -> torch.Tensor:
    """Bias of a map, or zeros of its shape."""
    return torch.zeros_like(affine.bias) if zero_bias else affine.bias


def on_layer(rule: Rule) -> Callable[[Layer, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Function from a layer, its input and the relevance of its output to the relevance of its input, by a rule."""

    def relevance_of_input(layer: Layer, x: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
        weight, bias, seen = dense_layer(layer, x)
        samples, arrived = (value.detach().double().reshape(len(x), -1) for value in (x, relevance))
        return rule(Affine(weight[None], bias[None], seen), samples, arrived).inputs.reshape(x.shape)

    return relevance_of_input


def dense_layer(layer: Layer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrix of a layer, bias of each output, and which output sees which input.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        The layer; a convolution pads with zeros.
    x : Tensor
        Input, (batch, channel) or (batch, channel, height, width).

    Returns
    -------
    weight, bias, seen : Tensor
        (output, input), (output,) and, in zeros and ones, (output, input), both sides flattened, in float64.
    """
    if isinstance(layer, nn.Linear):
        weight = layer.weight.detach().double()
        bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
        return weight, bias, torch.ones_like(weight)
    return _dense_convolution(layer, (int(x.shape[2]), int(x.shape[3])))


def _dense_convolution(layer: nn.Conv2d, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrix of a convolution, element by element."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise NotImplementedError("only zero padding given in numbers")
    kernel, stride, dilation, padding = layer.kernel_size, layer.stride, layer.dilation, layer.padding
    height, width = ((size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in range(2))
    shape = (layer.out_channels, height, width, layer.in_channels, *size)
    weight, seen = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    values = layer.weight.detach().double()
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for channel, row, column in product(range(layer.out_channels), range(height), range(width)):
        first = channel // outputs * inputs
        for down, right in product(range(kernel[0]), range(kernel[1])):
            i = row * stride[0] + down * dilation[0] - padding[0]
            j = column * stride[1] + right * dilation[1] - padding[1]
            if 0 <= i < size[0] and 0 <= j < size[1]:
                weight[channel, row, column, first : first + inputs, i, j] = values[channel, :, down, right]
                seen[channel, row, column, first : first + inputs, i, j] = 1.0
    bias = torch.zeros(layer.out_channels, dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    count = layer.out_channels * height * width
    return weight.reshape(count, -1), bias.repeat_interleave(height * width), seen.reshape(count, -1)
