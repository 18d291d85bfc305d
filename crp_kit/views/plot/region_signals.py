"""Figure of the region map of a signal: stretches of time in the colours of their concepts, behind its channels."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from ...data.pixels import finite
from ...errors import InputError
from .region_page import COLOURS, OTHERS, Page, draw_legend, legend_entries, opacity_of
from .region_view import RegionView
from .sheet import Sheet
from .signals import draw_curves

__all__ = ["signal_figure"]

_LIGHT = 0.65
"""Opacity of the strongest colour, on which a curve can still be seen."""


def signal_figure(view: RegionView, most: int) -> Figure:
    """Return the figure of a signal: its channels on the stretches of time in the colours of their concepts."""
    curve = np.atleast_2d(finite(view.image))
    if curve.shape[1] != len(view.labels):
        raise InputError(f"the signal has {curve.shape[1]} time steps and the region map {len(view.labels)}")
    entries = legend_entries(view, most)
    page = Page(entries, 1.7 + 0.2 * min(len(curve) - 1, 15), panel_width=6.4)
    figure = Sheet(figsize=page.size)
    page.write_title(figure, view.title)
    ax = page.panel(figure, 0)
    draw_curves(ax, curve)
    _draw_stretches(ax, view, most)
    draw_legend(page.legend(figure), entries, page.row)
    return figure


def _draw_stretches(ax: Axes, view: RegionView, most: int) -> None:
    """Draw the stretches of a signal behind it, and the numbers of their concepts above."""
    palette = dict(zip(list(view.concepts)[:most], COLOURS, strict=False))
    opacity, owner = _LIGHT * opacity_of(view), view.dominant[view.labels]
    starts = np.flatnonzero(np.diff(view.labels, prepend=-1))
    for first, end in zip(starts, [*starts[1:], len(owner)], strict=True):
        region, concept = view.labels[first], int(owner[first])
        paint = to_rgba(palette.get(concept, OTHERS), float(opacity[region])) if concept >= 0 else "none"
        hatch = "//" if view.relevance[region] < 0 else None
        ax.axvspan(
            first - 0.5, end - 0.5, facecolor=paint, edgecolor=(0, 0, 0, 0.3), hatch=hatch, linewidth=0, zorder=0
        )
        ax.axvline(first - 0.5, color="white", linewidth=0.8, zorder=0.5)
    changes = np.flatnonzero(np.diff(owner, prepend=-2))
    for first, end in zip(changes, [*changes[1:], len(owner)], strict=True):
        if int(owner[first]) in palette and end - first >= 0.02 * len(owner):
            ax.annotate(
                str(int(owner[first])), ((first + end - 1) / 2, 1), xycoords=("data", "axes fraction"), ha="center",
                xytext=(0, 2), textcoords="offset points", fontsize=7.5, weight="bold",
            )  # fmt: skip
    note = "paler: less relevance per step" + "; hatched: against the class" * bool((view.relevance < 0).any())
    ax.set_xlabel(f"time step ({note})", fontsize="x-small")
