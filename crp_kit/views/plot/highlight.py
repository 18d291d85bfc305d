"""Images in which only the relevant part shows: dark elsewhere, or opaque only there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.functional import gaussian_blur

from ...errors import InputError
from ..image import picture

__all__ = ["LEGENDS", "check_same_size", "masked_image", "opaque_image"]

_RELEVANT = 0.35
"""Positive relevance, smoothed, from this share of its maximum on leaves an image as it is."""
_DARKEST, _PALEST = 0.12, 0.22
"""Remaining brightness, or colour, where nothing is relevant."""
LEGENDS = {
    "masked": f"dark: positive relevance, smoothed, is below {_RELEVANT:.0%} of its maximum in the image",
    "opaque": f"inside the line: positive relevance, smoothed, is above {_RELEVANT:.0%} of its maximum in the image",
}


def masked_image(image: Any, heatmap: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return an image, dark where positive relevance is low: (height, width, 3)."""
    pixels, relevance = _pixels_and_relevance(image, heatmap)
    weight = np.clip(relevance / _RELEVANT, 0, 1)[..., None]
    return pixels * (_DARKEST + (1 - _DARKEST) * weight)


def opaque_image(image: Any, heatmap: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return an image, pale where positive relevance is low, (height, width, 3), and where it is high."""
    pixels, relevance = _pixels_and_relevance(image, heatmap)
    region: npt.NDArray[np.bool_] = relevance > _RELEVANT
    return np.where(region[..., None], pixels, 1 - _PALEST * (1 - pixels)), region


def check_same_size(image: Sequence[int], heatmap: Sequence[int]) -> None:
    """Make sure that a position in a heatmap is the same position in its image.

    Raises
    ------
    InputError
        If their sizes differ.
    """
    if tuple(image) != tuple(heatmap):
        raise InputError(
            f"an image of {tuple(image)} pixels has a heatmap of {tuple(heatmap)}, and places in one are none in the "
            f"other; let the dataset resize and crop, not preprocess, or take style 'heatmap'"
        )


def _pixels_and_relevance(image: Any, heatmap: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    pixels = np.asarray(picture(image), dtype=np.float64) / 255
    check_same_size(pixels.shape[:2], heatmap.shape)
    return pixels, _smoothed(heatmap)


def _smoothed(heatmap: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return positive relevance, smoothed, as shares of its maximum: (height, width)."""
    positive = torch.as_tensor(heatmap, dtype=torch.float32).clamp_min(0)[None]
    if not bool(positive.any()):
        return np.zeros(heatmap.shape)
    width = min(int(min(heatmap.shape) / 12) * 2 + 3, 2 * min(heatmap.shape) - 1)
    smooth = gaussian_blur(positive, [width, width])[0]
    shares: npt.NDArray[Any] = (smooth / smooth.max()).double().numpy()
    return shares
