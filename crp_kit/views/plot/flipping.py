"""Concept flipping: the change of the output over the share of concepts, with the band of random orders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .panels import OUTLINE, figure_of
from .sheet import Sheet

if TYPE_CHECKING:
    from ...evaluation.curves import AreaTable, FlippingCurves

__all__ = ["flipping_curves"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind people can tell apart."""
_DASHES = ("-", "--", "-.", ":")
_RANDOM = "random"


def flipping_curves(curves: FlippingCurves, *, ax: Axes | None = None, width: float = 5.0) -> Figure:
    """Return a figure of the curves of all orders: the mean over the samples, and its interval.

    Parameters
    ----------
    curves : FlippingCurves
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    width : float, optional
        Of a new figure, in inches.
    """
    if ax is None:
        figure = Sheet(figsize=(width, 0.78 * width), layout="constrained")
        ax = figure.add_subplot()
    share, table, summary = 100 * curves.k / curves.k[-1], curves.table, curves.summary
    band = curves.random_band()
    if band is not None:
        ax.fill_between(share, *band, color="#999999", alpha=0.35, linewidth=0, label="95 % of random orders")
    names = [name for name in curves.changes if name != _RANDOM]
    for number, name in enumerate(names):
        rows = table.order == name
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        ax.plot(share, table.mean[rows], color=colour, linestyle=dash, label=_label(summary, name))
        ax.fill_between(share, table.low[rows], table.high[rows], color=colour, alpha=0.15, linewidth=0)
    ax.axhline(0, color=OUTLINE, linewidth=0.6)
    ax.set(xlim=(0, 100), xlabel=f"{_verb(curves)} concepts of {curves.layer}, %")
    ax.set_ylabel(f"change of the {curves.settings['output']}")
    ax.legend(fontsize="small", frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure_of(ax)


def _verb(curves: FlippingCurves) -> str:
    return "restored" if curves.settings["mode"] == "insertion" else "flipped"


def _label(summary: AreaTable, name: str) -> str:
    """Return the name of an order with its area and the interval of that."""
    row = next(row for row in summary.rows() if row["order"] == name)
    reach = (row["high"] - row["low"]) / 2
    area = f"{row['aoc']:.3g}" + (f" ± {reach:.2g}" if math.isfinite(reach) else "")
    return f"{name.replace('_', ' ')}: area {area}"
