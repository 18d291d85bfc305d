"""Figure of a concept graph: layers as columns, relevance as bands between concepts, pictures of the concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...checks import is_real
from ...concept_graph.exports import Classes, class_names
from ...concept_graph.gathering import LEAST
from ...data.pixels import plane
from ...errors import InputError
from ..image import DEFAULT_CMAP, PERCENTILE, picture
from ..look import Look, Style
from .concept_columns import ConceptColumns
from .concept_list import ConceptList
from .panels import ColourMap, figure_of
from .sheet import Sheet, check_width

if TYPE_CHECKING:
    from ...concept_graph.result import ConceptGraph

__all__ = ["concept_graph"]

_Key = tuple[str, int]

_PAGE, _SMALLEST = 11.0, 0.66
"""Inches of the widest figure by default; the smallest scale, at which letters have 5 points."""


def concept_graph(
    graph: ConceptGraph,
    *,
    references: Mapping[_Key, Sequence[Any]] | None = None,
    heatmaps: Mapping[_Key, Any] | None = None,
    image: Any = None,
    classes: Classes = None,
    names: Mapping[_Key, str] | None = None,
    style: Style | None = None,
    percentile: float = PERCENTILE,
    cmap: ColourMap = DEFAULT_CMAP,
    least: float = LEAST,
    width: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Return a figure of a concept graph: layers as columns, from the start at the left to the lowest at the right.

    The width of an edge is the share that the lower concept gets of what passes the upper one, on a scale that suits
    the largest of them and stands below; its colour is the sign of the relevance. The number at a node is its share of
    all relevance of the start. Where the columns could not be read in the width, the graph is an indented list, with
    the same shares and pictures.

    Parameters
    ----------
    graph : ConceptGraph
        Concepts and edges, as `crp_kit.ConceptGraph` has them.
    references : dict, optional
        Pictures of concepts by layer and concept: an image, as `crp_kit.views.image.picture` takes it, or a pair of an
        image and its heatmap, (height, width), or None.
    heatmaps : dict, optional
        Signed relevance, (height, width), by layer and concept.
    image : PIL image, torch.Tensor or array, optional
        Image before normalisation: it stands in the first node, if that has no other picture.
    classes : sequence of str or dict, optional
        Names of the classes.
    names : dict, optional
        Names of concepts by layer and concept, such as those that are kept beside an atlas.
    style : {"overlay", "map", "masked"}, optional
        How pictures with a heatmap are drawn, see `crp_kit.views.plot.heatmaps`. By default references are "masked":
        what the concept sees in them, the rest dark; and `heatmaps` lie over the image, if that has their size.
    percentile, cmap
        As for `crp_kit.views.plot.heatmaps`.
    least : float, optional
        Edges of smaller shares are gathered as "others"; where a concept has no larger ones, those are that have less
        than a third of the strongest.
    width : float, optional
        Of the figure in inches. By default what the graph needs, and at most 11.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure is returned. A new figure of the size that the graph needs by default.

    Raises
    ------
    InputError
        If a picture is no image, a heatmap not (height, width), or an option has no meaning.
    """
    check_width(width)
    if not is_real(least, 0, 1):
        raise InputError(f"least is a share from 0 to 1; got {least!r}")
    look = Look(style or "masked", percentile, cmap)
    pictures = _pictures(graph, references, look)
    if image is not None and not pictures[graph.root.key]:
        pictures[graph.root.key].append(np.asarray(picture(image)))
    for key, heatmap in (heatmaps or {}).items():
        pictures.setdefault(key, []).append(_own_map(image, heatmap, replace(look, style=style or "overlay"), style))
    negative = graph.root.relevance < 0
    note = ["the start is negative: shares are positive for what speaks against it"] * negative
    note += _note(look, style, references=bool(references), heatmaps=bool(heatmaps))
    drawing = ConceptColumns(graph, pictures, (class_names(classes), dict(names or {})), cmap, least=least, note=note)
    if ax is not None:
        drawing.draw(ax)
        return figure_of(ax)
    room = width or min(drawing.size[0], _PAGE)
    scale = drawing.fit(room)
    if scale < _SMALLEST:
        return _list_figure(drawing, room)
    figure = Sheet(figsize=(room, drawing.size[1] * scale))
    ax = figure.add_axes((0, 0, 1, 1))
    drawing.draw(ax)
    _scale(ax, scale)
    return figure


def _list_figure(drawing: ConceptColumns, width: float) -> Figure:
    """Return the figure of a graph as an indented list."""
    note = "; ".join(["bar: share of what passes the concept above, red for the start, blue against it", *drawing.note])
    rows = ConceptList(drawing.shown, drawing.boxes, heading=drawing.heading, note=note, width=width, full=drawing.full)
    figure = Sheet(figsize=(width, rows.height))
    rows.draw(figure.add_axes((0, 0, 1, 1)), {True: drawing.positive, False: drawing.negative})
    return figure


def _scale(ax: Axes, scale: float) -> None:
    """Bring texts and edges to the scale of a drawing whose axes are smaller than the inches they are in."""
    for text in ax.texts:
        text.set_fontsize(float(text.get_fontsize()) * scale)
    for patch in ax.patches:
        patch.set_linewidth(patch.get_linewidth() * scale)


def _note(look: Look, style: Style | None, *, references: bool, heatmaps: bool) -> list[str]:
    """Return what the pictures show, in words."""
    words = []
    if (references or heatmaps) and look.style == "masked" and (references or style):
        words.append("images: dark where the concept has little positive relevance")
    if heatmaps and style != "masked":
        words.append(f"heatmaps: red for, blue against, strongest from the {look.scale_words} of each")
    return words


def _pictures(
    graph: ConceptGraph, references: Mapping[_Key, Sequence[Any]] | None, look: Look
) -> dict[_Key, list[Any]]:
    """Return the references of each node, (height, width, 3) each."""
    pictures: dict[_Key, list[Any]] = {node.key: [] for node in graph.nodes}
    for key, items in (references or {}).items():
        pairs = (item if isinstance(item, tuple) else (item, None) for item in items)
        pictures.setdefault(key, []).extend(
            np.asarray(picture(image) if heatmap is None else look.draw(image, heatmap)) for image, heatmap in pairs
        )
    return pictures


def _own_map(image: Any, heatmap: Any, look: Look, style: Style | None) -> Any:
    """Return the heatmap of a node, over the image of the graph where that has its size: (height, width, 3)."""
    relevance = plane(heatmap)
    fits = image is not None and picture(image).size == relevance.shape[::-1]
    shown = look if fits or style is not None else replace(look, style="map")
    return np.asarray(shown.draw(image, relevance))
