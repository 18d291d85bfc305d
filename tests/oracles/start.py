"""Where a relevance backward starts: the output tensor of a model and one selected neuron of it."""

from typing import Any

import torch


def output_tensor(output: Any) -> torch.Tensor:
    """Tensor that carries a model's prediction: the output itself, its entry ``"out"``, or its first element."""
    if isinstance(output, dict):
        output = output["out"]
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
        What a model returned: logits (batch, class), or (batch, class, height, width), where the centre pixel counts.

    Returns
    -------
    logits, selection : Tensor
        The output tensor and a tensor of its shape: one at the selected neuron of each sample, else zero.
    """
    logits = output_tensor(output)
    centre = tuple(size // 2 for size in logits.shape[2:])
    places: tuple[slice | int, ...] = (slice(None), slice(None), *centre)
    chosen = logits.detach()[places].argmax(1)
    selection = torch.zeros_like(logits, requires_grad=False)
    for sample, index in enumerate(chosen.tolist()):
        selection[(sample, index, *centre)] = 1.0
    return logits, selection
