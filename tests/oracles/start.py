"""Where a relevance backward starts: the output tensor of a model and one selected neuron of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def called(model: nn.Module, data: Any) -> Any:
    """What a model returns for a tensor, or for a dictionary of named arguments."""
    return model(**data) if isinstance(data, Mapping) else model(data)


def output_tensor(output: Any) -> torch.Tensor:
    """Tensor that carries a model's prediction: the output itself, its entry ``out`` or ``logits``, or its first."""
    if isinstance(output, Mapping):
        output = output["out" if "out" in output else "logits"]
    elif isinstance(output, (tuple, list)):
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise TypeError(f"expected an output that holds a tensor, got {type(output).__name__}")
    return output


def scalar_start(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Output tensor and one-hot selection of its strongest class, for each sample.

    Parameters
    ----------
    output : Tensor, dict or tuple
        What a model returned: logits (batch, class), or (batch, class, height, width), where the centre pixel counts,
        or (batch, token, class), where the last token counts.

    Returns
    -------
    logits, selection : Tensor
        The output tensor and a tensor of its shape: one at the selected neuron of each sample, else zero.
    """
    logits = output_tensor(output)
    selection = torch.zeros_like(logits, requires_grad=False)
    centre = tuple(size // 2 for size in logits.shape[2:])
    place: tuple[slice | int, ...] = (slice(None), -1) if logits.ndim == 3 else (slice(None), slice(None), *centre)
    chosen = logits.detach()[place].argmax(1, keepdim=True)
    selection[place] = torch.zeros_like(selection[place]).scatter(1, chosen, 1.0)
    return logits, selection
