"""Reference samples of concepts as figures: one block for each concept, or for each ranking of one concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, get_args

from matplotlib.figure import Figure

from ...atlas.query.references import References
from ...errors import InputError
from ..image import DEFAULT_CMAP
from .panels import Colours, plain
from .reference_view import reference_view
from .sheets import ReferenceView, Sheet, Style
from .signal_sheets import SignalSheet, sliced

__all__ = ["compare_modes", "references"]

Drawable: TypeAlias = References | ReferenceView


def references(
    samples: Drawable | Sequence[Drawable],
    *,
    style: Style = "heatmap",
    columns: int = 8,
    cmap: Colours = DEFAULT_CMAP,
) -> Figure:
    """Return a figure of reference samples, best first, with a block for each concept.

    Parameters
    ----------
    samples : References, ReferenceView or sequence of them
        One for each block.
    style : {"heatmap", "masked", "opaque", "crop"}, optional
        Images above their conditional heatmaps; images that are dark where positive relevance, smoothed, is low; images
        of which only the part with high relevance is opaque; or what the strongest neuron of each sample sees, above
        the heatmap there. Where receptive fields are known, the other styles outline them. Signals have the styles
        "heatmap" and "crop": curves in the colours of their relevance. Of a volume the slice with most of the relevance
        is shown.
    columns : int, optional
        Samples in a line; further ones stand below.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.

    Raises
    ------
    InputError
        If there is nothing to draw, the style is another word, there is no column, receptive fields are to be cut out
        that were not asked for, or an image and its heatmap differ in size where they are drawn into one.
    """
    views = _views(samples, style)
    if columns < 1:
        raise InputError(f"a figure has at least one column; got {columns}")
    return _figure(views, style, columns, cmap=cmap)


def compare_modes(
    relevance: Drawable,
    activation: Drawable,
    *,
    style: Style = "heatmap",
    columns: int = 8,
    cmap: Colours = DEFAULT_CMAP,
) -> Figure:
    """Return a figure of the samples in which a concept is most relevant (RelMax) above those where it is most active.

    What activates a channel and what makes a model use it may differ (Achtibat et al., Nature Machine Intelligence 5,
    2023). Captions of samples that are in both rankings have a star.

    Parameters
    ----------
    relevance, activation : References or ReferenceView
        Of one concept, by relevance and by activation.
    style, columns, cmap
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
    return _figure(starred, style, columns, cmap=cmap, title=views[0].subject + meaning)


def _starred(views: Sequence[ReferenceView]) -> tuple[list[ReferenceView], str]:
    """Put a star to the samples that are in every ranking, and say what it means."""
    common = set.intersection(*(set(map(_head, view.captions)) for view in views))
    starred = [
        replace(view, captions=[one.replace(_head(one), f"{_head(one)} *", 1) if _head(one) in common else one
                                for one in view.captions])
        for view in views
    ]  # fmt: skip
    return starred, " (* in both rankings)" if common else ""


def _head(caption: str) -> str:
    """Return the first line of a caption, which says what sample it is."""
    return caption.split("\n", maxsplit=1)[0]


def _views(samples: Drawable | Sequence[Drawable], style: str) -> list[ReferenceView]:
    """Return what is to be drawn, checked."""
    if style not in get_args(Style):
        raise InputError(f"style is one of {', '.join(map(repr, get_args(Style)))}; got {style!r}")
    several = list(samples) if isinstance(samples, Sequence) else [samples]
    views = [one if isinstance(one, ReferenceView) else reference_view(one) for one in several]
    if not any(len(view.images) for view in views):
        raise InputError("there is no reference sample to draw")
    views = [view.cropped() for view in views] if style == "crop" else views
    ranks = {getattr(one, "ndim", 2) for view in views for one in view.heatmaps}
    if 1 in ranks and (len(ranks) > 1 or style not in ("heatmap", "crop")):
        raise InputError(f"signals are drawn in the styles 'heatmap' and 'crop', and apart from images; got {style!r}")
    return [sliced(view) for view in views] if ranks == {3} else views


def _figure(views: Sequence[ReferenceView], style: Style, columns: int, *, cmap: Colours, title: str = "") -> Figure:
    """Draw one block below the other; with a title, a block's heading says no more than how it was ranked."""
    across = min(columns, max(len(view.images) for view in views))
    heads = [f"{view.subject}: " * (not title) + view.ranking for view in views]
    sheets: list[Sheet | SignalSheet]
    if any(getattr(one, "ndim", 2) == 1 for view in views for one in view.heatmaps):
        sheets = [SignalSheet(view, min(across, 3), cmap, head) for view, head in zip(views, heads, strict=True)]
    else:
        sheets = [Sheet(view, style, across, cmap, head) for view, head in zip(views, heads, strict=True)]
    heights = [sheet.height for sheet in sheets]
    figure = Figure(figsize=(sheets[0].width, sum(heights) + 0.35 * bool(title)), layout="constrained")
    if title:
        figure.suptitle(plain(title), fontsize="large", x=0.01, ha="left", weight="bold")
    blocks = figure.subfigures(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
    for block, sheet in zip(blocks, sheets, strict=True):
        sheet.draw(block)
    return figure
