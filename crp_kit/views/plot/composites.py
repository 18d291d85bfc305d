"""Comparison of composites: a line for each, a panel for each measure."""

from __future__ import annotations

from collections.abc import Callable
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

    What no composite has a value of, such as localisation without masks, has no panel.

    Parameters
    ----------
    table : CompositeTable
    width : float, optional
        In inches.
    """
    drawn = [(title, draw) for title, values, draw in _PANELS if np.isfinite(getattr(table, values)).any()]
    figure = Sheet(figsize=(width * len(drawn) / len(_PANELS), 1.5 + _LINE * len(table)), layout="constrained")
    panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for ax, (title, draw) in zip(panels, drawn, strict=True):
        draw(ax, table)
        _style(ax, title)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(fontsize="x-small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    names = [literal(shortened(str(name), _LETTERS)) for name in table.composite]
    panels[0].set_yticks(np.arange(len(table)), names, fontsize="small")
    panels[0].set_ylim(len(table) - 0.5, -0.5)
    return figure


def _flipped(ax: Axes, table: CompositeTable) -> None:
    at = np.arange(len(table))
    ax.hlines(at, table.better_low, table.better_high, color=OUTLINE, linewidth=1.2, label="interval")
    _dots(ax, table.better, _BLUE, "")
    ax.axvline(0, color=OUTLINE, linewidth=0.6)


def _located(ax: Axes, table: CompositeTable) -> None:
    _dots(ax, table.mass, _BLUE, "mass")
    _dots(ax, table.pointing, _ORANGE, "pointing", marker="s")
    ax.plot(table.mask_share, np.arange(len(table)), color=OUTLINE, linestyle="--", linewidth=1, label="chance")
    ax.set_xlim(-0.03, 1.03)


def _randomised(ax: Axes, table: CompositeTable) -> None:
    _dots(ax, table.randomised, _BLUE, "no weights")
    if np.isfinite(table.other_class).any():
        _dots(ax, table.other_class, _ORANGE, "other class", marker="s")
    ax.axvline(0, color=OUTLINE, linewidth=0.6)
    ax.set_xlim(-1.05, 1.05)


def _reached(ax: Axes, table: CompositeTable) -> None:
    _from_zero(ax, 100 * table.reached)


def _seconds(ax: Axes, table: CompositeTable) -> None:
    _from_zero(ax, 1000 * table.seconds)


_PANELS: tuple[tuple[str, str, Callable[[Axes, CompositeTable], None]], ...] = (
    ("flipping: area\nbeyond random", "better", _flipped),
    ("localisation", "mass", _located),
    ("rank correlation\nof shares with", "randomised", _randomised),
    ("reaches the\ninput, %", "reached", _reached),
    ("milliseconds\na heatmap", "seconds", _seconds),
)
"""Title, the column without whose values there is no panel, and what draws it."""


def _from_zero(ax: Axes, values: npt.NDArray[np.float64]) -> None:
    _dots(ax, values, _BLUE, "")
    ax.set_xlim(left=0, right=1.08 * max(ax.get_xlim()[1], 1e-9))


def _dots(ax: Axes, values: npt.NDArray[np.float64], colour: str, label: str, *, marker: str = "o") -> None:
    ax.plot(values, np.arange(len(values)), color=colour, marker=marker, markersize=5, linestyle="", label=label)


def _style(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize="small")
    ax.tick_params(labelsize="x-small", length=2)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
