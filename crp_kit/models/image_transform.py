"""The transform of torchvision's detectors as one call: images scaled, normalised and padded."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

__all__ = ["shared_by_weight", "transformed_images"]


def transformed_images(images: torch.Tensor, transform: Any) -> torch.Tensor:
    """Return images (sample, channel, height, width) as a transform makes them: of its size, normalised, padded."""
    if has_torch_function_unary(images):
        result: torch.Tensor = handle_torch_function(transformed_images, (images,), images, transform)
        return result
    batch, _ = transform.forward(list(images.unbind(0)))
    transformed: torch.Tensor = batch.tensors
    return transformed


def shared_by_weight(
    relevance: torch.Tensor, output: torch.Tensor, images: torch.Tensor, transform: Any
) -> torch.Tensor:
    """Return the relevance of images: each transformed pixel gives its own to the pixels that it is a mean of.

    They share it by their weights in the mean, not by what they contribute: a contribution would depend on the shift of
    the normalisation, and grow without bound where a pixel is near its mean.

    Parameters
    ----------
    relevance, output : torch.Tensor
        (row, sample, channel, height, width), and the same without rows.
    images : torch.Tensor
        (sample, channel, height, width).
    transform : torch.nn.Module
    """
    rows = relevance.flatten(0, 1)
    with torch.enable_grad():
        leaf = images.new_zeros(len(rows), *images.shape[1:]).requires_grad_()
        shifted = transformed_images(leaf, transform)
        weights = transformed_images(torch.ones_like(images[:1]), transform) - shifted[:1].detach()  # 0 in the padding
        share = torch.where(weights == 0, 0, rows / weights)
        (pulled,) = torch.autograd.grad(shifted, leaf, share.to(shifted))
    return pulled.reshape(*relevance.shape[:2], *images.shape[1:]).to(relevance)
