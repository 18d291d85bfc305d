"""Reference samples of concepts as grids: images with their conditional heatmaps, or images dimmed where it is low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torchvision.transforms.functional import gaussian_blur

from ..errors import InputError
from ..image import DEFAULT_CMAP, picture
from .panels import CELL, Colours, colour_bar, numbers, show_image, show_map

__all__ = ["ReferenceView", "compare_modes", "references"]

Style: TypeAlias = Literal["heatmap", "masked"]

_STYLES = ("heatmap", "masked")
_DIMMED = 0.12
"""What is left of the brightness where there is no relevance."""
_FULL = 0.35
"""Smoothed relevance from this share of its maximum on leaves the image as it is."""


@dataclass(frozen=True, eq=False)
class ReferenceView:
    """Reference samples of one concept, ready to be drawn.

    Parameters
    ----------
    title : str
        The concept, its layer, and what it was ranked by.
    images : sequence of torch.Tensor
        Values in [0, 1]: channel, height, width.
    heatmaps : sequence of torch.Tensor
        Signed relevance: height, width.
    captions : sequence of str
        Sample, class and score of each.
    """

    title: str
    images: Sequence[Any]
    heatmaps: Sequence[Any]
    captions: Sequence[str]


def references(
    views: ReferenceView | Sequence[ReferenceView], *, style: Style = "heatmap", cmap: Colours = DEFAULT_CMAP
) -> Figure:
    """Return a figure of reference samples, best first, with a block for each concept.

    Parameters
    ----------
    views : ReferenceView or sequence of ReferenceView
    style : {"heatmap", "masked"}, optional
        Images with their conditional heatmaps below, or images dimmed where the positive relevance, smoothed, is low.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.image.colours`.

    Raises
    ------
    InputError
        If there is nothing to draw, or the style is another word.
    """
    several = [views] if isinstance(views, ReferenceView) else list(views)
    if style not in _STYLES:
        raise InputError(f"style is {' or '.join(map(repr, _STYLES))}; got {style!r}")
    if not several or not any(one.images for one in several):
        raise InputError("there is no reference sample to draw")
    lines = 2 if style == "heatmap" else 1
    columns = max(len(one.images) for one in several)
    size = (CELL * columns + 1.4, len(several) * (lines * CELL + 1.05) + 0.2)
    figure = Figure(figsize=(max(size[0], 4.5), size[1]), layout="constrained")
    maps: list[Axes] = []
    blocks = np.atleast_1d(np.asarray(figure.subfigures(len(several), 1)))
    for block, view in zip(blocks, several, strict=True):
        block.suptitle(view.title, fontsize="medium", x=0.01, ha="left")
        places = block.subplots(lines, columns, squeeze=False)
        for column in range(columns):
            maps += _draw(places[:, column], view, column, style=style, cmap=cmap)
        if style == "heatmap":
            colour_bar(block, list(places[1]), common=None, cmap=cmap)
    return figure


def _draw(places: Sequence[Axes], view: ReferenceView, number: int, *, style: Style, cmap: Colours) -> list[Axes]:
    """Draw one sample into its places, and return those that hold maps."""
    if number >= len(view.images):
        for place in places:
            place.set_axis_off()
        return []
    image, heatmap = view.images[number], view.heatmaps[number]
    if style == "masked":
        show_image(places[0], picture(dimmed(image, heatmap)), view.captions[number])
        return []
    show_image(places[0], picture(image), view.captions[number])
    show_map(places[1], numbers(heatmap), vmax=None, cmap=cmap)
    return [places[1]]


def dimmed(image: Any, heatmap: Any) -> torch.Tensor:
    """Return an image, (channel, height, width) in [0, 1], dark where the smoothed positive relevance is low."""
    shown = torch.from_numpy(np.array(picture(image), dtype=np.float32)).movedim(-1, 0) / 255
    relevance = torch.as_tensor(numbers(heatmap), dtype=torch.float32).clamp_min(0)[None]
    width = max(3, int(min(relevance.shape[1:]) / 12) * 2 + 1)
    smooth = gaussian_blur(relevance, [width, width])
    highest = float(smooth.max())
    weight = (smooth / (_FULL * highest)).clamp_max(1) if highest > 0 else torch.zeros_like(smooth)
    return shown * (_DIMMED + (1 - _DIMMED) * weight)


def compare_modes(relevance: ReferenceView, activation: ReferenceView, *, cmap: Colours = DEFAULT_CMAP) -> Figure:
    """Return a figure of the samples in which a concept is most relevant (RelMax) above those where it is most active.

    What activates a channel and what makes a model use it may differ (Achtibat et al., Nature Machine Intelligence 5,
    2023).
    """
    return references([relevance, activation], cmap=cmap)
