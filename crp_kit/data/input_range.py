"""Range of a model's inputs: what preprocessing makes of black and of white images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import CompositeError
from .preprocess import Normalise, Preprocess

__all__ = ["input_range"]


def input_range(
    preprocess: Preprocess | Normalise | None, example: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lowest and highest value that a model input of an image with values in [0, 1] can have.

    Parameters
    ----------
    preprocess : Preprocess, callable or None
        With a mean and a standard deviation these are (0 - mean) / std and (1 - mean) / std. Any other function has to
        be a shift and a scale, which is tried on images of one value: black, grey and white.
    example : callable
        Returns the shape of a batch by an example, for such a function: (sample, channel, height, width).

    Returns
    -------
    low, high : torch.Tensor
        (1, channel, 1, 1), or as many ones as an input has axes.

    Raises
    ------
    CompositeError
        If nothing is known of the inputs, or the function does something else.

    Examples
    --------
    >>> from torchvision.transforms import Normalize
    >>> low, high = input_range(Normalize([0.5], [0.25]), lambda: torch.zeros(1, 1, 2, 2))
    >>> low.item(), high.item()
    (-2.0, 2.0)
    """
    if isinstance(preprocess, Preprocess):
        return preprocess.low, preprocess.high
    if preprocess is None:
        raise CompositeError(f"{_NEEDED}; inputs without preprocess may have any")
    image = example()
    low, middle, high = (_constant(preprocess(torch.full_like(image[:1], value))) for value in (0.0, 0.5, 1.0))
    if low is None or middle is None or high is None or not torch.allclose((low + high) / 2, middle, atol=1e-5):
        raise CompositeError(f"{_NEEDED}, and preprocess is no shift and scale of values in [0, 1]")
    return torch.minimum(low, high), torch.maximum(low, high)


_NEEDED = (
    "epsilon_gamma_box needs the lowest and highest values that a model input can have: make the study with a "
    "crp_kit.Preprocess, or give zennit.composites.EpsilonGammaBox(low=..., high=...)"
)


def _constant(inputs: Any) -> torch.Tensor | None:
    """Return the value of each channel, (1, channel, 1, …), if a channel has only one."""
    if not isinstance(inputs, torch.Tensor) or inputs.ndim < 3:
        return None
    values = inputs.flatten(2)[:, :, :1].reshape(*inputs.shape[:2], *[1] * (inputs.ndim - 2))
    return values if bool((inputs == values).all()) else None
