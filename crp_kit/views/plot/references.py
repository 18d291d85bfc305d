"""Reference samples of concepts as figures: one block for each concept, or for each ranking of one concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, get_args

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ...atlas.query.references import References
from ...errors import InputError
from ..image import DEFAULT_CMAP, PERCENTILE
from ..look import Look
from .colour_bars import BAR, BAR_BELOW, beside, draw_bar, with_room
from .labels import literal, wrapped
from .panels import CELL, ColourMap, columns_in
from .reference_block import ReferenceBlock, ReferenceStyle
from .reference_view import ReferenceView, reference_view
from .sheet import Sheet, check_width, warn_of_height
from .signal_block import SignalBlock

__all__ = ["compare_modes", "references"]

Drawable: TypeAlias = References | ReferenceView


def references(
    samples: Drawable | Sequence[Drawable],
    *,
    style: ReferenceStyle | None = None,
    columns: int = 8,
    percentile: float = PERCENTILE,
    cmap: ColourMap = DEFAULT_CMAP,
    width: float | None = None,
) -> Figure:
    """Return a figure of reference samples, best first, with a block for each concept.

    Parameters
    ----------
    samples : References, ReferenceView or sequence of them
        One for each block.
    style : {"overlay", "map", "masked", "opaque", "crop"}, optional
        Images above their conditional heatmaps, which lie over the image in grey, or on white; images that are dark
        where positive relevance, smoothed, is low; images of which only the part with high relevance is opaque; or what
        the strongest neuron of each sample sees, above the heatmap there. By default "overlay", or "map" where a
        heatmap has another size than its image. Where receptive fields are known, the other styles outline them.
        Signals have the styles "map" and "crop": curves in the colours of their relevance. Of a volume the slice with
        most of the relevance is shown.
    columns : int, optional
        Samples in a line; further ones stand below.
    percentile, cmap, width
        As for `crp_kit.views.plot.heatmaps`.

    Raises
    ------
    InputError
        If there is nothing to draw, the style is unknown, there is no column, receptive fields are to be cut out
        that were not asked for, or an image and its heatmap differ in size where they are drawn into one.
    """
    views = _views(samples, style)
    if columns < 1:
        raise InputError(f"a figure has at least one column; got {columns}")
    return _figure(views, style, columns, look=Look("map", percentile, cmap), width=width)


def compare_modes(
    relevance: Drawable,
    activation: Drawable,
    *,
    style: ReferenceStyle | None = None,
    columns: int = 8,
    percentile: float = PERCENTILE,
    cmap: ColourMap = DEFAULT_CMAP,
    width: float | None = None,
) -> Figure:
    """Return a figure of the samples in which a concept is most relevant (RelMax) above those where it is most active.

    What activates a channel and what makes a model use it may differ (Achtibat et al., Nature Machine Intelligence 5,
    2023). Captions of samples that are in both rankings have a star.

    Parameters
    ----------
    relevance, activation : References or ReferenceView
        Of one concept, by relevance and by activation.
    style, columns, percentile, cmap, width
        As for `references`.

    Raises
    ------
    InputError
        If the two show different concepts, and as for `references`.
    """
    views = _views([relevance, activation], style)
    if views[0].subject != views[1].subject:
        raise InputError(f"two rankings of one concept are compared; got {views[0].subject!r} and {views[1].subject!r}")
    starred, meaning = _starred(views)
    look = Look("map", percentile, cmap)
    return _figure(starred, style, columns, look=look, width=width, title=views[0].subject + meaning)


def _starred(views: Sequence[ReferenceView]) -> tuple[list[ReferenceView], str]:
    """Put a star to the samples that are in every ranking, and return the meaning of stars, empty without any."""
    common = set.intersection(*(set(map(_first_line, view.captions)) for view in views))
    starred = [replace(view, captions=[_with_star(caption, common) for caption in view.captions]) for view in views]
    return starred, " (* in both rankings)" if common else ""


def _with_star(caption: str, starred: set[str]) -> str:
    name = _first_line(caption)
    return caption.replace(name, f"{name} *", 1) if name in starred else caption


def _first_line(caption: str) -> str:
    """Return the first line of a caption, which names the sample."""
    return caption.split("\n", maxsplit=1)[0]


def _views(samples: Drawable | Sequence[Drawable], style: str | None) -> list[ReferenceView]:
    """Return the views to draw, checked."""
    if style is not None and style not in get_args(ReferenceStyle):
        raise InputError(f"style is one of {', '.join(map(repr, get_args(ReferenceStyle)))}; got {style!r}")
    drawables = list(samples) if isinstance(samples, Sequence) else [samples]
    views = [item if isinstance(item, ReferenceView) else reference_view(item) for item in drawables]
    if not any(len(view.images) for view in views):
        raise InputError("there is no reference sample to draw")
    views = [view.cropped() for view in views] if style == "crop" else views
    ranks = _ranks(views)
    if 1 in ranks and (len(ranks) > 1 or style not in (None, "map", "crop")):
        raise InputError(f"signals are drawn in the styles 'map' and 'crop', and apart from images; got {style!r}")
    return [view.sliced() for view in views] if ranks == {3} else views


def _ranks(views: Sequence[ReferenceView]) -> set[int]:
    """Return the numbers of axes of the heatmaps: 1 of signals, 2 of images, 3 of volumes."""
    return {getattr(heatmap, "ndim", 2) for view in views for heatmap in view.heatmaps}


def _figure(
    views: Sequence[ReferenceView],
    style: ReferenceStyle | None,
    columns: int,
    *,
    look: Look,
    width: float | None,
    title: str = "",
) -> Figure:
    """Return one block below the other; with a title, the heading of a block says only how it was ranked."""
    check_width(width)
    signals = 1 in _ranks(views)
    shown: ReferenceStyle = style or ("overlay" if not signals and all(map(_fits, views)) else "map")
    look = look if shown == "map" else replace(look, style="overlay")
    bar = 0.0 if shown in ("masked", "opaque") else BAR
    usual = 3.0 if signals else CELL
    across = min(columns, 3 if signals else columns, max(len(view.images) for view in views))
    across = across if width is None else columns_in(width, across)
    whole = max(usual * across, 3.2) + bar if width is None else width
    cell = usual if width is None else (whole - min(bar, beside(width))) / across
    headings = [f"{view.subject}: " * (not title) + view.ranking for view in views]
    blocks: list[ReferenceBlock | SignalBlock] = [
        SignalBlock(view, across, look, text, cell)
        if signals
        else ReferenceBlock(view, shown, across, look, text, cell)
        for view, text in zip(views, headings, strict=True)
    ]
    above = wrapped(title, int(9.5 * whole)) if title else []
    heights = [block.height for block in blocks]
    height = sum(heights) + 0.1 + 0.25 * len(above) + (BAR_BELOW if bar and not beside(width) else 0.0)
    # A part of the figure's height as space, the default, would take from each of many blocks what its titles need.
    figure = Sheet(figsize=(whole, height), layout=ConstrainedLayoutEngine(hspace=0))
    figure.bar_below = not beside(width)
    if above:
        figure.suptitle(literal("\n".join(above)), fontsize="large", x=0.01, ha="left", weight="bold")
    body: Figure | SubFigure = figure
    if bar:
        body, room = with_room(figure, title=0.25 * len(above))
        draw_bar(room, common=None, look=replace(look, percentile=100) if signals else look,
                 side="above" if signals else "below")  # fmt: skip
    parts = body.subfigures(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, block in zip(parts, blocks, strict=True):
        block.draw(part)
    warn_of_height(figure, width)
    return figure


def _fits(view: ReferenceView) -> bool:
    """Return whether every heatmap has the size of its image."""
    return all(
        tuple(np.shape(image)[-2:]) == tuple(np.shape(heatmap))
        for image, heatmap in zip(view.images, view.heatmaps, strict=True)
    )
