"""Signals over time: curves in the colours of their relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ...data.pixels import finite
from ...errors import InputError
from ..image import DEFAULT_CMAP, colours, scale_of
from ..look import Look
from .colour_bars import colour_bar
from .labels import one_line
from .narrow import with_bar_in_width
from .panels import OUTLINE, ColourMap, check_count, per_row, sized_panel_axes, write_scale

__all__ = ["draw_curves", "draw_signal", "signals"]

Floats = npt.NDArray[np.float64]

_WIDTHS = (6.4, 4.4, 3.4)
"""Width of a panel in inches, by the number of columns."""
_HEIGHT, _CHANNEL = 1.0, 0.2
"""Height of a panel, and of each channel after the first, in inches."""
_CHANNELS = 16
"""Channels of a signal that are drawn."""
_HALO = 5.0
"""Width in points of the coloured band along a curve."""


def signals(
    maps: Any,
    *,
    values: Any = None,
    titles: Sequence[str] | None = None,
    times: Any = None,
    time_label: str | None = None,
    value_label: str = "signal",
    columns: int | None = None,
    shared_scale: bool = False,
    cmap: ColourMap = DEFAULT_CMAP,
    width: float | None = None,
    axes: Sequence[Axes] | npt.NDArray[Any] | None = None,
) -> Figure:
    """Return a figure of the relevance of signals, a panel for each row.

    With the signals at hand, a signal of one channel is a curve that is wrapped in the colour of its relevance;
    relevance of a signal of several channels, which is one number for each time step, colours the ground behind its
    channels. Without them, the curve is the relevance itself. Positive relevance is red, negative blue, zero white.

    Parameters
    ----------
    maps : torch.Tensor or array
        Signed relevance, (row, time); (time,) is one row.
    values : torch.Tensor or array, optional
        The signals themselves: (row, channel, time), (row, time), or one for all rows; or one for each run of equally
        many rows.
    titles : sequence of str, optional
        One for each row.
    times : torch.Tensor or array, optional
        When each value was taken, rising: (time,). By default the number of the time step.
    time_label, value_label : str, optional
        Labels of the axes; with their units where they are known, such as ``"time (s)"`` and ``"voltage (mV)"``.
    columns : int, optional
        Panels in a line; by default 1, 2 from 7 rows on, and 3 from 25 on.
    shared_scale, cmap, axes
        As for `crp_kit.views.plot.heatmaps`.
    width : float, optional
        Of a new figure, in inches, such as 3.4 for the column of a paper. By default what the panels need.

    Raises
    ------
    InputError
        If `maps` is not (row, time) or has values that are not finite, or signals, times, titles or axes do not fit.

    Examples
    --------
    >>> import torch
    >>> figure = signals(torch.randn(2, 50), values=torch.randn(1, 50), titles=["a", "b"], time_label="time (s)")
    >>> [panel.get_title(loc="left") for panel in figure.axes[:2]], figure.axes[1].get_xlabel()
    (['a', 'b'], 'time (s)')
    """
    rows = _rows(maps)
    check_count("titles", titles, len(rows), "rows")
    curves = per_row(None if values is None else _curves(values, rows.shape[1]), len(rows), "signals")
    steps = _times(times, rows.shape[1])
    usual = 1 if len(rows) <= 6 else 2 if len(rows) <= 24 else 3
    across = usual if columns is None else columns
    channels = max((min(len(curve), _CHANNELS) for curve in curves if curve is not None), default=1)
    usual_width = _WIDTHS[max(min(across, len(_WIDTHS)), 1) - 1]
    height = _HEIGHT + _CHANNEL * (channels - 1)
    figure, panels = sized_panel_axes(len(rows), across, axes, size=(usual_width, height))
    common = scale_of(rows) if shared_scale or len(rows) == 1 else None
    for number, (ax, row, curve) in enumerate(zip(panels, rows, curves, strict=False)):
        draw_signal(ax, row, curve, times=steps, vmax=common, cmap=cmap)
        ax.set_title(one_line(titles[number]) if titles else "", loc="left", fontsize="small")
        if common is None:
            write_scale(ax, row)
        elif curve is None:
            ax.set_ylim(-1.1 * common, 1.1 * common)
        if number + across >= len(rows) or axes is not None:
            ax.set_xlabel(time_label or ("time step" if times is None else "time"), fontsize="x-small")
        if curve is not None and len(curve) == 1:
            ax.set_ylabel(value_label, fontsize="x-small")
    for unused in panels[len(rows) :]:
        unused.set_axis_off()
    if width is not None and axes is None:
        with_bar_in_width(figure, width)
    colour_bar(figure, panels, common=common, look=Look("map", 100, cmap), side="above")
    return figure


def draw_signal(
    ax: Axes,
    row: Floats,
    curve: Floats | None,
    *,
    times: Floats | None = None,
    vmax: float | None = None,
    cmap: ColourMap = DEFAULT_CMAP,
) -> None:
    """Draw the relevance of one signal, (time,), along its curve or behind its channels, (channel, time)."""
    steps = np.arange(len(row), dtype=np.float64) if times is None else times
    edges = _edges(steps)
    paint = colours(row, cmap=cmap, vmax=vmax) / 255
    if curve is not None and len(curve) > 1:
        _draw_channels(ax, curve, steps)
        low, high = ax.get_ylim()
        ax.pcolormesh(edges, [low, high], paint[None], rasterized=True, zorder=0)
        ax.set_ylim(low, high)
    else:
        line = row if curve is None else curve[0]
        order = np.argsort(np.abs(row), kind="stable")
        ax.add_collection(_halo(line, steps, edges, order=order, paint=paint[order]))
        ax.plot(steps, line, color=OUTLINE, linewidth=0.7, zorder=3, marker="." if len(row) == 1 else "")
        if curve is None:
            ax.axhline(0, color=OUTLINE, linewidth=0.4, zorder=2.5)
            ax.set_ylabel("relevance", fontsize="x-small")
        ax.margins(y=0.18)
    ax.set_xlim(edges[0], edges[-1])
    ax.tick_params(labelsize="x-small", length=2)
    ax.yaxis.get_offset_text().set_fontsize("x-small")
    ax.spines[["top", "right"]].set_visible(False)


def draw_curves(ax: Axes, curve: Floats) -> None:
    """Draw a signal, (channel, time), without relevance, on any ground: its curve, or its channels one by one."""
    steps = np.arange(curve.shape[1], dtype=np.float64)
    if len(curve) > 1:
        _draw_channels(ax, curve, steps)
    else:
        ax.plot(steps, curve[0], color=OUTLINE, linewidth=0.8, zorder=3)
        ax.set_ylabel("signal", fontsize="x-small")
    for line in ax.lines:
        line.set_path_effects([withStroke(linewidth=2.4, foreground="white", alpha=0.8)])
    ax.set_xlim(-0.5, len(steps) - 0.5)
    ax.tick_params(labelsize="x-small", length=2)
    ax.spines[["top", "right"]].set_visible(False)


def _halo(line: Floats, steps: Floats, edges: Floats, *, order: Any, paint: Floats) -> LineCollection:
    """Return the coloured band along a curve, the strongest steps last, so that weak ones do not cover them."""
    between = np.concatenate([line[:1], (line[1:] + line[:-1]) / 2, line[-1:]])
    x = np.stack([edges[:-1], steps, edges[1:]], 1)
    y = np.stack([between[:-1], line, between[1:]], 1)
    corners = list(np.stack([x, y], 2)[order])
    return LineCollection(corners, colors=paint, linewidths=_HALO, capstyle="round", joinstyle="round", zorder=2)


def _draw_channels(ax: Axes, curve: Floats, steps: Floats) -> None:
    """Draw channels one above the other, the first on top, each on its own scale."""
    shown = curve[:_CHANNELS]
    low, high = shown.min(1, keepdims=True), shown.max(1, keepdims=True)
    level = np.where(high > low, (shown - low) / np.where(high > low, high - low, 1), 0.5)
    for number, channel in enumerate(level):
        ax.plot(steps, 0.8 * channel + 0.1 + len(shown) - 1 - number, color=OUTLINE, linewidth=0.7)
    ax.set_yticks([len(shown) - 0.5 - number for number in range(len(shown))], list(map(str, range(len(shown)))))
    ax.set_ylim(0, len(shown))
    more = f"the first {len(shown)} of {len(curve)}" if len(curve) > len(shown) else "each on its own scale"
    ax.set_ylabel(f"channel\n({more})", fontsize="x-small")


def _edges(steps: Floats) -> Floats:
    """Return the borders between time steps, and the outer ones: (time + 1,)."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _rows(maps: Any) -> Floats:
    """Return relevance as (row, time)."""
    array = finite(maps)
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"relevance of signals is (row, time) with at least one value; got shape {array.shape}")
    return rows


def _curves(values: Any, steps: int) -> list[Floats]:
    """Return signals as (channel, time) each."""
    array = finite(values)
    if array.ndim not in (1, 2, 3) or array.shape[-1] != steps or not array.size:
        raise InputError(
            f"signals are (row, channel, time) or (row, time), here with {steps} time steps; got shape {array.shape}"
        )
    return list(array.reshape(-1, array.shape[-2] if array.ndim == 3 else 1, steps))


def _times(times: Any, steps: int) -> Floats:
    """Return the times of the values: (time,)."""
    if times is None:
        return np.arange(steps, dtype=np.float64)
    array = finite(times)
    if array.shape != (steps,) or bool((np.diff(array) <= 0).any()):
        raise InputError(f"times are {steps} rising numbers, one for each time step; got shape {array.shape}")
    return array
