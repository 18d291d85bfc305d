"""Conservation: the relevance that remains on its way through a model, and what absorbed the rest."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...errors import InputError
from .panels import OUTLINE, figure_of
from .sheet import Sheet

if TYPE_CHECKING:
    from ...attribution.conservation import Conservation

__all__ = ["conservation"]

_LINES = {
    "constants": ("biases and constants", "#0072b2", "-"),
    "stabilizer": ("stabilizers", "#e69f00", "--"),
    "masked": ("masks", "#009e73", "-."),
    "excluded": ("paths that do not count", "#cc79a7", ":"),
    "other": ("rules that do not conserve", "#d55e00", (0, (3, 1, 1, 1))),
}
"""Text, colour (Okabe and Ito's, which colour-blind people can tell apart) and dashes of each line."""
_VISIBLE = 0.001
"""Lines that stay below this share of the start are left out."""
_TICKS = 24
"""Nodes that are named below the axis, at most."""


def conservation(row: Conservation, *, ax: Axes | None = None) -> Figure:
    """Return a figure of one row of a `ConservationReport`: shares of the start over the depth of the graph.

    Parameters
    ----------
    row : Conservation
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Raises
    ------
    InputError
        If the row has no relevance at its start, so that there are no shares.
    """
    if not math.isfinite(row.start) or row.start == 0:
        raise InputError(f"{row.title}: relevance at the start is {row.start}, so it has no shares to draw")
    depths = range(len(row.nodes))
    if ax is None:
        figure = Sheet(figsize=(8.5, 4.2), layout="constrained")
        ax = figure.add_subplot()
    ax.axhline(1, color="#bbbbbb", linewidth=0.8)
    ax.axhline(0, color="#bbbbbb", linewidth=0.8)
    ax.plot(depths, [row.share(node.remaining) for node in row.nodes], color=OUTLINE, linewidth=2.2, label="remains")
    for sink, (text, colour, dashes) in _LINES.items():
        lost = list(accumulate(row.share(getattr(node, sink)) for node in row.nodes))
        if not max(map(abs, lost)) < _VISIBLE:
            ax.plot(depths, lost, color=colour, linestyle=dashes, label=f"{text}, so far")
    if (broken := row.first_non_finite) is not None:
        ax.axvline(row.nodes.index(broken), color="#d55e00", linewidth=1, label="not finite from here on")
    every = max(1, math.ceil(len(row.nodes) / _TICKS))
    ax.set_xticks(depths[::every], [node.name for node in row.nodes[::every]], rotation=60, ha="right", fontsize=7)
    ax.set_xlim(0, max(1, len(row.nodes) - 1))
    ax.set_ylabel("share of the relevance at the start")
    ax.set_xlabel("from the start to the input")
    ax.set_title(row.title, fontsize=10)
    ax.legend(fontsize=8, frameon=False)
    return figure_of(ax)
