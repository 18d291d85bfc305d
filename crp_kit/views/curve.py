"""Signals over time as small pictures (PIL): curves, before a ground in the colours of their relevance."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..data.pixels import finite
from ..errors import InputError
from .image import colours
from .look import Look

__all__ = ["curve_picture"]

_CHANNELS = 8
"""Channels that are drawn, one above the other."""
_HEIGHT, _MARGIN = 0.6, 0.08
"""Height of a picture by its width, and the free part of each channel above and below its curve."""
_INK = (40, 40, 40)


def curve_picture(signal: Any, size: int, *, look: Look, heatmap: Any = None) -> Image.Image:
    """Return the curves of a signal's channels as a picture, each on its own scale.

    Parameters
    ----------
    signal : torch.Tensor or array
        (channel, time).
    size : int
        Width in pixels.
    look : Look
        Colours and scale of relevance.
    heatmap : torch.Tensor or array, optional
        Signed relevance, (time,), as the colour of the ground.

    Raises
    ------
    InputError
        If the shapes do not fit, or values are not finite.

    Examples
    --------
    >>> import torch
    >>> curve_picture(torch.randn(2, 50), 100, look=Look(), heatmap=torch.randn(50)).size
    (100, 60)
    """
    channels = finite(signal)
    if channels.ndim != 2 or not channels.size:
        raise InputError(f"a signal is (channel, time) with at least one value; got shape {channels.shape}")
    width, height = size, max(1, round(size * _HEIGHT))
    if heatmap is None:
        picture = Image.new("RGB", (width, height), "white")
    else:
        relevance = finite(heatmap)
        if relevance.shape != channels.shape[1:]:
            raise InputError(
                f"relevance of a signal of {channels.shape[1]} time steps is one value for each; got shape "
                f"{relevance.shape}"
            )
        ground = colours(relevance, cmap=look.cmap, vmax=look.scale(relevance))
        picture = Image.fromarray(ground[None]).resize((width, height), Image.Resampling.NEAREST)
    draw, shown = ImageDraw.Draw(picture), channels[:_CHANNELS]
    x = (np.arange(channels.shape[1]) + 0.5) / channels.shape[1] * width
    for number, channel in enumerate(shown):
        low, high = float(channel.min()), float(channel.max())
        level = (channel - low) / (high - low) if high > low else np.full_like(channel, 0.5)
        y = (number + _MARGIN + (1 - level) * (1 - 2 * _MARGIN)) / len(shown) * height
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        draw.line(points if len(points) > 1 else [(0, points[0][1]), (width, points[0][1])], fill=_INK, width=1)
    return picture
