"""Rules under which relevance shows what a neuron can see, whatever the weights and the sample are."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm
from zennit.composites import LayerMapComposite
from zennit.core import BasicHook
from zennit.layer import Sum
from zennit.rules import Flat, Pass
from zennit.types import Activation, AvgPool, BatchNorm, Linear, MaxPool

from .presets import Composite

__all__ = ["receptive_field_rules"]

_NORMS = (nn.LayerNorm, nn.GroupNorm, _InstanceNorm, nn.LocalResponseNorm)


class _OwnPass(Pass):  # type: ignore[misc]
    """Pass, but not the rule that folds a BatchNorm into its convolution, where a bias or a zero weight would count."""


@functools.cache  # one object, so that an engine plans for it once
def receptive_field_rules() -> Composite:
    """Return rules under which relevance reaches exactly what its start can see of the input.

    Every weight counts as one (Flat), so that nothing cancels and no zero is left out; activations and norms let all
    of it pass. Of each window of a max pooling, the first and the last element get one half each, whichever is the
    maximum, so that the box around what was reached is that of the whole windows. Factors (gates, attention weights,
    the statistics of norms) do not count; a maximum that is no pooling hands all to its largest element.
    """
    composite: Composite = LayerMapComposite(
        [
            (Activation, Pass()),
            (BatchNorm, _OwnPass()),
            (_NORMS, Pass()),
            (MaxPool, _ends_of_windows()),
            ((Linear, AvgPool, Sum), Flat()),
        ]
    )
    return composite


def _ends_of_windows() -> BasicHook:
    """Return the rule that gives one half each to the first and the last element of each window of a maximum."""
    return BasicHook(
        input_modifiers=[_rising, lambda x: -_rising(x)],
        gradient_mapper=lambda relevance, outputs: [relevance / 2, relevance / 2],
        reducer=lambda inputs, gradients: gradients[0] + gradients[1],
    )


def _rising(x: torch.Tensor) -> torch.Tensor:
    """Return numbers that rise from each neuron of a map to the next: (batch, channel, *position)."""
    shape = x.shape[2:]
    return torch.arange(shape.numel(), dtype=x.dtype, device=x.device).view(shape).expand_as(x)
