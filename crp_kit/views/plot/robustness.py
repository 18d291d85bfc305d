"""Randomisation and sensitivity: how alike shares of relevance stay, over modules without weights and over noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .labels import interval_words, literal, shortened
from .panels import OUTLINE
from .sheet import Sheet

if TYPE_CHECKING:
    from ...evaluation.robustness_tables import Randomisation, Sensitivity

__all__ = ["randomisation", "sensitivity"]

_BLUE, _ORANGE = "#0072b2", "#d55e00"
_LETTERS = 24


def randomisation(result: Randomisation, *, width: float = 5.0) -> Figure:
    """Return a figure of the rank correlation over the modules that have lost their weights, the output's first.

    Parameters
    ----------
    result : Randomisation
    width : float, optional
        In inches.
    """
    figure = Sheet(figsize=(width, 0.8 * width), layout="constrained")
    ax = figure.add_subplot()
    table, first = result.table, 0 if result.other_class is None else 1
    at = np.arange(len(table) - first + 1)
    mean = np.append(1.0, table.correlation[first:])
    ax.plot(at, mean, color=_BLUE, marker="o", markersize=4)
    ax.fill_between(at[1:], table.low[first:], table.high[first:], color=_BLUE, alpha=0.2, linewidth=0)
    if first:
        ax.axhline(table.correlation[0], color=_ORANGE, linestyle="--", label="another class, all weights")
        ax.fill_between(at[[0, -1]], table.low[0], table.high[0], color=_ORANGE, alpha=0.2, linewidth=0)
    _finish(ax, result.confidence)
    names = ["none", *(literal(shortened(str(name), _LETTERS)) for name in table.change[first:])]
    ax.set_xticks(at, names, rotation=40, ha="right", rotation_mode="anchor", fontsize="x-small")
    ax.set_xlabel("weights lost from the output down to")
    ax.set_ylabel("rank correlation of shares")
    return figure


def sensitivity(result: Sensitivity, *, width: float = 5.0) -> Figure:
    """Return a figure of the change of shares of relevance over the noise.

    Parameters
    ----------
    result : Sensitivity
    width : float, optional
        In inches.
    """
    figure = Sheet(figsize=(width, 0.7 * width), layout="constrained")
    ax = figure.add_subplot()
    table = result.table
    for name, colour, label in (
        ("distance", _BLUE, "share that goes to other concepts"),
        ("correlation", _ORANGE, "rank correlation"),
    ):
        mean, low, high = (getattr(table, f"{name}{end}") for end in ("", "_low", "_high"))
        ax.plot(table.noise, mean, color=colour, marker="o", markersize=4, label=label)
        ax.fill_between(table.noise, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set_xlabel("noise, standard deviations of the input")
    ax.set_ylabel(f"shares at {literal(shortened(result.layer, _LETTERS))}")
    _finish(ax, result.confidence)
    return figure


def _finish(ax: Axes, confidence: float) -> None:
    ax.fill_between([], [], color=OUTLINE, alpha=0.2, linewidth=0, label=interval_words(confidence))
    ax.legend(fontsize="small", frameon=False)
    ax.axhline(0, color=OUTLINE, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
