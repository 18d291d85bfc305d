"""Contrast of two groups of samples: the means of the first concepts, and their difference with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...checks import check_integer
from ...errors import InputError
from .labels import literal, shortened
from .panels import OUTLINE
from .sheet import Sheet

if TYPE_CHECKING:
    from ...atlas.questions.contrast_table import ContrastTable

__all__ = ["contrast"]

_COLOURS = "#0072b2", "#d55e00"
"""Of the groups: Okabe and Ito's blue and vermilion, which colour-blind people can tell apart."""
_LINE = 0.19
"""Height of a concept in inches."""
_SIGNIFICANT = 0.05
_LETTERS_PER_INCH = 15


def contrast(table: ContrastTable, k: int = 12, *, confidence: float = 0.95, width: float = 7.0) -> Figure:
    """Return a figure of the first rows of a `ContrastTable`: both means, and the difference with its interval.

    The dot of a difference is filled where its q-value is below 0.05.

    Parameters
    ----------
    table : ContrastTable
    k : int, optional
        Rows at most.
    confidence : float, optional
        Of the intervals, between 0 and 1.
    width : float, optional
        Of the figure, in inches.

    Raises
    ------
    InputError
        If the table has no row, `k` is not at least 1, or `confidence` not between 0 and 1.
    """
    check_integer("k", k, low=1)
    if not len(table):
        raise InputError(f"there is nothing to draw: {table.caption}")
    rows = table.taken(slice(k))
    figure = Sheet(figsize=(width, 1.3 + _LINE * len(rows)), layout="constrained")
    means, differences = figure.subplots(1, 2, sharey=True)
    _draw_means(means, rows)
    _draw_differences(differences, rows, confidence)
    for ax in (means, differences):
        _style(ax)
    means.set_yticks(range(len(rows)), [str(concept) for concept in rows.concept])
    means.set_ylim(len(rows) - 0.4, -0.6)
    means.set_ylabel("concept", fontsize="x-small")
    differences.tick_params(axis="y", length=0)
    letters = round(width * _LETTERS_PER_INCH)
    words = [f"{group} (n = {count[0]})" for group, count in zip(table.groups, (rows.n_a, rows.n_b), strict=True)]
    figure.legend(
        handles=[_key(colour, "os"[number]) for number, colour in enumerate(_COLOURS)],
        labels=[literal(shortened(line, letters)) for line in words],
        loc="outside upper left", fontsize="x-small", frameon=False, handletextpad=0.2, borderpad=0,
    )  # fmt: skip
    return figure


def _key(colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markersize=4.5, linestyle="")


def _draw_means(ax: Axes, rows: ContrastTable) -> None:
    lines = np.arange(len(rows))
    ax.hlines(lines, rows.mean_a, rows.mean_b, color="#999999", linewidth=1)
    ax.scatter(rows.mean_b, lines, s=22, marker="s", color=_COLOURS[1], zorder=3)
    ax.scatter(rows.mean_a, lines, s=24, marker="o", color=_COLOURS[0], zorder=3)
    ax.set_xlabel(f"mean {rows.scores.mode}", fontsize="x-small")


def _draw_differences(ax: Axes, rows: ContrastTable, confidence: float) -> None:
    lines = np.arange(len(rows))
    low, high = rows.interval(confidence)
    clear = rows.q < _SIGNIFICANT
    ax.axvline(0, color="#999999", linewidth=0.8)
    ax.hlines(lines, low, high, color=OUTLINE, linewidth=1.4)
    for chosen, face in ((clear, OUTLINE), (~clear, "white")):
        ax.scatter(rows.difference[chosen], lines[chosen], s=14, facecolor=face, edgecolor=OUTLINE, zorder=3)
    ax.set_xlabel(f"difference, {100 * confidence:g} % interval\n(filled: q < {_SIGNIFICANT})", fontsize="x-small")


def _style(ax: Axes) -> None:
    ax.tick_params(labelsize="x-small", length=2)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.get_offset_text().set_fontsize("x-small")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
