"""Forward from a node on, for many values of it."""

from __future__ import annotations

from typing import Any

import torch

from ..attribution.cond_attribution import CondAttribution
from ..attribution.layer_values import find_layer
from ..errors import ConditionError, InputError
from ..propagation.suffix import Suffix

__all__ = ["forward_from"]


def forward_from(attribution: CondAttribution, data: Any, layer: str, activations: torch.Tensor) -> torch.Tensor:
    """Return the model's output, (row, ...), for values of a node, (row, *shape); see `crp_kit.Study.forward_from`."""
    run = attribution.engine.run(data, None)
    if run.graph.batch != 1:
        raise InputError(f"forward_from takes one image, whose values the rest of the model has; got {run.graph.batch}")
    ref = find_layer(run, layer)
    suffix, value = Suffix(run, ref), run.recording.value(ref)
    if not suffix.nodes:
        raise ConditionError(f"the model's output does not depend on {layer!r}, or {layer!r} is the output itself")
    values = _numbers(layer, activations).to(value)
    if not values.ndim or not len(values) or values.shape[1:] != run.graph.sample_shape(ref):
        shape = tuple(run.graph.sample_shape(ref))
        raise InputError(f"values of {layer!r} have the shape (row, *{shape}); got {tuple(values.shape)}")
    return suffix(values.reshape(len(values), *value.shape)).squeeze(1)


def _numbers(layer: str, activations: Any) -> torch.Tensor:
    """Return values as a tensor of real numbers."""
    try:
        values = torch.as_tensor(activations)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"values of {layer!r} are a tensor (row, *shape); got {type(activations).__name__}") from error
    if values.is_complex():
        raise InputError(f"values of {layer!r} are real numbers; got {values.dtype}")
    return values
