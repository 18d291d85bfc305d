"""Classes and concepts as a matrix of dots: mean scores, and how often a concept is among the strongest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from ...checks import check_integer
from ...class_names import class_label
from ...errors import InputError
from ..image import colour_table, colours, scale_of
from .labels import row_distance, row_names
from .panels import OUTLINE, figure_of
from .sheet import Sheet, check_width

if TYPE_CHECKING:
    from ...atlas.questions.class_tables import ClassMeans, ClassPresence

__all__ = ["class_means", "class_presence"]

Array = npt.NDArray[Any]

_LETTERS_PER_INCH = 5
"""Of the names of classes, for each inch of the figure's width."""
_LINE, _COLUMN, _BAR = 0.22, 0.1, 1.0
"""Height of a class, width of the number of a concept, and of a colour bar with its label, in inches."""
_FAINT = "#999999"
"""Outline of what is not filled."""
_LARGEST = 0.8
"""Diameter of the largest dot, of the width of its column."""


@dataclass(frozen=True, eq=False)
class _Grid:
    """The part of a table that is drawn: classes, concepts, and for each pair its row in the table, -1 for none."""

    cls: Array
    concept: Array
    row: Array

    def values(self, column: Array) -> Array:
        """Return a column as (class, concept)."""
        return np.where(self.row >= 0, column[self.row].astype(np.float64), np.nan)


def class_means(table: ClassMeans, k: int = 16, *, classes: int = 12, width: float = 7.0) -> Figure:
    """Return a figure of a `ClassMeans`: dots by size and colour, grey rings where the interval holds zero.

    Parameters
    ----------
    table : ClassMeans
    k : int, optional
        Concepts at most, and no more than the width has room for: the strongest ones of each class in turn.
    classes : int, optional
        Classes at most: those with the most samples.
    width : float, optional
        Of the figure, in inches.

    Raises
    ------
    InputError
        If the table has no row, or `k` or `classes` is not at least 1.
    """
    grid = _grid(table, table.mean, _concepts(k, width), classes)
    mean, low, high = (grid.values(column) for column in (table.mean, table.low, table.high))
    scale = scale_of(mean[~np.isnan(mean)])
    figure, ax = _axes(table, grid, width)
    clear = (low > 0) | (high < 0)
    _draw(ax, grid, size=np.abs(mean) / scale, value=mean / scale, filled=clear)
    _bar(figure, ax, (-scale, scale), f"mean {table.scores.mode}\n(grey ring: perhaps 0)")
    return figure


def class_presence(table: ClassPresence, k: int = 16, *, classes: int = 12, width: float = 7.0) -> Figure:
    """Return a figure of a `ClassPresence`: dots whose area is the fraction.

    Parameters
    ----------
    table : ClassPresence
    k : int, optional
        Concepts at most, and no more than the width has room for: the most frequent ones of each class in turn.
    classes : int, optional
        Classes at most: those with the most samples.
    width : float, optional
        Of the figure, in inches.

    Raises
    ------
    InputError
        If the table has no row, or `k` or `classes` is not at least 1.
    """
    grid = _grid(table, table.fraction, _concepts(k, width), classes)
    fraction = grid.values(table.fraction)
    figure, ax = _axes(table, grid, width)
    _draw(ax, grid, size=fraction, value=fraction, filled=np.ones(fraction.shape, bool))
    _bar(figure, ax, (0.0, 1.0), f"fraction of samples\n(among the {table.m} strongest)")
    return figure


def _concepts(k: int, width: float) -> int:
    """Return how many concepts are drawn beside names of classes and a colour bar: at least four."""
    check_integer("k", k, low=1)
    check_width(width)
    return min(k, max(4, int((0.65 * width - _BAR) / _COLUMN)))


def _grid(table: ClassMeans | ClassPresence, strength: Array, k: int, classes: int) -> _Grid:
    """Choose classes, by their samples, and concepts, the strongest of each class in turn."""
    check_integer("classes", classes, low=1)
    if not len(table):
        raise InputError(f"there is nothing to draw: {table.caption}")
    cls, first, line = np.unique(table.cls, return_index=True, return_inverse=True)
    concept, column = np.unique(table.concept, return_inverse=True)
    row = np.full((len(cls), len(concept)), -1)
    row[line, column] = np.arange(len(table))
    lines = np.sort(np.argsort(-table.n[first], kind="stable")[:classes])
    row = row[lines]
    order = np.argsort(-np.where(row >= 0, strength[row], -np.inf), axis=1, kind="stable")
    columns = list(dict.fromkeys(order.T.ravel().tolist()))[:k]
    # Concepts side by side that are strongest in the same class.
    columns.sort(key=lambda number: np.argmax(np.where(row[:, number] >= 0, strength[row[:, number]], -np.inf)))
    return _Grid(cls[lines], concept[columns], row[:, columns])


def _axes(table: ClassMeans | ClassPresence, grid: _Grid, width: float) -> tuple[Figure, Axes]:
    """Return axes with a line for each class and a column for each concept."""
    names = table.names
    words = [str(cls) if names[cls] == str(cls) else class_label(cls, names) for cls in grid.cls.tolist()]
    labels = row_names(words, max(6, round(width * _LETTERS_PER_INCH)))
    distance = max(_LINE, row_distance(labels))
    figure = Sheet(figsize=(width, 0.8 + distance * max(len(grid.cls), 4)), layout="constrained")
    ax = figure.add_subplot()
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xticks(range(len(grid.concept)), [str(concept) for concept in grid.concept], rotation=90)
    ax.set_xlim(-0.6, len(grid.concept) - 0.4)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlabel("concept", fontsize="x-small")
    ax.tick_params(labelsize="x-small", length=0)
    ax.spines[:].set_visible(False)
    ax.grid(color="#eeeeee", linewidth=0.6)
    ax.set_axisbelow(True)
    return figure, ax


def _draw(ax: Axes, grid: _Grid, *, size: Array, value: Array, filled: Array) -> None:
    """Draw a dot for each pair; `size` is its area, from 0 to 1."""
    line, column = np.nonzero(~np.isnan(size))
    step = 72 * min(0.6 * figure_of(ax).get_figwidth() / len(grid.concept), _LINE)
    paint = colours(value[line, column], vmax=1.0) / 255
    face = np.where(filled[line, column, None], paint, 1.0)
    edge = np.where(filled[line, column], OUTLINE, _FAINT).tolist()
    ax.scatter(column, line, s=size[line, column] * (_LARGEST * step) ** 2, facecolors=face, edgecolors=edge,
               linewidths=0.5, zorder=3)  # fmt: skip


def _bar(figure: Figure, ax: Axes, limits: tuple[float, float], label: str) -> None:
    """Draw what the colours mean."""
    low, high = limits
    table = colour_table() / 255
    shown = table if low < 0 else table[len(table) // 2 :]
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), ListedColormap(shown)), ax=ax, aspect=16, pad=0.02)
    middle = 0.0 if low < 0 else high / 2
    bar.set_ticks([low, middle, high], labels=[f"{value:.2g}" for value in (low, middle, high)])
    bar.ax.tick_params(labelsize="x-small", length=2)
    bar.set_label(label, fontsize="x-small")
