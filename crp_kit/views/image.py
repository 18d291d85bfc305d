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

from ..checks import is_integer
from ..data.pixels import drawable, finite, picture, plane, stretched
from ..errors import InputError

__all__ = [
    "DEFAULT_CMAP",
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

Zero is white and the two signs differ by blue against red, which every common colour vision tells apart. Equal
magnitudes have equal CIELAB lightness, falling evenly from 100 to 30: neither sign looks stronger than it is, and the
magnitude survives a grey print. (zennit's "bwr" ends at lightness 32 for blue and 53 for red.)
"""

_MIDDLE = 128 / 255


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


def scale_of(values: Any, vmax: float | None = None) -> float:
    """Return the magnitude that gets the strongest colour: `vmax`, else the largest one, else 1 where all are zero.

    Raises
    ------
    InputError
        If `vmax` is not a positive number.
    """
    if vmax is None:
        array = np.asarray(values)
        return (float(np.abs(array).max()) if array.size else 0.0) or 1.0
    if not (math.isfinite(vmax) and vmax > 0):
        raise InputError(f"vmax is the magnitude with the strongest colour, a positive number; got {vmax!r}")
    return float(vmax)


def heatmap_image(
    heatmap: Any, *, cmap: str | ColorMap = DEFAULT_CMAP, vmax: float | None = None, zoom: int = 1
) -> Image.Image:
    """Return one heatmap as an RGB picture: positive relevance red, negative blue, zero white.

    Parameters
    ----------
    heatmap : torch.Tensor or array
        Signed relevance, (height, width).
    cmap, vmax
        As for `colours`.
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
    pixels = colours(plane(heatmap), cmap=cmap, vmax=vmax)
    if not is_integer(zoom, 1):
        raise InputError(f"zoom is the side length in pixels of each value, at least 1; got {zoom}")
    return Image.fromarray(pixels.repeat(zoom, 0).repeat(zoom, 1))


def overlay(image: Any, heatmap: Any, *, cmap: str | ColorMap = DEFAULT_CMAP, vmax: float | None = None) -> Image.Image:
    """Return a heatmap over its image, which turns grey and shows through where relevance is small.

    Parameters
    ----------
    image : PIL image, torch.Tensor or array
        What the model saw, before normalisation: see `picture`.
    heatmap : torch.Tensor or array
        Signed relevance, (height, width), of the same height and width.
    cmap, vmax
        As for `colours`.

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
    weight = np.sqrt(np.clip(np.abs(relevance) / scale_of(relevance, vmax), 0, 1))[..., None]
    grey = 64 + 0.75 * np.asarray(below, dtype=np.float64)[..., None]
    mixed = (1 - weight) * grey + weight * colours(relevance, cmap=cmap, vmax=vmax)
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
