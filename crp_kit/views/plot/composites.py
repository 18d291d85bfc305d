"""Comparison of composites: a line for each, a panel for each measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .labels import literal, shortened
from .panels import OUTLINE
from .sheet import Sheet

if TYPE_CHECKING:
    from ...evaluation.composite_table import CompositeTable

__all__ = ["composites"]

_BLUE, _ORANGE = "#0072b2", "#d55e00"
_LETTERS = 30
_LINE = 0.26
"""Height of a composite in inches."""


def composites(table: CompositeTable, *, width: float = 10.0) -> Figure:
    """Return a figure of composites: flipping, localisation, randomisation, the share that reaches the input, time.

    Parameters
    ----------
    table : CompositeTable
    width : float, optional
        In inches.
    """
    figure = Sheet(figsize=(width, 1.5 + _LINE * len(table)), layout="constrained")
    flipped, located, randomised, reached, seconds = figure.subplots(1, 5, sharey=True)
    at = np.arange(len(table))
    flipped.hlines(at, table.better_low, table.better_high, color=OUTLINE, linewidth=1.2)
    _dots(flipped, table.better, _BLUE, "")
    flipped.axvline(0, color=OUTLINE, linewidth=0.6)
    _dots(located, table.mass, _BLUE, "mass")
    _dots(located, table.pointing, _ORANGE, "pointing", marker="s")
    located.plot(table.mask_share, at, color=OUTLINE, linestyle="--", linewidth=1, label="chance")
    _dots(randomised, table.randomised, _BLUE, "no weights")
    if np.isfinite(table.other_class).any():
        _dots(randomised, table.other_class, _ORANGE, "other class", marker="s")
    randomised.axvline(0, color=OUTLINE, linewidth=0.6)
    _dots(reached, 100 * table.reached, _BLUE, "")
    _dots(seconds, 1000 * table.seconds, _BLUE, "")
    titles = (
        "flipping: area\nbeyond random", "localisation", "rank correlation\nof shares with",
        "reaches the\ninput, %", "milliseconds\na heatmap",
    )  # fmt: skip
    for ax, title in zip((flipped, located, randomised, reached, seconds), titles, strict=True):
        _style(ax, title)
    for ax in (located, randomised):
        ax.legend(fontsize="x-small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    located.set_xlim(-0.03, 1.03)
    randomised.set_xlim(-1.05, 1.05)
    for ax in (reached, seconds):
        ax.set_xlim(left=0, right=1.08 * max(ax.get_xlim()[1], 1e-9))
    flipped.set_yticks(at, [literal(shortened(str(name), _LETTERS)) for name in table.composite], fontsize="small")
    flipped.set_ylim(len(table) - 0.5, -0.5)
    return figure


def _dots(ax: Axes, values: npt.NDArray[np.float64], colour: str, label: str, *, marker: str = "o") -> None:
    ax.plot(values, np.arange(len(values)), color=colour, marker=marker, markersize=5, linestyle="", label=label)


def _style(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize="small")
    ax.tick_params(labelsize="x-small", length=2)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
