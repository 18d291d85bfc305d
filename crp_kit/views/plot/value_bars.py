"""Horizontal bars of named values, with intervals and a reference value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...errors import InputError
from ..image import DEFAULT_CMAP, colours
from .labels import one_line, row_distance, row_names, wrapped_titles
from .panels import OUTLINE, ColourMap, check_count, sized_panel_axes

__all__ = ["value_bars"]

_BAR = 0.2
"""Height of a bar in inches."""
_WIDTH, _WITHOUT_NAMES = 4.2, 2.6
"""Width of a figure, and of its bars beside long names, in inches."""
_LETTERS, _LETTERS_PER_INCH = 60, 14
"""Of a line of names."""
_LINE = 0.15
"""Height of one more line of the title, in inches."""


def value_bars(
    values: Any,
    *,
    names: Sequence[str],
    label: str,
    interval: tuple[Any, Any] | None = None,
    reference: tuple[float, str] | None = None,
    title: str = "",
    cmap: ColourMap = DEFAULT_CMAP,
    axes: Axes | None = None,
) -> Figure:
    """Return a figure of named values as horizontal bars, in their order from the top.

    Parameters
    ----------
    values : array
        (bar,); NaN has no bar.
    names : sequence of str
        One for each bar.
    label : str
        What the values are.
    interval : (array, array), optional
        Low and high end for each bar; NaN for none.
    reference : (float, str), optional
        A value to compare with, drawn as a line, and what it is.
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    axes : matplotlib Axes, optional
        Where to draw; its figure is returned. A new figure by default.

    Raises
    ------
    InputError
        If there is no bar, or the number of names does not fit.

    Examples
    --------
    >>> figure = value_bars([0.5, -0.2], names=["7", "3"], label="similarity")
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['7', '3']
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError(f"bars need at least one value each, (bar,); got shape {array.shape}")
    check_count("names", names, len(array), "bars")
    shown = row_names(names, _LETTERS)
    beside = max(len(line) for name in shown for line in name.split("\n")) / _LETTERS_PER_INCH
    (above,) = wrapped_titles([title], _WIDTH) or [""] if axes is None else [one_line(title)]
    size = (
        max(_WIDTH, _WITHOUT_NAMES + beside),
        max(max(_BAR, row_distance(shown)) * len(array), 0.6) + 0.3 + _LINE * above.count("\n"),
    )
    figure, (ax,) = sized_panel_axes(1, 1, None if axes is None else [axes], size=size)
    heights = np.arange(len(array))
    signs = colours(np.sign(np.nan_to_num(array)) * 0.75, cmap=cmap, vmax=1) / 255
    ax.barh(heights, array, color=[tuple(colour) for colour in signs], height=0.72)
    if interval is not None:
        low, high = (np.asarray(end, np.float64) for end in interval)
        known = np.isfinite(low) & np.isfinite(high)
        ax.hlines(heights[known], low[known], high[known], color=OUTLINE, linewidth=1.0, label="interval")
    if reference is not None:
        ax.axvline(reference[0], color=OUTLINE, linewidth=0.9, linestyle="--", label=reference[1])
    if interval is not None or reference is not None:
        ax.legend(fontsize="x-small", frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    ax.axvline(0, color=OUTLINE, linewidth=0.8)
    ax.set_yticks(heights, shown, fontsize="x-small")
    ax.set_ylim(len(array) - 0.5, -0.5)
    ax.tick_params(axis="x", labelsize="x-small")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=np.asarray(values).dtype.kind in "iu"))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel(label, fontsize="x-small")
    ax.set_title(above, fontsize="small", loc="left")
    return figure
