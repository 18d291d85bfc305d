"""LRP rules of one linear or convolutional layer, written down with its matrix, in float64, as zennit defines them.

For a layer ``z_j = sum_i W_ji x_i + b_j`` a rule says which part of the relevance ``R_j`` each input ``i`` gets. The
matrix of a convolution is filled in value by value. Each rule takes the layer, its input and the relevance of its
output, and returns the relevance of its input. ``zero_bias`` leaves the bias out (zennit's ``zero_params="bias"``).

References
----------
Bach, Binder, Montavon, Klauschen, Müller and Samek, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
Layer-Wise Relevance Propagation", PLOS ONE 2015: epsilon, alpha-beta. Montavon, Lapuschkin, Binder, Samek and Müller,
"Explaining nonlinear classification decisions with deep Taylor decomposition", Pattern Recognition 2017: z-plus,
w-square, z-box. Andéol, Kawakami, Wada, Kanamori, Müller and Montavon, "Learning Domain Invariant Representations by
Joint Wasserstein Distance Minimization", 2021: gamma for inputs of both signs. Lapuschkin, Wäldchen, Binder, Montavon,
Samek and Müller, "Unmasking Clever Hans predictors", Nature Communications 2019: flat.
"""

from itertools import product

import torch
from torch import nn

Layer = nn.Linear | nn.Conv2d
STABILIZER = 1e-6


def epsilon(
    layer: Layer, x: torch.Tensor, relevance: torch.Tensor, *, epsilon: float = STABILIZER, zero_bias: bool = False
) -> torch.Tensor:
    """Shares in proportion to ``W_ji x_i``; ``epsilon`` is added to the denominator with its sign."""
    case = _Case(layer, x, relevance, zero_bias)
    parts = case.weight * case.x[:, None, :]
    return case.shared(parts, case.bias, epsilon)


def zplus(
    layer: Layer, x: torch.Tensor, relevance: torch.Tensor, *, stabilizer: float = STABILIZER, zero_bias: bool = False
) -> torch.Tensor:
    """Shares in proportion to the positive ones of ``W_ji x_i``; a positive bias keeps its share."""
    return alpha_beta(layer, x, relevance, alpha=1.0, beta=0.0, stabilizer=stabilizer, zero_bias=zero_bias)


def alpha_beta(
    layer: Layer,
    x: torch.Tensor,
    relevance: torch.Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    stabilizer: float = STABILIZER,
    zero_bias: bool = False,
) -> torch.Tensor:
    """``alpha`` times the shares in proportion to positive, minus ``beta`` times those to negative ``W_ji x_i``."""
    case = _Case(layer, x, relevance, zero_bias)
    parts = case.weight * case.x[:, None, :]
    positive = case.shared(parts.clamp(min=0), case.bias.clamp(min=0), stabilizer)
    negative = case.shared(parts.clamp(max=0), case.bias.clamp(max=0), stabilizer)
    return alpha * positive - beta * negative


def gamma(
    layer: Layer,
    x: torch.Tensor,
    relevance: torch.Tensor,
    *,
    gamma: float = 0.25,
    stabilizer: float = STABILIZER,
    zero_bias: bool = False,
) -> torch.Tensor:
    """Shares in proportion to ``W_ji x_i``, those with the sign of the output ``z_j`` times ``1 + gamma``.

    The sign of the output is that of the unmodified layer, with its bias even under ``zero_bias``. A bias counts, with
    the same factor, whatever its sign. Outputs that are zero give nothing.
    """
    case = _Case(layer, x, relevance, zero_bias)
    parts = case.weight * case.x[:, None, :]
    output = parts.sum(2) + _Case(layer, x, relevance, False).bias
    total = torch.zeros_like(x, dtype=torch.float64)
    for sign in (1.0, -1.0):
        favoured = parts * (1 + gamma * (parts * sign > 0).double())
        bias = case.bias * (1 + gamma * (case.bias * sign > 0).double())
        chosen = (output * sign > 0).double()
        total = total + case.shared(favoured, bias, stabilizer, chosen)
    return total


def flat(layer: Layer, x: torch.Tensor, relevance: torch.Tensor, *, stabilizer: float = STABILIZER) -> torch.Tensor:
    """Equal shares for all inputs that an output sees; there is no bias."""
    case = _Case(layer, x, relevance, True)
    return case.shared(case.seen.expand(len(x), -1, -1), case.bias, stabilizer)


def wsquare(
    layer: Layer, x: torch.Tensor, relevance: torch.Tensor, *, stabilizer: float = STABILIZER, zero_bias: bool = False
) -> torch.Tensor:
    """Shares in proportion to ``W_ji ** 2``; the squared bias keeps its share."""
    case = _Case(layer, x, relevance, zero_bias)
    return case.shared((case.weight**2).expand(len(x), -1, -1), case.bias**2, stabilizer)


def zbox(
    layer: Layer,
    x: torch.Tensor,
    relevance: torch.Tensor,
    *,
    low: torch.Tensor | float,
    high: torch.Tensor | float,
    stabilizer: float = STABILIZER,
    zero_bias: bool = False,
) -> torch.Tensor:
    """Shares in proportion to ``W_ji x_i - max(W_ji, 0) low_i - min(W_ji, 0) high_i``.

    The positive part of the bias is subtracted with the one, its negative part with the other: no bias is left.
    """
    case = _Case(layer, x, relevance, True)
    lowest, highest = (
        torch.as_tensor(bound, dtype=torch.float64).expand(x.shape).reshape(len(x), 1, -1) for bound in (low, high)
    )
    parts = case.weight * case.x[:, None, :]
    parts = parts - case.weight.clamp(min=0) * lowest - case.weight.clamp(max=0) * highest
    return case.shared(parts, case.bias, stabilizer)


def dense(layer: Layer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
    """Matrix of a convolution, value by value."""
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


class _Case:
    """One layer as a matrix, with a flattened input and relevance of the output."""

    def __init__(self, layer: Layer, x: torch.Tensor, relevance: torch.Tensor, zero_bias: bool) -> None:
        self.weight, bias, self.seen = dense(layer, x)
        self.bias = torch.zeros_like(bias) if zero_bias else bias
        self.shape = x.shape
        self.x = x.detach().double().reshape(len(x), -1)
        self.relevance = relevance.detach().double().reshape(len(x), -1)

    def shared(
        self, parts: torch.Tensor, bias: torch.Tensor, stabilizer: float, chosen: torch.Tensor | float = 1.0
    ) -> torch.Tensor:
        """Relevance of the chosen outputs, shared in proportion to parts (batch, output, input) of sum and bias."""
        total = parts.sum(2) + bias
        sign = 1 - 2 * (total < 0).double()
        ratio = self.relevance * chosen / (total + sign * stabilizer)
        return torch.einsum("boi,bo->bi", parts, ratio).reshape(self.shape)
