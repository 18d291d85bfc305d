"""What models are called with, and the modules in them that are known to be activations."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Data = torch.Tensor | dict[str, torch.Tensor]

_ACTIVATIONS = re.compile(r"(GELU|Swish|SiLU|Mish)(Activation|Tanh|Me)?$", re.IGNORECASE)


def signal_of(data: Data) -> torch.Tensor:
    """The tensor that gets relevance: the data itself, or its one floating-point argument.

    Raises
    ------
    ValueError
        If there are several.
    """
    if isinstance(data, torch.Tensor):
        return data
    found = [one for one in data.values() if one.is_floating_point()]
    if len(found) != 1:
        raise ValueError(f"the oracle wants one floating-point argument, got {len(found)} of {list(data)}")
    return found[0]


def with_signal(data: Data, signal: torch.Tensor) -> Data:
    """Same arguments with another tensor as the signal."""
    if isinstance(data, torch.Tensor):
        return signal
    return {name: signal if one.is_floating_point() else one for name, one in data.items()}


def declare_activations(model: nn.Module) -> nn.Module:
    """Let modules that are activations by their name, but written as products of the signal, be activations; in place.

    Such a module is ``x * const(act(x) / x)`` whatever it is made of; where it is made of products, its formula alone
    does not say which factor is the gate.
    """
    for module in model.modules():
        if _ACTIVATIONS.search(type(module).__name__) and not type(module).__module__.startswith("torch."):
            module.forward = _as_activation(module.forward)  # type: ignore[method-assign]
    return model


def _as_activation(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def activation(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        fixed = x.detach()
        value = forward(fixed.clone(), *args, **kwargs)
        ratio = torch.where(fixed == 0, 0.0, value / torch.where(fixed == 0, 1.0, fixed))
        return x * ratio + (value - fixed * ratio)

    return activation
