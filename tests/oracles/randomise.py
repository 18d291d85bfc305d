"""Random parameters for any model, so that nothing that was initialised with zeros or ones makes a check trivial."""

import re

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .families import calibrate

_PLACES = re.compile(r"pos_emb|position_emb|pos_embd|patch_pos|pixel_pos|abs_pos|wpe|token_type_emb|pos_enc")
_CONSTANTS = re.compile(r"(bias|beta|shift|(cls|class|dist|reg|mask|global|register)_tokens?(_?\d+)?)$")
_BIASES_OF_WEIGHTS = re.compile(r"(bias_table|biases|rel_pos\w*|relative\w*)$")
_EXCITATIONS = re.compile(r"Squeeze|^SE|EffectiveSE")
_TEMPERATURES = re.compile(r"(logit_scale|temperature|gating_param)$")


def randomise(
    model: nn.Module, samples: object, *, biases: bool, generator: torch.Generator, gates: float = 1.0
) -> None:
    """Give every parameter and every batch norm statistic a random value, in place.

    Parameters
    ----------
    model : nn.Module
        In float32.
    samples : Tensor or dict
        What the model is called with; batch norms get statistics near those of these samples.
    biases : bool
        Whether anything adds a constant to the signal. Without, LRP-0 conserves relevance exactly.
    generator : torch.Generator
    gates : float
        Factor of the weights of squeeze-and-excitation gates; steep ones in a row amplify rounding errors.
    """
    norms = {f"{path}.weight" for path, module in model.named_modules() if is_norm(module)}
    steep = _gate_weights(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _draw(name, parameter, generator, in_norm=name in norms)
            if name in steep:
                parameter.mul_(gates)
        if not biases:
            _remove_constants(model)
        calibrate(model, samples, generator, centred=biases)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer, whose weight is a factor for each channel."""
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, _BatchNorm)) or type(module).__name__.endswith("Norm")


def _gate_weights(model: nn.Module) -> set[str]:
    """Names of the weights in front of the sigmoid of a squeeze-and-excitation module."""
    modules = [path for path, module in model.named_modules() if _EXCITATIONS.search(type(module).__name__)]
    return {f"{path}.{layer}.weight" for path in modules for layer in ("fc2", "conv_expand", "fc")}


def _draw(name: str, parameter: torch.Tensor, generator: torch.Generator, *, in_norm: bool) -> None:
    """Draw one parameter: weights keep the variance of a signal behind a ReLU, scales are of order one."""
    if _adds(name) or _BIASES_OF_WEIGHTS.search(name):
        parameter.normal_(0, 0.2, generator=generator)
    elif _TEMPERATURES.search(name):
        parameter.uniform_(0.0, 2.0, generator=generator)
    elif parameter.squeeze().ndim < 2:
        parameter.uniform_(0.5, 1.5, generator=generator)
        if in_norm:
            parameter[torch.rand(parameter.shape, generator=generator) < 0.15] *= -1
    else:
        parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)


def _adds(name: str) -> bool:
    return bool(_PLACES.search(name) or _CONSTANTS.search(name))


def _remove_constants(model: nn.Module) -> None:
    """Set to zero each parameter and buffer that adds a constant to the signal, and what makes such a constant."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and _adds(name):
            tensor.zero_()
