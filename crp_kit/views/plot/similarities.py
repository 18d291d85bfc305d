"""Heat matrices of the similarities of concepts, of one layer or of two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure

from ...errors import InputError
from ..image import DEFAULT_CMAP, colour_table, colours
from .labels import one_line
from .panels import OUTLINE, ColourMap, sized_panel_axes

__all__ = ["cross_similarities", "similarities"]

_LABELLED = 64
"""Up to this many rows or columns, each has its number."""
_SIDE, _LARGEST = 0.14, 7.0
"""Side of a cell, and largest side of the matrix, in inches."""
_MISSING = (190, 190, 190)


def similarities(
    values: Any, *, order: Any = None, title: str = "", cmap: ColourMap = DEFAULT_CMAP, axes: Axes | None = None
) -> Figure:
    """Return a figure of a matrix of similarities: 1 red, 0 white, -1 blue, unknown grey.

    Parameters
    ----------
    values : array
        (concept, concept), from -1 to 1 or NaN.
    order : array, optional
        The concepts in the order in which they are drawn; by their numbers by default.
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    axes : matplotlib Axes, optional
        Where to draw; its figure is returned. A new figure by default.

    Raises
    ------
    InputError
        If `values` is not (concept, concept), or `order` does not have each concept once.

    Examples
    --------
    >>> figure = similarities([[1, -0.5], [-0.5, 1]], order=[1, 0])
    >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    ['1', '0']
    """
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"similarities are (concept, concept); got shape {matrix.shape}")
    chosen = np.arange(len(matrix)) if order is None else np.asarray(order)
    if not np.array_equal(np.sort(chosen), np.arange(len(matrix))):
        raise InputError(f"order has each of the {len(matrix)} concepts once")
    side = min(max(_SIDE * len(matrix), 2.4), _LARGEST)
    figure, (ax,) = sized_panel_axes(1, 1, None if axes is None else [axes], size=(side, side))
    _draw(ax, matrix[np.ix_(chosen, chosen)], rows=chosen, columns=chosen, cmap=cmap)
    ax.set_xlabel("concept", fontsize="x-small")
    ax.set_ylabel("concept", fontsize="x-small")
    ax.set_title(one_line(title), fontsize="small", loc="left")
    _legend(figure, ax, cmap)
    return figure


def cross_similarities(
    values: Any,
    *,
    rows: Any = None,
    columns: Any = None,
    labels: tuple[str, str] = ("concept of a", "concept of b"),
    matched: int = 0,
    title: str = "",
    cmap: ColourMap = DEFAULT_CMAP,
    axes: Axes | None = None,
) -> Figure:
    """Return a figure of the similarities of the concepts of two layers: 1 red, 0 white, -1 blue, unknown grey.

    Parameters
    ----------
    values : array
        (concept of a, concept of b), from -1 to 1 or NaN.
    rows, columns : array, optional
        Concepts of either layer in the order in which they are drawn; by their numbers by default.
    labels : (str, str), optional
        What rows and columns are.
    matched : int, optional
        So many first rows and columns are pairs; a line divides them from the others.
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    axes : matplotlib Axes, optional
        Where to draw; its figure is returned. A new figure by default.

    Raises
    ------
    InputError
        If `values` is not a matrix.

    Examples
    --------
    >>> figure = cross_similarities([[1, 0, 0.5], [0.2, 0.9, 0]], matched=2)
    >>> figure.axes[0].get_xlabel()
    'concept of b'
    """
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"similarities of two layers are (concept, concept); got shape {matrix.shape}")
    down = np.arange(len(matrix)) if rows is None else np.asarray(rows)
    across = np.arange(matrix.shape[1]) if columns is None else np.asarray(columns)
    cell = min(max(_SIDE, 2.4 / min(matrix.shape)), _LARGEST / max(matrix.shape))
    size = max(cell * len(across), 1.2), max(cell * len(down), 1.2)
    figure, (ax,) = sized_panel_axes(1, 1, None if axes is None else [axes], size=size)
    _draw(ax, matrix[np.ix_(down, across)], rows=down, columns=across, cmap=cmap)
    if matched > 0:
        ends = ((len(down), ax.axhline), (len(across), ax.axvline))
        for line in (draw for count, draw in ends if matched < count):
            line(matched - 0.5, color=OUTLINE, linewidth=0.9)
    ax.set_ylabel(one_line(labels[0]), fontsize="x-small")
    ax.set_xlabel(one_line(labels[1]), fontsize="x-small")
    ax.set_title(one_line(title), fontsize="small", loc="left")
    _legend(figure, ax, cmap)
    return figure


def _draw(ax: Axes, matrix: Any, *, rows: Any, columns: Any, cmap: ColourMap) -> None:
    """Draw similarities (row, column), with the numbers of rows and columns, or of some of many."""
    pixels = colours(np.nan_to_num(matrix), cmap=cmap, vmax=1.0)
    pixels[np.isnan(matrix)] = _MISSING
    ax.imshow(pixels, interpolation="nearest" if len(matrix) <= 400 else "antialiased", aspect="equal")
    for axis, numbers in ((ax.xaxis, columns), (ax.yaxis, rows)):
        shown = range(0, len(numbers), 1 if len(numbers) <= _LABELLED else math.ceil(len(numbers) / 20))
        axis.set_ticks(list(shown), [str(numbers[position]) for position in shown])
    ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(labelsize="xx-small", length=2)


def _legend(figure: Figure | SubFigure, ax: Axes, cmap: ColourMap) -> None:
    """Draw what the colours mean."""
    scale = ScalarMappable(Normalize(-1, 1), ListedColormap(colour_table(cmap) / 255))
    bar = figure.colorbar(scale, ax=ax, shrink=0.8, aspect=20, pad=0.02, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize="x-small")
    bar.set_label("similarity (grey: unknown)", fontsize="x-small")
