"""Signed relevance as pictures (PIL): one colour scale for every picture that crp-kit makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from zennit.cmap import ColorMap
from zennit.image import CMAPS, get_cmap

from ..checks import is_integer, is_real
from ..data.pixels import drawable, finite, picture, plane, stretched
from ..errors import InputError

__all__ = [
    "DEFAULT_CMAP",
    "PERCENTILE",
    "ColorMap",
    "colour_table",
    "colours",
    "drawn",
    "grid",
    "heatmap_image",
    "overlay",
    "picture",
    "scale_of",
    "stretched",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = npt.NDArray[np.uint8]

DEFAULT_CMAP = "004593,096bd3,609df0,b9ccfa,80:ffffff,febcaf,f57464,ca342f,8c1718"
"""Blue, white, red, in zennit's colour map language.

Zero is white and the two signs differ by blue against red, which every common colour vision distinguishes. Equal
magnitudes have equal CIELAB lightness, falling evenly from 100 to 30: neither sign looks stronger than it is, and the
magnitude survives a grey print. (zennit's "bwr" ends at lightness 32 for blue and 53 for red.)
"""

PERCENTILE = 99.5
"""The percentile of |relevance| from which a heatmap has the strongest colour, lest a few pixels fade the others."""

_MIDDLE = 128 / 255
_PALEST, _OPACITY = 0.4, 0.6
"""Of an overlay: where on the scale the colour of weak relevance is, and the power of relevance that is its opacity."""


def colours(values: Any, *, cmap: str | ColorMap = DEFAULT_CMAP, vmax: float | None = None) -> Pixels:
    """Return the colour of each value, on a scale that is symmetric about zero.

    Parameters
    ----------
    values : torch.Tensor or array
        Signed values of any shape.
    cmap : str or zennit.cmap.ColorMap, optional
        Name of one of zennit's colour maps (``"bwr"``, ``"coldnhot"``, …) or the source of one; its middle colour
        means zero.
    vmax : float, optional
        The magnitude with the strongest colour; values beyond it look the same. The largest magnitude by default.

    Returns
    -------
    array of uint8
        The shape of `values` and a last axis red, green, blue.

    Raises
    ------
    InputError
        If a value is not finite, `vmax` is not positive, or there is no such colour map.

    Examples
    --------
    >>> colours([0.0, 0.5, -2.0], vmax=1.0, cmap="bwr").tolist()
    [[255, 255, 255], [255, 127, 127], [0, 0, 255]]
    """
    array = finite(values)
    scaled = np.clip(array / scale_of(array, vmax), -1, 1)
    # zennit puts the middle colour at index 128 of 255: each sign gets its own straight line, so that zero hits it.
    position = np.where(scaled < 0, (1 + scaled) * _MIDDLE, _MIDDLE + scaled * (1 - _MIDDLE))
    mapped: Floats = _colour_map(cmap)(position)
    return np.floor(mapped * 255 + 1e-6).astype(np.uint8)


def colour_table(cmap: str | ColorMap = DEFAULT_CMAP) -> Pixels:
    """Return the colours from the most negative to the most positive value: (level=257, 3); level 128 means zero."""
    return colours(np.linspace(-1, 1, 257), cmap=cmap, vmax=1.0)


def scale_of(values: Any, vmax: float | None = None, *, percentile: float = 100.0) -> float:
    """Return the magnitude that gets the strongest colour: `vmax`, else a percentile of the magnitudes.

    That is the smallest magnitude which so many of a hundred values do not exceed; the largest one where it is zero,
    and 1 where all values are zero.

    Parameters
    ----------
    values : torch.Tensor or array
        Of any shape.
    vmax : float, optional
        Positive.
    percentile : float, optional
        Above 0, and up to 100 for the largest magnitude.

    Raises
    ------
    InputError
        If `vmax` or `percentile` is out of range.

    Examples
    --------
    >>> scale_of([0.0, -1.0, 2.0, 9.0], percentile=75), scale_of([0.0, -1.0, 2.0, 9.0])
    (2.0, 9.0)
    """
    if not (is_real(percentile, 0, 100) and percentile > 0):
        raise InputError(f"percentile is a number above 0 and up to 100; got {percentile!r}")
    if vmax is None:
        magnitudes = np.abs(np.asarray(values, dtype=np.float64)).ravel()
        if not magnitudes.size:
            return 1.0
        rank = max(math.ceil(percentile / 100 * magnitudes.size), 1) - 1
        return float(np.partition(magnitudes, rank)[rank]) or float(magnitudes.max()) or 1.0
    if not (math.isfinite(vmax) and vmax > 0):
        raise InputError(f"vmax is the magnitude with the strongest colour, a positive number; got {vmax!r}")
    return float(vmax)


def heatmap_image(
    heatmap: Any,
    *,
    cmap: str | ColorMap = DEFAULT_CMAP,
    vmax: float | None = None,
    percentile: float = PERCENTILE,
    zoom: int = 1,
) -> Image.Image:
    """Return one heatmap as an RGB picture: positive relevance red, negative blue, zero white.

    Parameters
    ----------
    heatmap : torch.Tensor or array
        Signed relevance, (height, width).
    cmap
        As for `colours`.
    vmax, percentile
        As for `scale_of`.
    zoom : int, optional
        Side length in pixels of each value.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    InputError
        If the heatmap is not (height, width), is empty, or has values that are not finite.

    Examples
    --------
    >>> heatmap_image([[0.0, 1.0]], zoom=4).size
    (8, 4)
    """
    relevance = plane(heatmap)
    pixels = colours(relevance, cmap=cmap, vmax=scale_of(relevance, vmax, percentile=percentile))
    if not is_integer(zoom, 1):
        raise InputError(f"zoom is the side length in pixels of each value, at least 1; got {zoom}")
    return Image.fromarray(pixels.repeat(zoom, 0).repeat(zoom, 1))


def overlay(
    image: Any,
    heatmap: Any,
    *,
    cmap: str | ColorMap = DEFAULT_CMAP,
    vmax: float | None = None,
    percentile: float = PERCENTILE,
) -> Image.Image:
    """Return a heatmap over its image, which turns grey and shows through where relevance is small.

    Parameters
    ----------
    image : PIL image, torch.Tensor or array
        What the model saw, before normalisation: see `picture`.
    heatmap : torch.Tensor or array
        Signed relevance, (height, width), of the same height and width.
    cmap
        As for `colours`.
    vmax, percentile
        As for `scale_of`.

    Raises
    ------
    InputError
        If the sizes differ, or one of the two is not what it should be.
    """
    relevance = plane(heatmap)
    below = picture(image).convert("L")
    if below.size != relevance.shape[::-1]:
        height, width = relevance.shape
        raise InputError(
            f"the image is {below.size[0]}x{below.size[1]} pixels and the heatmap {width}x{height}: "
            f"give the image as the model saw it (resized and cropped)"
        )
    part = np.clip(relevance / scale_of(relevance, vmax, percentile=percentile), -1, 1)
    # Weak relevance is a thin layer of a clear colour: white, as a map has it, would look like a bright image.
    tint = colours(np.sign(part) * (_PALEST + (1 - _PALEST) * np.abs(part)), cmap=cmap, vmax=1.0)
    weight = (np.abs(part) ** _OPACITY)[..., None]
    grey = 64 + 0.75 * np.asarray(below, dtype=np.float64)[..., None]
    mixed = (1 - weight) * grey + weight * tint
    return Image.fromarray(mixed.round().astype(np.uint8))


def drawn(image: torch.Tensor) -> tuple[Image.Image, bool]:
    """Return an image of any values and number of channels as a picture, and whether it had to be changed for that.

    Parameters
    ----------
    image : torch.Tensor
        (channel, height, width).

    Returns
    -------
    picture : PIL.Image.Image
    changed : bool
        Whether values outside of [0, 1] were stretched over it, or the mean of channels is shown that are neither one
        nor three.

    Raises
    ------
    InputError
        If a value is not finite, or the image is empty or has another number of axes.

    Examples
    --------
    >>> drawn(torch.tensor([[[-1000.0, 1000.0]]]))[1]
    True
    """
    if image.ndim != 3 or not image.numel():
        raise InputError(
            f"an image is (channel, height, width) with at least one value; got shape {tuple(image.shape)}"
        )
    if len(image) in (1, 3):
        try:
            return picture(image), False
        except InputError:  # values of another range, or none that can be drawn at all, which is an error below too
            pass
    return picture(drawable(image)), True


def grid(images: Sequence[Image.Image], *, columns: int | None = None, gap: int = 4) -> Image.Image:
    """Return pictures side by side on white, row by row.

    Parameters
    ----------
    images : sequence of PIL images
        Each gets a cell of the largest width and height, at its upper left.
    columns : int, optional
        About as many as rows by default.
    gap : int, optional
        Pixels between two cells.

    Raises
    ------
    InputError
        If there is no picture or no column.
    """
    if not images:
        raise InputError("a grid needs at least one picture; got none")
    if columns is not None and columns < 1:
        raise InputError(f"a grid has at least one column; got {columns}")
    across = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    down = math.ceil(len(images) / across)
    width, height = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (across * (width + gap) - gap, down * (height + gap) - gap), "white")
    for number, image in enumerate(images):
        row, column = divmod(number, across)
        sheet.paste(image.convert("RGB"), (column * (width + gap), row * (height + gap)))
    return sheet


def _colour_map(cmap: str | ColorMap) -> ColorMap:
    try:
        return get_cmap(cmap)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"no colour map {cmap!r}; zennit has {', '.join(sorted(CMAPS))}, and takes sources such as '00f,80:fff,f00'"
        ) from error
