"""Images in which only the relevant part shows: dark elsewhere, or opaque only there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage

from ..data.pixels import plane
from ..errors import InputError
from .image import PERCENTILE, picture, scale_of

__all__ = ["LEGENDS", "check_same_size", "masked_image", "opaque_image", "outlined"]

_RELEVANT = 0.35
"""Positive relevance, smoothed, from this share of its scale on leaves an image as it is."""
_DARKEST, _PALEST = 0.12, 0.22
"""Remaining brightness, or colour, where nothing is relevant."""
_DARK, _LINE = 26, 200
"""Grey value of an outline; pixels of an image for each further pixel of its width."""
LEGENDS = {
    "masked": f"dark: positive relevance, smoothed, is below {_RELEVANT:.0%} of its highest values in the image",
    "opaque": f"inside the line: positive relevance, smoothed, is above {_RELEVANT:.0%} of its highest values in the "
    f"image",
}


def masked_image(image: Any, heatmap: Any, *, percentile: float = PERCENTILE) -> npt.NDArray[np.float64]:
    """Return an image, dark where positive relevance is low: (height, width, 3)."""
    pixels, relevance = _pixels_and_relevance(image, heatmap, percentile)
    weight = np.clip(relevance / _RELEVANT, 0, 1)[..., None]
    return pixels * (_DARKEST + (1 - _DARKEST) * weight)


def opaque_image(
    image: Any, heatmap: Any, *, percentile: float = PERCENTILE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return an image, pale where positive relevance is low, (height, width, 3), and where it is high."""
    pixels, relevance = _pixels_and_relevance(image, heatmap, percentile)
    region: npt.NDArray[np.bool_] = relevance > _RELEVANT
    return np.where(region[..., None], pixels, 1 - _PALEST * (1 - pixels)), region


def outlined(image: Image.Image, area: torch.Tensor | None) -> Image.Image:
    """Return an image with a dark line along the inside of an area, (height, width); as it is for one of other size."""
    if area is None or tuple(area.shape) != image.size[::-1]:
        return image
    inside = area.detach().cpu().numpy().astype(bool)
    pixels = np.array(image.convert("RGB"))
    pixels[inside & ~ndimage.binary_erosion(inside, iterations=1 + max(inside.shape) // _LINE)] = _DARK
    return Image.fromarray(pixels)


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
            f"other; let the dataset resize and crop, not preprocess, or take style 'map'"
        )


def _pixels_and_relevance(
    image: Any, heatmap: Any, percentile: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    pixels, relevance = np.asarray(picture(image), dtype=np.float64) / 255, plane(heatmap)
    check_same_size(pixels.shape[:2], relevance.shape)
    smooth = _smoothed(relevance)
    return pixels, smooth / scale_of(smooth, percentile=percentile)


def _smoothed(heatmap: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return positive relevance, smoothed: (height, width)."""
    radius = min(min(heatmap.shape) // 12 + 1, min(heatmap.shape) - 1)
    positive = np.maximum(np.asarray(heatmap, np.float64), 0)
    smooth: npt.NDArray[Any] = ndimage.gaussian_filter(positive, 0.3 * radius + 0.5, radius=radius, mode="mirror")
    return smooth
