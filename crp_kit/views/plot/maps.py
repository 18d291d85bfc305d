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
from ..image import DEFAULT_CMAP, colours, scale_of
from .panels import (
    OUTLINE,
    ColourMap,
    aspect_of,
    check_count,
    colour_bar,
    map_rows,
    panel_axes,
    pictures,
    show_image,
    show_map,
)

__all__ = ["concept_bars", "heatmaps"]


def heatmaps(
    maps: Any,
    *,
    images: Any = None,
    titles: Sequence[str] | None = None,
    image_titles: Sequence[str] | None = None,
    columns: int | None = None,
    shared_scale: bool = False,
    cmap: ColourMap = DEFAULT_CMAP,
    axes: Sequence[Axes] | npt.NDArray[Any] | None = None,
) -> Figure:
    """Return a figure of signed heatmaps with their colour scale.

    Positive relevance is red, negative blue, zero white; the scale is always symmetric about zero.

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
        Whether all maps have the scale of the strongest. By default each has its own; the number below a map is then
        the magnitude of its strongest colour.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    axes : sequence of matplotlib Axes, optional
        Where to draw, in the order of the panels; their figure is returned. A new figure by default.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("maps.png")``; a notebook shows it as it is.

    Raises
    ------
    InputError
        If `maps` is not (row, height, width) or has values that are not finite, or if the number of images, titles or
        axes does not fit.

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
    if shown_images and len(rows) % len(shown_images):
        raise InputError(
            f"{len(rows)} rows cannot be shared out among {len(shown_images)} images: give one image for each row"
        )
    run = len(rows) // len(shown_images) if shown_images else len(rows)
    panels = len(rows) + len(shown_images)
    lines = 1 + max((text.count("\n") for text in (*(titles or ()), *(image_titles or ()))), default=0)
    across = columns or min(run + bool(shown_images), 8)
    figure, all_axes = panel_axes(panels, across, axes, aspect=aspect_of(rows), lines=lines)
    common = scale_of(rows) if shared_scale or len(rows) == 1 else None
    free, drawn = iter(all_axes), []
    for number, row in enumerate(rows):
        if shown_images and number % run == 0:
            index = number // run
            show_image(next(free), shown_images[index], image_titles[index] if image_titles else "")
        drawn.append(next(free))
        show_map(drawn[-1], row, vmax=common, cmap=cmap)
        drawn[-1].set_title(titles[number] if titles else "", fontsize="small")
    for unused in free:
        unused.set_axis_off()
    colour_bar(figure, drawn if axes is not None else all_axes, common=common, cmap=cmap)
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
