"""Concept flipping: the change of the output over the share of concepts, with the band of random orders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...errors import InputError
from .labels import interval_words, literal, shortened
from .panels import OUTLINE, figure_of
from .sheet import Sheet

if TYPE_CHECKING:
    from ...evaluation.curves import AreaTable, FlippingCurves

__all__ = ["flipping_curves"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind people can tell apart."""
_DASHES = ("-", "--", "-.", ":")
_RANDOM = "random"
_LETTERS = 40
_INSIDE = 5
"""With more lines the legend is below the axes."""


def flipping_curves(
    curves: FlippingCurves | Sequence[FlippingCurves], *, ax: Axes | None = None, width: float = 5.0
) -> Figure:
    """Return a figure of the curves of all orders: the mean over the samples, and its interval.

    Parameters
    ----------
    curves : FlippingCurves, or sequence of them
        Several results have a panel for each layer; those of one layer, such as under several composites, share it. An
        order that is the same in two of them, such as that by activation, is drawn once.
    ax : matplotlib.axes.Axes, optional
        Where to draw results of one layer; by default in a new figure.
    width : float, optional
        Of a panel of a new figure, in inches.

    Raises
    ------
    InputError
        If there is no result, results of several layers are to share `ax`, or their modes or outputs differ.
    """
    results = list(curves) if isinstance(curves, Sequence) else [curves]
    if not results:
        raise InputError("there is no result to draw; give at least one")
    for name in ("mode", "output"):
        if len({result.settings[name] for result in results}) > 1:
            raise InputError(f"results of several {name}s have no common axis: draw them apart")
    layers = list(dict.fromkeys(result.layer for result in results))
    if ax is not None and len(layers) > 1:
        raise InputError(f"results of {len(layers)} layers need as many axes: draw them without ax")
    panels = [ax] if ax is not None else _new_axes(len(layers), width)
    for panel, layer in zip(panels, layers, strict=True):
        _draw_layer(panel, [result for result in results if result.layer == layer])
    panels[0].set_ylabel(f"change of the {results[0].settings['output']}")
    return figure_of(panels[0])


def _new_axes(panels: int, width: float) -> list[Axes]:
    figure = Sheet(figsize=(width * panels, 0.78 * width), layout="constrained")
    return list(figure.subplots(1, panels, squeeze=False, sharey=True).ravel())


def _draw_layer(ax: Axes, results: Sequence[FlippingCurves]) -> None:
    """Draw results of one layer, with the random orders of the first that has them."""
    bands = [(result, band) for result in results if (band := result.random_band()) is not None]
    for result, band in bands[:1]:
        ax.fill_between(_share(result), *band, color="#999999", alpha=0.35, linewidth=0, label="95 % of random orders")
    for number, (name, owners) in enumerate(_distinct(results)):
        table, summary = owners[0].table, owners[0].summary
        rows, share = table.order == name, _share(owners[0])
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        rules = "" if len(owners) == len(results) else ", ".join(owner.settings["composite"] for owner in owners)
        ax.plot(share, table.mean[rows], color=colour, linestyle=dash, label=_label(summary, name, rules))
        ax.fill_between(share, table.low[rows], table.high[rows], color=colour, alpha=0.15, linewidth=0)
    ax.axhline(0, color=OUTLINE, linewidth=0.6)
    ax.set(xlim=(0, 100), xlabel=literal(f"{_verb(results[0])} concepts of {shortened(results[0].layer, _LETTERS)}, %"))
    label = f"around a line: {interval_words(results[0].confidence)}"
    ax.fill_between([], [], color=OUTLINE, alpha=0.15, linewidth=0, label=label)
    if len(ax.get_lines()) > _INSIDE:
        ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2))
    else:
        ax.legend(fontsize="small", frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _distinct(results: Sequence[FlippingCurves]) -> list[tuple[str, list[FlippingCurves]]]:
    """Return the orders that are not random, each with the results in which it is the same."""
    drawn: list[tuple[str, list[FlippingCurves]]] = []
    for result in results:
        for name in result.changes:
            same = next((owners for known, owners in drawn if known == name and _same(result, owners[0], name)), None)
            if same is not None:
                same.append(result)
            elif name != _RANDOM:
                drawn.append((name, [result]))
    return drawn


def _same(first: FlippingCurves, second: FlippingCurves, name: str) -> bool:
    one, other = first.changes.get(name), second.changes.get(name)
    return one is not None and other is not None and one.shape == other.shape and bool(np.allclose(one, other))


def _share(curves: FlippingCurves) -> npt.NDArray[np.float64]:
    return np.asarray(100 * curves.k / curves.k[-1])


def _verb(curves: FlippingCurves) -> str:
    return "restored" if curves.settings["mode"] == "insertion" else "flipped"


def _label(summary: AreaTable, name: str, rules: str) -> str:
    """Return the name of an order with its area and the interval of that."""
    row = next(row for row in summary.rows() if row["order"] == name)
    reach = (row["high"] - row["low"]) / 2
    area = f"{row['aoc']:.3g}" + (f" ± {reach:.2g}" if math.isfinite(reach) else "")
    of_rules = f" ({shortened(rules, _LETTERS)})" if rules else ""
    return literal(f"{name.replace('_', ' ')}{of_rules}: area {area}")
