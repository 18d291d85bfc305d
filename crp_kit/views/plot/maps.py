"""Conditional heatmaps, and the most relevant concepts as bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...checks import is_integer
from ...data.pixels import finite
from ...errors import InputError
from ..highlight import LEGENDS
from ..image import DEFAULT_CMAP, PERCENTILE, colours
from ..look import Look, Style
from .colour_bars import beside, colour_bar
from .labels import wrapped_titles
from .panels import (
    CELL,
    OUTLINE,
    ColourMap,
    aspect_of,
    check_count,
    columns_in,
    map_rows,
    panel_axes,
    per_row,
    pictures,
    show_image,
    show_map,
    write_legend,
)

__all__ = ["concept_bars", "heatmaps"]


_GAP = 0.1
"""Inches between the titles of two panels, and to the edge of the figure."""


def heatmaps(
    maps: Any,
    *,
    images: Any = None,
    titles: Sequence[str] | None = None,
    image_titles: Sequence[str] | None = None,
    columns: int | None = None,
    shared_scale: bool = False,
    style: Style | None = None,
    percentile: float = PERCENTILE,
    cmap: ColourMap = DEFAULT_CMAP,
    width: float | None = None,
    axes: Sequence[Axes] | npt.NDArray[Any] | None = None,
) -> Figure:
    """Return a figure of signed heatmaps with their colour scale.

    Positive relevance is red, negative blue; the scale is always symmetric about zero.

    Parameters
    ----------
    maps : torch.Tensor or array
        Signed relevance, (row, height, width); (height, width) is one row.
    images : sequence or torch.Tensor, optional
        Images before normalisation, as `crp_kit.views.image.picture` takes them: one image for all rows, one for each
        row, or one for each run of equally many rows. Each image stands left of its rows.
    titles, image_titles : sequence of str, optional
        One title for each row, and for each image.
    columns : int, optional
        Panels in a line; by default one image and its rows in a line, up to eight.
    shared_scale : bool, optional
        Whether all maps have one scale, that of all their values together. By default each has its own; the number
        below a map is then the magnitude of its strongest colour.
    style : {"overlay", "map", "masked"}, optional
        Colours over the image, which turns grey; colours on white; or the image itself, dark where positive relevance,
        smoothed, is low. By default "overlay" where there are images of the size of the maps, else "map".
    percentile : float, optional
        The percentile of |relevance| from which the colour is the strongest one; 100 for the largest value.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    width : float, optional
        Of the figure in inches, such as 3.4 for the column of a paper; it then has fewer columns where these could not
        be read. By default what the panels need.
    axes : sequence of matplotlib Axes, optional
        Where to draw, in the order of the panels; their figure is returned. A new figure by default.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("maps.png")``; a notebook shows it as it is.

    Raises
    ------
    InputError
        If `maps` is not (row, height, width) or has values that are not finite; if the number of images, titles or
        axes does not fit; or if a style needs images of the size of the maps.

    Examples
    --------
    >>> import torch
    >>> figure = heatmaps(torch.randn(3, 8, 8), titles=["a", "b", "c"])
    >>> [panel.get_title() for panel in figure.axes[:3]]
    ['a', 'b', 'c']
    """
    rows = map_rows(maps)
    check_count("titles", titles, len(rows), "rows")
    shown_images = pictures(images)
    check_count("image_titles", image_titles, len(shown_images), "images")
    below = per_row(shown_images or None, len(rows), "images")
    fits = bool(shown_images) and all(image.size == rows.shape[:0:-1] for image in shown_images)
    look = Look.fitting(style, percentile, cmap, images=fits)
    run = len(rows) // len(shown_images) if shown_images else len(rows)
    panels, across = len(rows) + len(shown_images), columns or min(run + bool(shown_images), 8)
    cell = CELL if width is None else (width - beside(width)) / columns_in(width, min(across, panels)) - _GAP
    above, above_images = wrapped_titles(titles, cell), wrapped_titles(image_titles, cell)
    lines = 1 + max((text.count("\n") for text in (*(above or ()), *(above_images or ()))), default=0)
    figure, all_axes = panel_axes(panels, across, axes, aspect=aspect_of(rows), lines=lines, width=width)
    common = look.scale(rows) if shared_scale or len(rows) == 1 else None
    free, drawn = iter(all_axes), []
    for number, row in enumerate(rows):
        if shown_images and number % run == 0:
            show_image(next(free), below[number], above_images[number // run] if above_images else "")
        drawn.append(next(free))
        show_map(drawn[-1], below[number], row, vmax=common, look=look)
        drawn[-1].set_title(above[number] if above else "", fontsize="small")
    for unused in free:
        unused.set_axis_off()
    if look.coloured:
        colour_bar(figure, drawn if axes is not None else all_axes, common=common, look=look)
    elif axes is None:
        write_legend(figure, LEGENDS["masked"])
    return figure


def concept_bars(
    shares: Any,
    *,
    k: int = 8,
    labels: Mapping[int, str] | None = None,
    title: str = "",
    cmap: ColourMap = DEFAULT_CMAP,
    axes: Axes | None = None,
) -> Figure:
    """Return a figure of the concepts that matter most to one sample, as signed horizontal bars.

    Parameters
    ----------
    shares : torch.Tensor or array
        Signed relevance of each concept: concept. Shares whose magnitudes sum to 1, as `Concept.attribute` gives
        them, are shown in percent.
    k : int, optional
        Number of bars, the strongest at the top.
    labels : dict, optional
        Names of concepts, by number.
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    axes : matplotlib Axes, optional
        Where to draw; its figure is returned. A new figure by default.

    Raises
    ------
    InputError
        If `shares` is not one finite number for each concept, or `k` is not positive.

    Examples
    --------
    >>> figure = concept_bars([0.1, -0.3, 0.6], k=2)
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['2', '1']
    """
    values = finite(shares)
    if values.ndim != 1 or not values.size:
        raise InputError(f"shares have one number for each concept of one sample; got shape {values.shape}")
    if not is_integer(k, 1):
        raise InputError(f"k is the number of bars, at least 1; got {k}")
    figure, (ax,) = panel_axes(1, 1, None if axes is None else [axes], aspect=0.3 + 0.11 * min(k, values.size))
    order = np.argsort(-np.abs(values), kind="stable")[:k]
    percent = math.isclose(float(np.abs(values).sum()), 1, rel_tol=1e-3)
    shown = values[order] * (100 if percent else 1)
    signs = colours(np.sign(shown) * 0.75, cmap=cmap, vmax=1) / 255
    ax.barh(range(len(order)), shown, color=[tuple(colour) for colour in signs], height=0.72)
    for height, value in enumerate(shown):
        text = f"{value:+.1f} %" if percent else f"{value:+.3g}"
        ax.annotate(
            text,
            (value, height),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            fontsize="x-small",
        )
    names = dict(labels or {})
    ticks = [names.get(concept, str(concept)) for concept in map(int, order)]
    ax.set_yticks(range(len(order)), ticks, fontsize="x-small")
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.axvline(0, color=OUTLINE, linewidth=0.8)
    ax.margins(x=0.35)
    ax.tick_params(axis="x", labelsize="x-small")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel("share of |relevance| (%)" if percent else "relevance", fontsize="x-small")
    ax.set_title(title, fontsize="small")
    return figure
