"""Parameters and buffers of a model: checked for values, their device and floating-point type."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import ModelError

__all__ = ["check_weights", "device_and_dtype"]


def check_weights(model: nn.Module) -> None:
    """Make sure that every parameter and buffer of a model has values.

    Raises
    ------
    ModelError
        If one is not initialised, as in lazy modules, or is on the device ``meta``, which keeps shapes only.
    """
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(value):
            raise ModelError(
                f"{name!r} is not initialised, as in lazy modules: call the model once with a sample before it is used"
            )
        if isinstance(value, torch.Tensor) and value.is_meta:
            raise ModelError(
                f"{name!r} has a shape but no values, since it is on the device 'meta': make the model on the CPU, or "
                f"call model.to_empty(device='cpu') and load its weights"
            )


def device_and_dtype(model: torch.nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return device and floating-point type of a model."""
    for value in chain(model.parameters(), model.buffers()):
        if value.is_floating_point():
            return value.device, value.dtype
    return torch.device("cpu"), torch.float32
